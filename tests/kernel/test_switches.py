"""Switches of the host: forwarding does not cost a node the default route of its network."""

from __future__ import annotations

import socket
import struct
import time
from collections.abc import Iterator

import pytest

from tests.kernel.cluster import Cluster, Node, cluster
from tests.kernel.namespaces import Netns
from weave_router.core import switches

pytestmark = pytest.mark.kernel

ROUTER = "fe80::99"
_TIMEOUT_S = 5.0
_POLL_S = 0.02
# RFC 4861 section 4.2: type, code, checksum, hop limit, flags, lifetime, two timers.
_ADVERTISEMENT = struct.pack("!BBHBBHII", 134, 0, 0, 64, 0, 1800, 0, 0)


@pytest.fixture(scope="module")
def two() -> Iterator[Cluster]:
    with cluster(2, pods=0) as made:
        made.switch.run("ip", "addr", "add", f"{ROUTER}/64", "dev", "sw", "nodad")
        yield made


@pytest.fixture
def node(two: Cluster) -> Node:
    """A host that forwards nothing yet and has its default route from an advertisement."""
    space = two.nodes[0].netns
    space.set_sysctl("net/ipv6/conf/all/forwarding", "0")
    space.set_sysctl("net/ipv6/conf/eth0/accept_ra", "1")
    space.run("ip", "addr", "replace", "fe80::1:1/64", "dev", "eth0", "nodad")
    advertise(two.switch)
    assert has_default_route(space)
    return two.nodes[0]


def advertise(switch: Netns) -> None:
    """One router advertisement to all nodes."""

    def send() -> None:
        with socket.socket(socket.AF_INET6, socket.SOCK_RAW, socket.IPPROTO_ICMPV6) as sender:
            sender.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_MULTICAST_HOPS, 255)
            index = socket.if_nametoindex("sw")
            sender.sendto(_ADVERTISEMENT, ("ff02::1", 0, 0, index))

    switch.call(send)


def has_default_route(space: Netns) -> bool:
    """Does it come within some time?"""
    deadline = time.monotonic() + _TIMEOUT_S
    while f"default via {ROUTER}" not in space.run("ip", "-6", "route"):
        if time.monotonic() > deadline:
            return False
        time.sleep(_POLL_S)
    return True


def test_forwarding_alone_loses_the_advertised_default_route(two: Cluster, node: Node) -> None:
    node.options(uplinks=())

    assert f"default via {ROUTER}" not in node.netns.run("ip", "-6", "route")


def test_the_default_route_stays_and_is_renewed(two: Cluster, node: Node) -> None:
    node.options(uplinks=("eth0",))
    assert node.netns.run("sysctl", "-n", "net.ipv6.conf.all.forwarding").strip() == "1"
    assert f"default via {ROUTER}" in node.netns.run("ip", "-6", "route")

    node.netns.run("ip", "-6", "route", "del", "default")
    advertise(two.switch)
    assert has_default_route(node.netns)

    options = node.inputs.options
    found = node.netns.call(lambda: node.kernel.found(switches.paths(options)))
    assert "net.ipv6.conf.eth0.accept_ra=2" in switches.left_behind(options, found)


def test_a_host_that_takes_no_advertisements_is_left_alone(two: Cluster, node: Node) -> None:
    node.netns.set_sysctl("net/ipv6/conf/eth0/accept_ra", "0")
    node.options(uplinks=("eth0",))

    assert node.netns.run("sysctl", "-n", "net.ipv6.conf.eth0.accept_ra").strip() == "0"
