"""The runtime's part, against plugins that are shell scripts."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from weave_lab import cni
from weave_lab.cni import CniError, Network, PodRecord, Runtime, Sandbox, load_network
from weave_lab.errors import LabError

SANDBOX = Sandbox(pod="a", container_id="c1", netns="/run/netns/a", uid="u1")


def write_conflist(folder: Path, file_name: str = "10-x.conflist", **changes: Any) -> None:
    raw = {
        "name": "weave",
        "cniVersion": "1.0.0",
        "plugins": [{"type": "first", "capabilities": {"portMappings": True}}, {"type": "second"}],
        **changes,
    }
    (folder / file_name).write_text(json.dumps(raw))


class Plugins:
    """A folder of executables; each notes its calls and answers as told."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.calls_path = folder / "calls"

    def write(self, name: str, answer: str = "{}", status: int = 0, fail_on: str = "") -> None:
        (self.folder / f"{name}.answer").write_text(answer)
        script = self.folder / name
        condition = f'[ "$CNI_COMMAND" = "{fail_on}" ] && exit {status}; exit 0'
        script.write_text(
            "#!/bin/sh\n"
            f'echo "{name} $CNI_COMMAND $CNI_CONTAINERID $CNI_IFNAME $(cat)" >> {self.calls_path}\n'
            f"cat {self.folder}/{name}.answer\n"
            + (condition if fail_on else f"exit {status}")
            + "\n"
        )
        script.chmod(0o755)

    @property
    def calls(self) -> list[tuple[str, str, dict[str, Any]]]:
        """Executable, command and input of each call, in order."""
        parsed = []
        for line in self.calls_path.read_text().splitlines():
            name, command, _, _, stdin = line.split(" ", 4)
            parsed.append((name, command, json.loads(stdin)))
        return parsed


@pytest.fixture
def plugins(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Plugins:
    monkeypatch.setattr(cni, "BIN_DIR", str(tmp_path))
    return Plugins(tmp_path)


@pytest.fixture
def runtime() -> Runtime:
    return Runtime(enter=[], base_environment={"PATH": "/usr/bin:/bin"})


NETWORK = Network("weave", "1.0.0", ({"type": "first"}, {"type": "second", "mtu": 1400}))


def test_the_first_conflist_by_name_is_taken(tmp_path: Path) -> None:
    write_conflist(tmp_path, "20-b.conflist", name="other")
    write_conflist(tmp_path, "10-a.conflist")

    network = load_network(tmp_path)

    assert network is not None
    assert network.name == "weave"


def test_without_a_conflist_there_is_no_network(tmp_path: Path) -> None:
    assert load_network(tmp_path) is None


def test_the_highest_version_that_both_speak_is_used(tmp_path: Path) -> None:
    write_conflist(tmp_path, cniVersions=["0.4.0", "1.1.0", "9.9.9"])

    network = load_network(tmp_path)

    assert network is not None
    assert network.version == "1.1.0"


def test_a_conflist_of_unknown_versions_is_refused(tmp_path: Path) -> None:
    write_conflist(tmp_path, cniVersion="9.9.9")

    with pytest.raises(LabError, match=r"9\.9\.9"):
        load_network(tmp_path)


def test_plugin_input_has_name_and_version_and_no_capabilities(tmp_path: Path) -> None:
    write_conflist(tmp_path)
    network = load_network(tmp_path)
    assert network is not None

    given = json.loads(network.plugin_input(0, {"ips": []}))

    assert given == {
        "type": "first",
        "name": "weave",
        "cniVersion": "1.0.0",
        "prevResult": {"ips": []},
    }


def test_add_hands_each_result_to_the_next_plugin(plugins: Plugins, runtime: Runtime) -> None:
    plugins.write("first", '{"ips": [{"address": "10.32.0.1/32"}]}')
    plugins.write("second", '{"ips": [], "dns": {}}')

    result, elapsed_s = runtime.add(NETWORK, SANDBOX)

    assert result == {"ips": [], "dns": {}}
    assert elapsed_s > 0
    assert [(name, command) for name, command, _ in plugins.calls] == [
        ("first", "ADD"),
        ("second", "ADD"),
    ]
    assert plugins.calls[1][2]["prevResult"] == {"ips": [{"address": "10.32.0.1/32"}]}


def test_a_failed_add_is_followed_by_a_delete_of_the_chain(
    plugins: Plugins, runtime: Runtime
) -> None:
    plugins.write("first")
    plugins.write("second", '{"code": 11, "msg": "later"}', status=1, fail_on="ADD")

    with pytest.raises(CniError, match="second ADD failed with code 11: later") as caught:
        runtime.add(NETWORK, SANDBOX)

    assert caught.value.code == 11
    assert [(name, command) for name, command, _ in plugins.calls[2:]] == [
        ("second", "DEL"),
        ("first", "DEL"),
    ]


def test_delete_passes_the_result_of_the_add(plugins: Plugins, runtime: Runtime) -> None:
    plugins.write("first")
    plugins.write("second")

    runtime.delete(NETWORK, SANDBOX, {"ips": []})

    assert [call[2]["prevResult"] for call in plugins.calls] == [{"ips": []}] * 2


def test_a_plugin_that_crashes_without_an_answer_is_an_error(
    plugins: Plugins, runtime: Runtime
) -> None:
    plugins.write("first", "", status=137)

    with pytest.raises(CniError, match="code 999: exit status 137"):
        runtime.status(NETWORK)


def test_the_environment_is_what_kubernetes_gives() -> None:
    environment = SANDBOX.environment("ADD")

    assert environment["CNI_ARGS"] == (
        "IgnoreUnknown=1;K8S_POD_NAMESPACE=default;K8S_POD_NAME=a;"
        "K8S_POD_INFRA_CONTAINER_ID=c1;K8S_POD_UID=u1"
    )
    assert environment["CNI_COMMAND"] == "ADD"


def test_a_record_survives_being_written_and_read(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    record = PodRecord(SANDBOX, NETWORK, {"ips": [{"address": "10.32.0.1/12"}]}, 0.1, 0.2, True)

    record.save(path)

    assert PodRecord.load(path) == record
    assert record.addresses == ["10.32.0.1"]


def test_no_record_is_none(tmp_path: Path) -> None:
    assert PodRecord.load(tmp_path / "a.json") is None
