"""Peer names, attachment keys and ring values: what they take and what they refuse."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from weave_model.attachment import (
    NODE_CONTAINER_ID,
    AttachmentKey,
    ContainerId,
    is_interface_name,
)
from weave_model.peer import PeerName
from weave_model.prefix import Prefix
from weave_model.ring import Genesis, RingView


@given(st.binary(min_size=6, max_size=6).filter(any))
def test_peer_name_survives_text(raw: bytes) -> None:
    assert PeerName.parse(str(PeerName(raw))) == raw


@given(st.binary(min_size=6, max_size=6))
def test_random_peer_name_is_a_unicast_local_mac(entropy: bytes) -> None:
    name = PeerName.from_random(entropy)

    assert name[0] & 0x03 == 0x02


@given(st.binary(min_size=6, max_size=6).filter(any))
def test_peer_name_survives_the_address_of_a_tunnel_end(raw: bytes) -> None:
    assert PeerName.from_link_local(PeerName(raw).link_local) == raw


@pytest.mark.parametrize(
    "address",
    ["fe80000000000000a8bbccfffe112233", "fd000000000000000000aabbccddeeff", "fe80", "fe80" * 9],
)
def test_other_addresses_are_no_tunnel_ends(address: str) -> None:
    with pytest.raises(ValueError):
        PeerName.from_link_local(bytes.fromhex(address))


def test_peer_name_takes_short_parts() -> None:
    assert str(PeerName.parse("7a:0:c0:d4:b8:9")) == "7a:00:c0:d4:b8:09"


@pytest.mark.parametrize(
    "text",
    [
        "",
        "node1",
        "7a:9f:c0:d4:b8",
        "7a:9f:c0:d4:b8:39:00",
        "00:00:00:00:00:00",
        "7g:9f:c0:d4:b8:39",
    ],
)
def test_refuses_what_is_no_peer_name(text: str) -> None:
    with pytest.raises(ValueError, match=text or "''"):
        PeerName.parse(text)


def test_refuses_raw_names_of_another_size() -> None:
    with pytest.raises(ValueError, match="5 bytes"):
        PeerName(b"12345")
    with pytest.raises(ValueError, match="not 7"):
        PeerName.from_random(b"1234567")


def test_attachment_key_prints_as_the_kernel_alias() -> None:
    assert str(AttachmentKey("weave", ContainerId("c1"), "eth0")) == "weave/c1/eth0"
    assert AttachmentKey("weave", NODE_CONTAINER_ID, "weave").container_id == "weave:expose"


@pytest.mark.parametrize(
    ("network", "container", "interface"),
    [
        ("", "c1", "eth0"),
        ("a/b", "c1", "eth0"),
        ("weave", "", "eth0"),
        ("weave", "c/1", "eth0"),
        ("weave", "c1", ""),
    ],
)
def test_attachment_key_refuses_what_cni_forbids(
    network: str, container: str, interface: str
) -> None:
    with pytest.raises(ValueError, match="not allowed"):
        AttachmentKey(network, ContainerId(container), interface)


@pytest.mark.parametrize("name", ["", ".", "..", "a/b", "a:b", "a b", "a\0", "x" * 16, "ä" * 8])
def test_interface_name_rules_of_the_kernel(name: str) -> None:
    assert not is_interface_name(name)
    assert is_interface_name("eth0")


def test_genesis_is_sorted_and_not_empty() -> None:
    low, high = PeerName(b"\0\0\0\0\0\1"), PeerName(b"\0\0\0\0\0\2")

    assert Genesis((low, high)).seeds == (low, high)
    for seeds in ((), (high, low), (low, low)):
        with pytest.raises(ValueError, match=r"seed"):
            Genesis(seeds)


def test_ring_view_has_the_family_of_its_universe() -> None:
    assert RingView(Prefix.parse("fd00::/48"), ()).family == 6
