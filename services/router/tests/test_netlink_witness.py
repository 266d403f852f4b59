"""An independent reader, pyroute2, finds in our netlink requests what we meant (ADR 0005)."""

from __future__ import annotations

import socket
from typing import Any

import pytest
from pyroute2.netlink.nfnetlink.nfctsocket import NFCTAttrTuple, nfct_msg
from pyroute2.netlink.rtnl.fibmsg import fibmsg
from pyroute2.netlink.rtnl.ifaddrmsg import ifaddrmsg
from pyroute2.netlink.rtnl.ifinfmsg import ifinfmsg
from pyroute2.netlink.rtnl.ndmsg import ndmsg
from pyroute2.netlink.rtnl.rtmsg import rtmsg

from weave_model.prefix import Family, Prefix
from weave_router.core.connections import Connection
from weave_router.core.diff import Add
from weave_router.core.state import (
    Address,
    FdbEntry,
    KernelObject,
    Link,
    LinkKind,
    Neighbour,
    Route,
    RouteKind,
    Rule,
    Vxlan,
)
from weave_router.kernel.encode import requests
from weave_router.kernel.netlink import connections, links
from weave_router.kernel.netlink.wire import Request, frame, split_messages

INDEX = 7
SEQUENCE = 1
PERMANENT = 0x80
RTNH_ONLINK = 4
UNREACHABLE = 7
IFF_UP = 1
# Subsystem 1, message 2.
CT_DELETE = 0x102


def read(request: Request, kind: type[Any]) -> Any:
    """What the other library sees in a whole message of ours."""
    message = kind(frame(request, SEQUENCE, request.flags))
    message.decode()
    return message


def read_added(what: KernelObject, kind: type[Any]) -> Any:
    (request,) = requests(Add(what), lambda _: INDEX)
    return read(request, kind)


@pytest.mark.parametrize(
    ("destination", "gateway", "source"),
    [
        ("10.40.0.0/13", "10.99.0.2", "10.32.0.1"),
        ("fd00:32:0:2::/64", "fe80::2:2", "fd00:32:0:1::1"),
    ],
)
def test_a_route_into_the_tunnel(destination: str, gateway: str, source: str) -> None:
    prefix = Prefix.parse(destination)
    message = read_added(
        Route(
            prefix,
            link="vxlan-6784",
            gateway=Prefix.parse(gateway),
            onlink=True,
            source=Prefix.parse(source),
            mtu=1400,
        ),
        rtmsg,
    )

    assert message["dst_len"] == prefix.length
    assert message["proto"] == 84
    assert message["flags"] & RTNH_ONLINK
    assert message.get_attr("RTA_DST") == destination.partition("/")[0]
    assert message.get_attr("RTA_GATEWAY") == gateway
    assert message.get_attr("RTA_PREFSRC") == source
    assert message.get_attr("RTA_OIF") == INDEX
    assert message.get_attr("RTA_METRICS").get_attr("RTAX_MTU") == 1400


def test_the_rest_of_the_universe_is_unreachable() -> None:
    message = read_added(Route(Prefix.parse("10.32.0.0/12"), RouteKind.UNREACHABLE), rtmsg)

    assert message["type"] == UNREACHABLE
    assert message.get_attr("RTA_OIF") is None


def test_the_rule_for_transit() -> None:
    message = read_added(Rule(Family.IPV4, 6784, "vxlan-6784", 6784), fibmsg)

    assert message.get_attr("FRA_PRIORITY") == 6784
    assert message.get_attr("FRA_TABLE") == 6784
    assert message.get_attr("FRA_IIFNAME") == "vxlan-6784"
    assert message.get_attr("FRA_PROTOCOL") == 84


@pytest.mark.parametrize("address", ["10.99.0.2", "fe80::2:2"])
def test_a_permanent_neighbour(address: str) -> None:
    message = read_added(Neighbour("vxlan-6784", Prefix.parse(address), b"\x02\0\0\0\0\x02"), ndmsg)

    assert message["ifindex"] == INDEX
    assert message["state"] == PERMANENT
    assert message.get_attr("NDA_DST") == address
    assert message.get_attr("NDA_LLADDR") == "02:00:00:00:00:02"


