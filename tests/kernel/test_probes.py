"""Probes on the wire: they go the way pods' packets go, and nobody but a peer can answer one."""

from __future__ import annotations

import socket
import time
from collections.abc import Iterator

import pytest

from tests.kernel import packets
from tests.kernel.cluster import Cluster, Node, cluster, relay
from weave_model.prefix import Family
from weave_router.core import naming
from weave_router.core.inputs import Path, PathKind
from weave_router.core.prober import Target
from weave_router.kernel.echo import EchoSocket

pytestmark = pytest.mark.kernel

_ANSWER_S = 1.0
_POLL_S = 0.005
SMALL = 64
PORT = 4000


@pytest.fixture(scope="module", params=[0, 1, 2], ids=lambda value: f"rp_filter{value}")
def shared(request: pytest.FixtureRequest) -> Iterator[Cluster]:
    with cluster(2, pods=1, rp_filter=request.param) as made:
        yield made


@pytest.fixture
def a(shared: Cluster) -> Iterator[Node]:
    yield shared.nodes[0]
    shared.reconcile()


@pytest.fixture
def b(shared: Cluster) -> Node:
    return shared.nodes[1]


@pytest.fixture
def echo(a: Node) -> Iterator[EchoSocket]:
    made = a.netns.call(lambda: EchoSocket(Family.IPV6))
    yield made
    made.close()


def answered(echo: EchoSocket, a: Node, b: Node, size: int = SMALL) -> bool:
    """Does a probe come back?"""
    token = time.monotonic_ns()
    target = Target("vxlan-6784", naming.tunnel_link_local(b.name), SMALL, 1450)
    a.netns.call(lambda: echo.send(target, size, token))
    deadline = time.monotonic() + _ANSWER_S
    while time.monotonic() < deadline:
        if token in echo.received():
            return True
        time.sleep(_POLL_S)
    return False


def test_a_probe_passes_up_to_the_mtu_of_the_tunnel(echo: EchoSocket, a: Node, b: Node) -> None:
    assert answered(echo, a, b)
    assert answered(echo, a, b, 1450)
    with pytest.raises(OSError, match="too long"):
        answered(echo, a, b, 1451)


def test_making_a_socket_leaves_the_switch_as_it_was(a: Node) -> None:
    before = a.netns.run("sysctl", "-n", "net.ipv4.ping_group_range")
    a.netns.call(lambda: EchoSocket(Family.IPV6)).close()

    assert a.netns.run("sysctl", "-n", "net.ipv4.ping_group_range") == before


def test_a_probe_goes_through_the_tunnel_whatever_the_routes_say(
    shared: Cluster, echo: EchoSocket, a: Node, b: Node
) -> None:
    for node, other in ((a, b), (b, a)):
        node.route(other, Path(PathKind.NONE))
    assert not a.pods[0].ping(b.pods[0].ip, count=1)
    assert answered(echo, a, b)

    with packets.packet_socket(shared.switch, "p2") as wire:
        assert answered(echo, a, b)
        ports = set()
        while (outer := packets.received(wire)) is not None:
            # Destination port of UDP over IPv4 over Ethernet.
            ports.add(int.from_bytes(outer[0][36:38], "big"))
    # The same as of pods' packets.
    assert 6784 in ports


def test_a_probe_is_lost_where_packets_of_pods_are(echo: EchoSocket, a: Node, b: Node) -> None:
    b.foreign(
        "table inet hole { chain in { type filter hook prerouting priority -400; "
        "udp dport 6784 meta length > 1400 drop; } ; }"
    )

    assert answered(echo, a, b, 1350)
    assert not answered(echo, a, b, 1351)


def test_host_firewalls_and_hidden_hosts_answer_all_the_same(
    echo: EchoSocket, a: Node, b: Node
) -> None:
    b.foreign(
        "table inet wall { chain in { type filter hook input priority 0; policy drop; "
        "udp dport 6784 accept; icmpv6 type echo-request accept; } ; }"
    )
    b.options(exposed=False)
    assert not a.netns.ping(b.overlay, count=1)
    assert answered(echo, a, b)
    b.options(exposed=True)


def test_the_guard_lets_nothing_else_of_that_kind_in(echo: EchoSocket, a: Node, b: Node) -> None:
    """Link-local packets of other kinds, and echoes from elsewhere, do not leave the tunnel."""

    def udp(node: Node) -> socket.socket:
        return node.netns.call(lambda: socket.socket(socket.AF_INET6, socket.SOCK_DGRAM))

    def arrives() -> bool:
        with udp(a) as sender, udp(b) as listener:
            listener.bind(("::", PORT))
            listener.settimeout(_ANSWER_S / 2)
            index = a.netns.call(lambda: socket.if_nametoindex("vxlan-6784"))
            sender.sendto(b"hello", (_link_local(b), PORT, 0, index))
            return packets.received(listener) is not None

    b.forget_rule("from_tunnel", "ip6 saddr != @remote6 drop")
    assert arrives()

    b.reconcile()
    assert not arrives()


def test_pods_cannot_reach_the_ends_of_tunnels(a: Node, b: Node) -> None:
    """Nobody forwards link-local packets, so no pod can answer for a peer."""
    pod = a.pods[0].netns
    via = ["via", "fe80::1", "dev", "eth0"]
    pod.run("ip", "-6", "route", "replace", f"{_link_local(b)}/128", *via)

    assert not pod.ping(f"{_link_local(b)}%eth0", count=1)
    assert not pod.ping(f"{_link_local(a)}%eth0", count=1)
    pod.run("ip", "-6", "route", "del", f"{_link_local(b)}/128")


def test_the_answer_does_not_need_a_route_back(echo: EchoSocket, a: Node, b: Node) -> None:
    b.route(a, relay(a))
    b.netns.run("ip", "route", "del", str(a.block))

    assert answered(echo, a, b)


def test_ipv6_comes_back_to_the_tunnel_where_a_host_turns_it_off(
    echo: EchoSocket, a: Node, b: Node
) -> None:
    b.netns.set_sysctl("net/ipv6/conf/vxlan-6784/disable_ipv6", "1")
    assert not answered(echo, a, b)

    b.reconcile()
    b.reconcile()
    assert answered(echo, a, b)


def _link_local(node: Node) -> str:
    return str(naming.tunnel_link_local(node.name)).split("/")[0]
