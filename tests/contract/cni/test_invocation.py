"""S01 to S12: environment, streams, identities."""

from __future__ import annotations

import ipaddress
import json
from pathlib import Path

import pytest

from tests.contract.cni.place import SYSTEM_PATH, Program
from tests.contract.cni.runtime import INTERFACE, Runtime


def test_s01_success_is_status_0_and_the_result_on_stdout(runtime: Runtime) -> None:
    sandbox = runtime.sandbox()

    added = runtime.call("ADD", sandbox)
    deleted = runtime.call("DEL", sandbox)

    assert added.status == 0
    assert added.body["ips"]
    assert (deleted.status, deleted.stdout) == (0, "")


def test_s02_an_error_is_an_object_on_stdout(runtime: Runtime) -> None:
    outcome = runtime.call("ADD", runtime.sandbox(), "{")

    assert outcome.status != 0
    assert isinstance(outcome.body["code"], int)
    assert outcome.body["msg"]


def test_s02_an_error_repeats_the_version(runtime: Runtime) -> None:
    outcome = runtime.call("ADD", runtime.sandbox(), runtime.config(name="-"))

    assert outcome.body["cniVersion"] == runtime.subject.version


@pytest.mark.parametrize("missing", ["CNI_CONTAINERID", "CNI_NETNS", "CNI_IFNAME", "CNI_PATH"])
def test_s03_add_needs_every_variable(runtime: Runtime, missing: str) -> None:
    outcome = runtime.call("ADD", runtime.sandbox(), **{missing: None})

    assert outcome.code == 4
    assert missing in outcome.message


@pytest.mark.parametrize("missing", ["CNI_CONTAINERID", "CNI_IFNAME"])
def test_s03_del_needs_its_identity(runtime: Runtime, missing: str) -> None:
    assert runtime.call("DEL", runtime.sandbox(), **{missing: None}).code == 4


def test_s03_del_does_not_need_the_netns(runtime: Runtime) -> None:
    assert runtime.call("DEL", runtime.sandbox(), CNI_NETNS=None).status == 0


def test_s04_all_missing_variables_are_named_at_once(runtime: Runtime) -> None:
    outcome = runtime.call("ADD", None, CNI_PATH=None)

    names = ("CNI_CONTAINERID", "CNI_NETNS", "CNI_IFNAME", "CNI_PATH")
    assert [name for name in names if name not in outcome.message] == []


@pytest.mark.parametrize("name", ["-c", "c/1", "c 1", "c:1", "ü"])
def test_s05_a_container_id_outside_the_pattern_is_refused(runtime: Runtime, name: str) -> None:
    assert runtime.call("ADD", runtime.sandbox(), CNI_CONTAINERID=name).code == 4


def test_s05_an_empty_container_id_is_refused(runtime: Runtime) -> None:
    assert runtime.call("ADD", runtime.sandbox(), CNI_CONTAINERID="").code in (3, 4)


@pytest.mark.parametrize("name", ["x" * 16, ".", "..", "a/b", "a:b", "a b", "a\tb"])
def test_s06_a_name_the_kernel_refuses_is_refused(runtime: Runtime, name: str) -> None:
    assert runtime.call("ADD", runtime.sandbox(), CNI_IFNAME=name).code == 4


@pytest.mark.parametrize("name", ["x" * 15, "net.1", "a-b_c"])
def test_s06_a_name_the_kernel_takes_is_taken(runtime: Runtime, name: str) -> None:
    sandbox = runtime.sandbox()

    added = runtime.call("ADD", sandbox, CNI_IFNAME=name)

    assert added.status == 0, added.stdout
    assert name in runtime.interfaces(sandbox)
    assert runtime.call("DEL", sandbox, CNI_IFNAME=name).status == 0


@pytest.mark.parametrize("name", ["-n", "a b", "a/b"])
def test_s07_a_network_name_outside_the_pattern_is_refused(runtime: Runtime, name: str) -> None:
    assert runtime.call("ADD", runtime.sandbox(), runtime.config(name=name)).code == 7


def test_s07_the_network_name_is_required(runtime: Runtime) -> None:
    assert runtime.call("ADD", runtime.sandbox(), runtime.config(name=None)).code == 7


@pytest.mark.parametrize("stdin", ["", "{", "[]", "7", '{"name":7}'])
def test_s07_stdin_that_is_no_configuration_is_refused(runtime: Runtime, stdin: str) -> None:
    # An empty text stands for an empty stdin, not for the default.
    assert runtime.call("ADD", runtime.sandbox(), stdin or " ").code == 6


