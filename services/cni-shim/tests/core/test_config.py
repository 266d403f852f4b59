"""What every verb may need of the configuration."""

from __future__ import annotations

from typing import Any

import pytest

from weave_cni_shim.core.config import NetworkConfig, version_in
from weave_cni_shim.core.failure import CniError, Code

C1 = frozenset({("c1", "eth0")})


def config(**raw: Any) -> NetworkConfig:
    return NetworkConfig("1.1.0", "weave", raw)


@pytest.mark.parametrize(
    ("raw", "expected"),
    [
        ({}, "weave-ipam"),
        ({"ipam": {}}, "weave-ipam"),
        ({"ipam": {"type": "host-local"}}, "host-local"),
        ({"ipam": {"type": 7}}, "weave-ipam"),
        ({"ipam": []}, "weave-ipam"),
    ],
)
def test_the_ipam_plugin_is_ours_unless_named(raw: Any, expected: str) -> None:
    assert config(**raw).ipam_type == expected


def test_s43_valid_attachments_are_read_under_both_names_the_specified_one_first() -> None:
    entry = {"containerID": "c1", "ifname": "eth0"}
    other = {"containerID": "c2", "ifname": "eth0"}

    assert config(**{"cni.dev/valid-attachments": [entry]}).valid_attachments() == C1
    assert config(**{"cni.dev/attachments": [entry]}).valid_attachments() == C1
    both = config(**{"cni.dev/valid-attachments": [entry], "cni.dev/attachments": [other]})
    assert both.valid_attachments() == C1


def test_s45_an_empty_list_is_not_an_absent_one() -> None:
    assert config(**{"cni.dev/valid-attachments": []}).valid_attachments() == frozenset()
    assert config().valid_attachments() is None
    assert config(**{"cni.dev/valid-attachments": None}).valid_attachments() is None


@pytest.mark.parametrize("entry", [7, {}, {"containerID": "c1"}, "c1"])
def test_an_attachment_without_a_name_is_refused(entry: Any) -> None:
    with pytest.raises(CniError) as caught:
        config(**{"cni.dev/valid-attachments": [entry]}).valid_attachments()

    assert caught.value.code is Code.INVALID_CONFIG


def test_valid_attachments_that_are_no_list_are_undecodable() -> None:
    with pytest.raises(CniError) as caught:
        config(**{"cni.dev/valid-attachments": {"c1": "eth0"}}).valid_attachments()

    assert caught.value.code is Code.DECODING_FAILURE


@pytest.mark.parametrize("result", [[], 7, "x", {"ips": {}}, {"interfaces": "x"}, {"routes": 7}])
def test_a_previous_result_of_another_shape_is_undecodable(result: Any) -> None:
    with pytest.raises(CniError) as caught:
        config(prevResult=result).previous()

    assert caught.value.code is Code.DECODING_FAILURE


def test_no_previous_result_is_none() -> None:
    assert config().previous() is None
    assert config(prevResult=None).previous() is None
    assert config(prevResult={}).previous() is None
    assert config(prevResult={"ips": []}).previous() == {"ips": []}


@pytest.mark.parametrize(
    ("stdin", "version"),
    [
        (b'{"cniVersion":"0.4.0"}', "0.4.0"),
        (b'{"cniVersion":"9.9.9"}', "1.1.0"),
        (b'{"cniVersion":["0.4.0"]}', "1.1.0"),
        (b"{}", "1.1.0"),
        (b"[]", "1.1.0"),
        (b"", "1.1.0"),
        (b"[" * 100_000, "1.1.0"),
        (b"\xff", "1.1.0"),
    ],
)
def test_an_error_repeats_the_version_it_was_asked_in(stdin: bytes, version: str) -> None:
    assert version_in(stdin) == version
