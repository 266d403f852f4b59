"""Environment and identity of a call; each check with the number of its requirement."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from weave_cni_shim.core.call import Call, Command, parse_call, removal, removal_of
from weave_cni_shim.core.failure import CniError, Code
from weave_cni_shim.core.frame import Request
from weave_model.attachment import AttachmentKey, ContainerId

ENVIRON = {
    "CNI_COMMAND": "ADD",
    "CNI_CONTAINERID": "c1",
    "CNI_NETNS": "/run/netns/c1",
    "CNI_IFNAME": "eth0",
    "CNI_PATH": "/opt/cni/bin",
}
CONFIG = {"cniVersion": "1.1.0", "name": "weave", "type": "weave-net"}


def parse(environ: Mapping[str, str] = {}, *, without: str = "", **config: Any) -> Call:
    variables = {
        name: value for name, value in (ENVIRON | dict(environ)).items() if name != without
    }
    return parse_call(Request(variables, json.dumps(CONFIG | config).encode()))


def failure(environ: Mapping[str, str] = {}, *, without: str = "", **config: Any) -> CniError:
    with pytest.raises(CniError) as caught:
        parse(environ, without=without, **config)
    return caught.value


def test_a_good_call_is_understood() -> None:
    call = parse({"CNI_ARGS": "IgnoreUnknown=1", "TRACEPARENT": "00-1-2-01"})

    assert call.command is Command.ADD
    assert call.key == AttachmentKey("weave", ContainerId("c1"), "eth0")
    assert (call.netns, call.arguments, call.traceparent, call.is_ipam) == (
        "/run/netns/c1",
        "IgnoreUnknown=1",
        "00-1-2-01",
        False,
    )


@pytest.mark.parametrize("command", ["ADD", "CHECK"])
@pytest.mark.parametrize("missing", ["CNI_CONTAINERID", "CNI_NETNS", "CNI_IFNAME", "CNI_PATH"])
def test_s03_add_and_check_need_all_variables(command: str, missing: str) -> None:
    error = failure({"CNI_COMMAND": command}, without=missing)

    assert error.code is Code.INVALID_ENVIRONMENT
    assert error.message == f"required env variables [{missing}] missing"


@pytest.mark.parametrize("missing", ["CNI_CONTAINERID", "CNI_IFNAME", "CNI_PATH"])
def test_s03_del_needs_all_but_the_netns(missing: str) -> None:
    assert failure({"CNI_COMMAND": "DEL"}, without=missing).code is Code.INVALID_ENVIRONMENT
    assert parse({"CNI_COMMAND": "DEL"}, without="CNI_NETNS").netns == ""


@pytest.mark.parametrize("command", ["GC", "STATUS"])
def test_s03_gc_and_status_need_the_path_only(command: str) -> None:
    request = Request({"CNI_COMMAND": command, "CNI_PATH": "/x"}, json.dumps(CONFIG).encode())

    assert parse_call(request).command == command
    assert failure({"CNI_COMMAND": command}, without="CNI_PATH").code is Code.INVALID_ENVIRONMENT


def test_s04_all_missing_variables_are_named_at_once() -> None:
    with pytest.raises(CniError, match=r"\[CNI_CONTAINERID,CNI_NETNS,CNI_IFNAME,CNI_PATH\]"):
        parse_call(Request({"CNI_COMMAND": "ADD"}, b""))


def test_s04_an_empty_variable_is_a_missing_one() -> None:
    assert "[CNI_NETNS]" in failure({"CNI_NETNS": ""}).message


@pytest.mark.parametrize("name", ["-c", ".c", "_c", "c/1", "c 1", "c:1", "ü", "c\n", "c\0"])
def test_s05_container_ids_outside_the_pattern_are_refused(name: str) -> None:
    error = failure({"CNI_CONTAINERID": name})

    assert error.code is Code.INVALID_ENVIRONMENT
    assert repr(name) in error.message


@pytest.mark.parametrize("name", ["c", "0", "a-b_c.d", "A" * 200])
def test_s05_container_ids_inside_the_pattern_are_taken(name: str) -> None:
    assert parse({"CNI_CONTAINERID": name}).container_id == name


@pytest.mark.parametrize(
    "name", ["x" * 16, ".", "..", "a/b", "a:b", "a b", "a\t", "a\n", "ä" * 8, "\udcff"]
)
def test_s06_names_the_kernel_refuses_are_refused(name: str) -> None:
    error = failure({"CNI_IFNAME": name})

    assert error.code is Code.INVALID_ENVIRONMENT
    assert repr(name) in error.message


@pytest.mark.parametrize("name", ["x" * 15, "eth0.1", "net-1", "..."])
def test_s06_names_the_kernel_takes_are_taken(name: str) -> None:
    assert parse({"CNI_IFNAME": name}).interface == name


@pytest.mark.parametrize("name", ["-n", "a b", "a/b", "ü"])
def test_s07_network_names_outside_the_pattern_are_refused(name: str) -> None:
    error = failure(name=name)

    assert error.code is Code.INVALID_CONFIG
    assert repr(name) in error.message


def test_s07_the_network_name_is_required() -> None:
    assert failure(name="").message == "missing network name"


@pytest.mark.parametrize("stdin", [b"", b"{", b"[]", b"7", b'"x"', b"null", b"\xff\xfe{}", b"{}x"])
def test_s07_stdin_that_is_no_object_is_refused(stdin: bytes) -> None:
    with pytest.raises(CniError) as caught:
        parse_call(Request(ENVIRON, stdin))

    assert caught.value.code is Code.DECODING_FAILURE


@pytest.mark.parametrize("stdin", [b"[" * 100_000, b'{"a":' * 100_000, b'{"mtu":NaN}'])
def test_s07_json_that_breaks_parsers_is_refused(stdin: bytes) -> None:
    with pytest.raises(CniError) as caught:
        parse_call(Request(ENVIRON, stdin))

    assert caught.value.code is Code.DECODING_FAILURE


@pytest.mark.parametrize("word", ["", "add", "FROBNICATE"])
def test_s08_an_unknown_command_is_refused(word: str) -> None:
    error = failure({"CNI_COMMAND": word})

    assert error.code is Code.INVALID_ENVIRONMENT
    assert error.message == f"unknown CNI_COMMAND: {word!r}"


@pytest.mark.parametrize("word", ["1", "true", "TRUE", "True"])
def test_s10_the_override_of_the_netns_check_is_read_as_go_does(word: str) -> None:
    assert parse({"CNI_NETNS_OVERRIDE": word}).may_use_own_netns


@pytest.mark.parametrize("word", ["", "0", "false", "no"])
def test_s10_without_it_the_check_stands(word: str) -> None:
    assert not parse({"CNI_NETNS_OVERRIDE": word}).may_use_own_netns


def test_s13_version_works_with_empty_stdin() -> None:
    assert parse_call(Request({"CNI_COMMAND": "VERSION"}, b"")).command is Command.VERSION


@pytest.mark.parametrize("version", ["0.1.0", "0.2.0", "0.5.0", "1.2.0", "2.0.0", "x", ""])
def test_s14_an_unsupported_version_is_refused_with_both_lists(version: str) -> None:
    error = failure(cniVersion=version)

    assert error.code is Code.INCOMPATIBLE_VERSION
    assert "'1.1.0'" in error.details
    assert repr(version or "0.1.0") in error.details


@pytest.mark.parametrize("version", ["0.3.0", "0.3.1", "0.4.0", "1.0.0", "1.1.0"])
def test_s14_the_supported_versions_are_taken(version: str) -> None:
    assert parse(cniVersion=version).config.cni_version == version


@pytest.mark.parametrize(
    ("command", "version"),
    [("CHECK", "0.3.1"), ("GC", "1.0.0"), ("STATUS", "1.0.0"), ("STATUS", "0.3.0")],
)
def test_s15_verbs_are_refused_to_versions_without_them(command: str, version: str) -> None:
    error = failure({"CNI_COMMAND": command}, cniVersion=version)

    assert error.code is Code.INCOMPATIBLE_VERSION
    assert command in error.message


@pytest.mark.parametrize(
    ("command", "version"), [("CHECK", "0.4.0"), ("GC", "1.1.0"), ("STATUS", "1.1.0")]
)
def test_s15_verbs_are_open_to_versions_with_them(command: str, version: str) -> None:
    assert parse({"CNI_COMMAND": command}, cniVersion=version).command == command


def test_the_checks_come_in_the_order_of_the_reference_skeleton() -> None:
    """Environment, then decoding and network name, then identity, then version."""
    variables = {"CNI_CONTAINERID": "-", "CNI_IFNAME": "/"}
    assert failure(variables, without="CNI_PATH", name="-", cniVersion="9").code == 4
    assert failure(variables, name="-", cniVersion="9").code == 7
    assert "CONTAINERID" in failure(variables, cniVersion="9").message
    assert "IFNAME" in failure({"CNI_IFNAME": "/"}, cniVersion="9").message
    assert failure(cniVersion="9").code == 1


@pytest.mark.parametrize("name", ["CNI_NETNS", "CNI_ARGS"])
def test_values_that_are_no_text_are_refused(name: str) -> None:
    assert failure({name: "/run/\udcff"}).code is Code.INVALID_ENVIRONMENT


def test_s26_a_del_is_not_stopped_by_them() -> None:
    call = parse({"CNI_COMMAND": "DEL", "CNI_NETNS": "/run/\udcff", "CNI_ARGS": "\udcff"})

    assert call.netns == ""


@pytest.mark.parametrize(
    "config",
    [
        {"mtu": "nonsense"},
        {"ipMasq": True},
        {"ipam": 7},
        {"ipam": {"type": "weave-ipam", "subnet": "x"}},
        {"args": "x"},
        {"cni.dev/valid-attachments": 7},
        {"prevResult": 7},
    ],
)
def test_s30_a_del_is_not_stopped_by_a_configuration_an_add_refuses(config: Any) -> None:
    call = parse({"CNI_COMMAND": "DEL", "CNI_ARGS": "nonsense"}, **config)

    assert call.key.container_id == "c1"


def test_our_name_as_ipam_plugin_is_told_by_the_executable() -> None:
    assert parse({"WEAVE_ARGV0": "weave-ipam"}).is_ipam


def test_a_removal_is_a_del_that_can_be_parsed() -> None:
    key = AttachmentKey("weave", ContainerId("c1"), "eth0")

    call = parse_call(removal(key, "/run/netns/c1"))

    assert (call.command, call.key, call.netns) == (Command.DEL, key, "/run/netns/c1")


def test_the_removal_of_a_request_keeps_all_but_the_command() -> None:
    request = Request(ENVIRON | {"WEAVE_ARGV0": "weave-ipam"}, json.dumps(CONFIG).encode())

    call = parse_call(removal_of(request))

    assert (call.command, call.is_ipam, call.netns) == (Command.DEL, True, "/run/netns/c1")


@given(
    st.dictionaries(st.sampled_from([*ENVIRON, "CNI_ARGS", "WEAVE_ARGV0"]), st.text(max_size=20)),
    st.binary(max_size=100),
)
def test_no_input_raises_anything_but_a_cni_error(environ: dict[str, str], stdin: bytes) -> None:
    try:
        call = parse_call(Request(ENVIRON | environ, stdin))
    except CniError:
        return
    assert str(call.key).startswith(call.config.name)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner),
    max_leaves=8,
)
FIELDS = ("mtu", "ipam", "args", "runtimeConfig", "dns", "prevResult", "ipMasq", "cniVersion")
PARTS = st.fixed_dictionaries(
    {},
    optional={
        "cni": st.fixed_dictionaries({}, optional={"ips": JSON, "mac": JSON}) | JSON,
        "ips": JSON | st.just(["10.32.0.9"]),
        "mac": JSON | st.just("0a:58:0a:20:00:05"),
        "type": JSON | st.just("weave-ipam"),
        "subnet": JSON,
        "gateway": JSON,
        "routes": JSON | st.lists(st.fixed_dictionaries({"dst": JSON}, optional={"gw": JSON})),
        "interfaces": JSON,
    },
)


@given(st.dictionaries(st.sampled_from(FIELDS), JSON | PARTS))
def test_no_configuration_raises_anything_but_a_cni_error(config: dict[str, Any]) -> None:
    try:
        call = parse(**config)
        call.wishes()
        call.config.previous()
        call.config.valid_attachments()
    except CniError as error:
        json.loads(error.to_json("1.1.0"))