def test_s08_an_unknown_command_is_refused(runtime: Runtime) -> None:
    assert runtime.call("FROBNICATE", runtime.sandbox()).code == 4


def test_s08_without_a_command_it_tells_about_itself(runtime: Runtime) -> None:
    (outcome,) = runtime.place.run(Program([runtime.subject.executable], {"PATH": SYSTEM_PATH}, ""))

    assert (outcome.status, outcome.stdout) == (0, "")
    assert runtime.subject.version in outcome.stderr


def test_s09_unknown_arguments_are_ignored_when_told_so(runtime: Runtime) -> None:
    arguments = (
        "IgnoreUnknown=1;K8S_POD_NAMESPACE=default;K8S_POD_NAME=a;"
        "K8S_POD_INFRA_CONTAINER_ID=x;K8S_POD_UID=y;FUTURE=z"
    )

    assert runtime.call("ADD", runtime.sandbox(), CNI_ARGS=arguments).status == 0


def test_s09_unknown_arguments_are_refused_otherwise(runtime: Runtime) -> None:
    assert runtime.call("ADD", runtime.sandbox(), CNI_ARGS="FUTURE=z").status != 0


def test_s09_a_malformed_argument_is_refused(runtime: Runtime) -> None:
    assert runtime.call("ADD", runtime.sandbox(), CNI_ARGS="IgnoreUnknown=1;FUTURE").status != 0


def test_s09_an_address_of_the_configuration_wins(runtime: Runtime) -> None:
    known = runtime.add(runtime.sandbox())["ips"][0]["address"].partition("/")[0]
    first, second = (_neighbour(known, offset) for offset in (100, 101))
    sandbox = runtime.sandbox()

    outcome = runtime.call(
        "ADD", sandbox, runtime.config(args={"cni": {"ips": [first]}}), CNI_ARGS=f"IP={second}"
    )

    assert outcome.status == 0, outcome.stdout
    assert runtime.addresses(sandbox) == {first}


def test_s10_the_plugins_own_namespace_is_refused(runtime: Runtime) -> None:
    runtime.place.shell("ip", "netns", "attach", "own", str(runtime.place.pid))
    before = runtime.host_links()

    outcome = runtime.call("ADD", runtime.sandbox(), CNI_NETNS="/run/netns/own")

    runtime.place.shell("ip", "netns", "delete", "own")
    assert outcome.code == 8
    runtime.assert_no_links_beyond(before)


def test_s11_it_may_be_replaced_by_rename_while_in_use(runtime: Runtime, tmp_path: Path) -> None:
    """A runtime must never meet a half-written executable or "text file busy"."""
    copy = tmp_path / Path(runtime.subject.executable).name
    runtime.place.shell("cp", runtime.subject.executable, str(copy))
    replace = 'for n in $(seq 20); do cp "$0" "$0.new" && mv "$0.new" "$0" || exit 1; done'
    call = Program([str(copy)], {"CNI_COMMAND": "VERSION"}, '{"cniVersion":"1.0.0"}')
    replacing = Program(["bash", "-c", replace, str(copy)], {"PATH": SYSTEM_PATH})

    outcomes = runtime.place.run(replacing, *[call] * 20)

    assert [outcome.status for outcome in outcomes] == [0] * 21


@pytest.mark.parametrize(
    "parent", ["00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01", "nonsense", ""]
)
def test_s12_a_trace_in_the_environment_is_accepted(runtime: Runtime, parent: str) -> None:
    outcome = runtime.call(
        "ADD", runtime.sandbox(), TRACEPARENT=parent, TRACESTATE="a=1", BAGGAGE="b=2"
    )

    assert outcome.status == 0


def test_the_interface_is_the_one_asked_for(runtime: Runtime) -> None:
    sandbox = runtime.sandbox()

    runtime.add(sandbox)

    assert runtime.interfaces(sandbox) == {"lo", INTERFACE}


def _neighbour(address: str, offset: int) -> str:
    """Another address of the same range."""
    return str(ipaddress.ip_address(address) + offset)


def test_a_configuration_of_many_kilobytes_is_read(runtime: Runtime) -> None:
    config = json.dumps(runtime.config(**{"cni.dev/padding": "x" * 500_000}))

    assert runtime.call("ADD", runtime.sandbox(), config).status == 0
