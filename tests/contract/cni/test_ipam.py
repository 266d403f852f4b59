"""S50 to S52: an IPAM plugin behind the plugin under test."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.contract.cni.place import Outcome
from tests.contract.cni.runtime import Runtime, Sandbox

# Keeps what it is given, and answers as the files beside it say.
SCRIPT = """#!/bin/sh
cd "$(dirname "$0")"
echo $CNI_COMMAND >> calls
env > environ.$CNI_COMMAND
cat > stdin.$CNI_COMMAND
echo "told on stderr" >&2
if [ -f fail.$CNI_COMMAND ]; then cat fail.$CNI_COMMAND; exit 1; fi
[ $CNI_COMMAND != ADD ] || cat result
"""
# Inside the default range of weave-net, which takes no addresses but its own.
ADDRESS = "10.40.77.9"


@dataclass(frozen=True)
class Recorder:
    """An IPAM plugin that records its calls; lies in a folder of the search path."""

    runtime: Runtime
    folder: Path

    def config(self, **changes: Any) -> dict[str, Any]:
        changes = {**self.runtime.subject.delegating, **changes}
        return self.runtime.config(ipam={"type": "recorder", "x": [1]}, **changes)

    def call(self, command: str, sandbox: Sandbox | None, **changes: Any) -> Outcome:
        path = f"{self.folder}:{self.runtime.subject.path}"
        return self.runtime.call(command, sandbox, self.config(**changes), CNI_PATH=path)

    def fails(self, command: str) -> None:
        error = {"cniVersion": "1.0.0", "code": 11, "msg": "recorder is busy"}
        (self.folder / f"fail.{command}").write_text(json.dumps(error))

    @property
    def calls(self) -> list[str]:
        return (self.folder / "calls").read_text().split()

    def environ(self, command: str) -> dict[str, str]:
        lines = (self.folder / f"environ.{command}").read_text().splitlines()
        return dict(line.split("=", 1) for line in lines)

    def stdin(self, command: str) -> Any:
        return json.loads((self.folder / f"stdin.{command}").read_text())


@pytest.fixture
def recorder(runtime: Runtime, tmp_path: Path) -> Recorder:
    path = tmp_path / "recorder"
    path.write_text(SCRIPT)
    path.chmod(0o755)
    result = {
        "cniVersion": runtime.subject.version,
        "ips": [{"address": f"{ADDRESS}/16", "gateway": "10.40.0.1"}],
        "routes": [{"dst": "0.0.0.0/0"}],
        "dns": {},
    }
    (tmp_path / "result").write_text(json.dumps(result))
    return Recorder(runtime, tmp_path)


def test_s50_it_is_found_by_the_search_path_and_sees_what_we_saw(recorder: Recorder) -> None:
    sandbox = recorder.runtime.sandbox()

    outcome = recorder.call("ADD", sandbox, mtu=1400)

    assert outcome.status == 0, outcome.stdout
    config = recorder.stdin("ADD")
    assert (config["name"], config["mtu"]) == (recorder.runtime.network, 1400)
    assert config["ipam"] == {"type": "recorder", "x": [1]}
    environ = recorder.environ("ADD")
    assert environ["CNI_CONTAINERID"] == sandbox.container_id
    assert (environ["CNI_NETNS"], environ["CNI_IFNAME"]) == (sandbox.netns, "eth0")
    recorder.call("DEL", sandbox)


def test_s50_its_address_is_that_of_the_interface(recorder: Recorder) -> None:
    sandbox = recorder.runtime.sandbox()

    result = recorder.call("ADD", sandbox).body

    assert recorder.runtime.addresses(sandbox) == {ADDRESS}
    assert result["ips"][0]["address"].startswith(f"{ADDRESS}/")
    assert "interface" in result["ips"][0]
    recorder.call("DEL", sandbox)


def test_s50_a_plugin_that_is_nowhere_is_an_error(runtime: Runtime) -> None:
    config = runtime.config(ipam={"type": "nowhere"})

    outcome = runtime.call("ADD", runtime.sandbox(), config)

    assert "nowhere" in outcome.message


def test_s22_when_it_fails_nothing_is_left(recorder: Recorder) -> None:
    recorder.fails("ADD")
    sandbox = recorder.runtime.sandbox()
    links = recorder.runtime.host_links()

    outcome = recorder.call("ADD", sandbox)

    assert outcome.status != 0
    recorder.runtime.assert_no_links_beyond(links)
    assert recorder.runtime.interfaces(sandbox) == {"lo"}


def test_s22_when_it_fails_its_del_is_run(recorder: Recorder) -> None:
    recorder.fails("ADD")

    recorder.call("ADD", recorder.runtime.sandbox())

    assert recorder.calls == ["ADD", "DEL"]


def test_s29_its_del_is_run(recorder: Recorder) -> None:
    sandbox = recorder.runtime.sandbox()
    recorder.call("ADD", sandbox)

    assert recorder.call("DEL", sandbox).status == 0

    assert recorder.calls == ["ADD", "DEL"]


def test_s36_its_check_is_run_and_its_error_passed_on(recorder: Recorder) -> None:
    sandbox = recorder.runtime.sandbox()
    result = recorder.call("ADD", sandbox).body
    assert recorder.call("CHECK", sandbox, prevResult=result).status == 0
    recorder.fails("CHECK")

    outcome = recorder.call("CHECK", sandbox, prevResult=result)

    assert "recorder is busy" in outcome.message
    assert recorder.calls == ["ADD", "CHECK", "CHECK"]
    recorder.call("DEL", sandbox)


@pytest.mark.parametrize("command", ["GC", "STATUS"])
def test_s40_s47_its_gc_and_status_are_run_and_errors_passed_on(
    recorder: Recorder, command: str
) -> None:
    config = {"cniVersion": "1.1.0", "cni.dev/valid-attachments": []}
    assert recorder.call(command, None, **config).status == 0
    recorder.fails(command)

    outcome = recorder.call(command, None, **config)

    assert "recorder is busy" in outcome.message


def test_s52_its_stderr_is_passed_on(recorder: Recorder) -> None:
    sandbox = recorder.runtime.sandbox()

    outcome = recorder.call("ADD", sandbox)

    assert "told on stderr" in outcome.stderr
    recorder.call("DEL", sandbox)


def test_s52_its_error_is_passed_on(recorder: Recorder) -> None:
    recorder.fails("ADD")

    outcome = recorder.call("ADD", recorder.runtime.sandbox())

    assert "recorder is busy" in outcome.message
    assert outcome.code == 11


@pytest.mark.parametrize("name", ["host-local", "static"])
def test_s51_the_reference_ipam_plugins_work_behind_it(runtime: Runtime, name: str) -> None:
    # `static` wants to find length and gateway in the result as it was given them.
    length, gateway = runtime.subject.length, runtime.subject.gateway
    address = {"address": f"10.40.79.9/{length}", "gateway": gateway}
    settings: dict[str, dict[str, Any]] = {
        "host-local": {"ranges": [[{"subnet": "10.40.78.0/24"}]]},
        "static": {"addresses": [address]},
    }
    ipam = {"type": name, **settings[name], "routes": [{"dst": "0.0.0.0/0"}]}
    # The newest version that they know.
    config = {**runtime.subject.delegating, "cniVersion": "1.0.0", "ipam": ipam}
    sandbox = runtime.sandbox()

    result = runtime.add(sandbox, **config)

    (given,) = runtime.addresses(sandbox)
    assert given.startswith(("10.40.78.", "10.40.79.9"))
    assert runtime.check(sandbox, result, **config).status == 0
    assert runtime.delete(sandbox, result, **config).status == 0
    assert runtime.interfaces(sandbox) == {"lo"}