def test_where_a_tunnel_address_lives() -> None:
    message = read_added(
        FdbEntry("vxlan-6784", b"\x02\0\0\0\0\x02", Prefix.parse("10.99.0.2")), ndmsg
    )

    assert message.get_attr("NDA_LLADDR") == "02:00:00:00:00:02"
    assert message.get_attr("NDA_DST") == "10.99.0.2"


@pytest.mark.parametrize("address", ["10.32.0.1/32", "fd00:32:0:1::1/128"])
def test_an_overlay_address(address: str) -> None:
    prefix = Prefix.parse(address)
    message = read_added(Address("weave", prefix), ifaddrmsg)

    assert (message["index"], message["prefixlen"]) == (INDEX, prefix.length)
    assert message.get_attr("IFA_ADDRESS") == address.partition("/")[0]


def test_the_tunnel_device() -> None:
    vxlan = Vxlan(vni=6784, port=6784, family=Family.IPV4, local=None)
    message = read(
        links.create(Link("vxlan-6784", LinkKind.VXLAN, b"\x02\0\0\0\0\x01", 1450, vxlan=vxlan)),
        ifinfmsg,
    )
    data = message.get_attr("IFLA_LINKINFO").get_attr("IFLA_INFO_DATA")

    assert message.get_attr("IFLA_IFNAME") == "vxlan-6784"
    assert message.get_attr("IFLA_MTU") == 1450
    assert message.get_attr("IFLA_ADDRESS") == "02:00:00:00:00:01"
    assert message.get_attr("IFLA_LINKINFO").get_attr("IFLA_INFO_KIND") == "vxlan"
    assert data.get_attr("IFLA_VXLAN_ID") == 6784
    assert data.get_attr("IFLA_VXLAN_PORT") == 6784
    assert data.get_attr("IFLA_VXLAN_LEARNING") == 0
    assert data.get_attr("IFLA_VXLAN_TTL") == 64


@pytest.mark.parametrize(
    ("family", "ends", "reply_ends"),
    [
        (socket.AF_INET, ("10.32.0.2", "192.0.2.1"), ("192.0.2.1", "10.99.0.1")),
        (socket.AF_INET6, ("fd00:32::2", "2001:db8::1"), ("2001:db8::1", "fd99::1")),
    ],
)
def test_a_tracked_connection_is_removed_by_what_was_read(
    family: int, ends: tuple[str, str], reply_ends: tuple[str, str]
) -> None:
    """Without its tuple the kernel would take the removal for one of all connections."""
    original = NFCTAttrTuple(family, *ends, proto=17, sport=5000, dport=53)
    reply = NFCTAttrTuple(family, *reply_ends, proto=17, sport=53, dport=1024)
    entry = nfct_msg.create_from(tuple_orig=original, tuple_reply=reply, zone=7, mark=9)
    entry["nfgen_family"] = family
    entry["attrs"].append(["CTA_ID", 0x01020304])
    entry.encode()

    (read_entry,) = split_messages(bytes(entry.data))
    tracked = connections.decode(read_entry)

    assert tracked is not None
    assert tracked.connection == Connection(
        *map(Prefix.parse, (*ends, *reply_ends)), protocol=17, reply_source_port=53
    )
    assert not connections.leads_to_mesh(read_entry.payload)
    assert {Prefix.parse(end).to_bytes() for end in (*ends, *reply_ends)} <= connections.mentioned(
        read_entry.payload
    )
    message = read(connections.remove(tracked), nfct_msg)
    assert message["header"]["type"] == CT_DELETE
    assert message["nfgen_family"] == family
    assert NFCTAttrTuple.from_netlink(family, message.get_attr("CTA_TUPLE_ORIG")) == original
    assert message.get_attr("CTA_ZONE") == 7
    assert message.get_attr("CTA_ID") == 0x01020304


def test_an_entry_without_addresses_is_passed_over() -> None:
    entry = nfct_msg.create_from(mark=9)
    entry.encode()

    (message,) = split_messages(bytes(entry.data))

    assert connections.decode(message) is None
