"""The guard where it is hardest: where others translate, track or do not track, and where packets
were not asked when they might have been.

What the guard is for, and that nothing else does it, is in `test_traps`.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.kernel import packets
from tests.kernel.cluster import Cluster, Node, Pod, cluster
from tests.kernel.forgeries import PORT, Forger, arrives_by_tunnel, dnat
from tests.kernel.namespaces import Netns
from weave_model.prefix import Family
from weave_router.core import naming
from weave_router.core.inputs import Path, PathKind

pytestmark = pytest.mark.kernel

OUTSIDER = "10.99.0.200"
SERVICE_PORT = 30080
FOREIGN_NOTRACK = (
    "table inet untracked { chain early { type filter hook prerouting priority -310; "
    "meta l4proto { tcp, udp } notrack; } ; }"
)


@pytest.fixture(scope="module")
def shared() -> Iterator[Cluster]:
    with cluster(2) as made:
        yield made


@pytest.fixture
def whole(shared: Cluster) -> Iterator[Cluster]:
    yield shared
    shared.reconcile()


@pytest.fixture
def a(whole: Cluster) -> Node:
    return whole.nodes[0]


@pytest.fixture
def b(whole: Cluster) -> Node:
    return whole.nodes[1]


# Strangers and other nodes' pods, to the tunnel of a node


def test_strangers_tunnel_packets_that_nobody_tracks(whole: Cluster, a: Node, b: Node) -> None:
    def decapsulated() -> bool:
        return arrives_by_tunnel(a, whole.outsider, str(b.pods[0].ip))

    a.foreign(FOREIGN_NOTRACK)
    assert not decapsulated()

    a.forget_rule("mesh_in", "udp dport 6784 drop")
    assert decapsulated()


def test_strangers_tunnel_packets_by_way_of_a_service(whole: Cluster, a: Node, b: Node) -> None:
    a.foreign(dnat(f"{a.underlay}:6784", "prerouting", f"udp dport {SERVICE_PORT}"))

    def decapsulated() -> bool:
        return arrives_by_tunnel(a, whole.outsider, str(b.pods[0].ip), port=SERVICE_PORT)

    assert not decapsulated()

    a.forget_rule("mesh_in", "udp dport 6784 drop")
    assert decapsulated()


@pytest.mark.parametrize("is_tracked", [True, False])
def test_pods_reach_no_tunnel_by_the_overlay_address(a: Node, b: Node, *, is_tracked: bool) -> None:
    """It is one of the node's block, as a pod's."""

    def decapsulated() -> bool:
        return arrives_by_tunnel(b, a.pods[0].netns, a.pods[1].ip, address=b.overlay)

    if not is_tracked:
        b.foreign(FOREIGN_NOTRACK)
    assert not decapsulated()

    b.forget_rule("mesh_in", "goto mesh_ports")
    b.forget_rule("mesh_in", "udp dport 6784 drop")
    assert decapsulated()


def test_pods_reach_no_port_of_the_mesh_by_a_direct_path(a: Node, b: Node) -> None:
    a.route(b, Path(PathKind.DIRECT))
    b.route(a, Path(PathKind.DIRECT))

    def arrives() -> bool:
        return _arrives(a.pods[0].netns, b.overlay, 6783, b.netns)

    assert not arrives()
    assert a.pods[0].ping(b.pods[0].ip)

    b.forget_rule("mesh_in", "saddr @remote4 goto mesh_ports")
    assert arrives()


@pytest.mark.parametrize("where", ["prerouting", "output"])
def test_a_foreign_zone_cuts_no_tunnel(a: Node, b: Node, where: str) -> None:
    """What has a template of connection tracking is tracked whatever we say."""
    b.foreign(
        f"table inet zone {{ chain early {{ type filter hook {where} priority -310; "
        "ct zone set 5; } ; }"
    )

    assert a.pods[0].ping(b.pods[0].ip)


# This node's pods, to tunnels of others


def test_pods_reach_no_port_of_their_own_node_by_a_service(a: Node) -> None:
    a.foreign(dnat(f"{a.underlay}:6783", "prerouting", f"udp dport {SERVICE_PORT}"))

    def arrives() -> bool:
        return _arrives(a.pods[0].netns, a.underlay, SERVICE_PORT, a.netns, 6783)

    assert not arrives()

    a.forget_rule("mesh_in", "goto mesh_ports")
    assert arrives()


def test_no_pod_reaches_a_tunnel_by_an_address_that_nobody_knows(a: Node, b: Node) -> None:
    """A peer may have more addresses than it tells."""
    b.netns.run("ip", "addr", "add", "10.99.0.77/24", "dev", "eth0")

    def decapsulated() -> bool:
        return arrives_by_tunnel(b, a.pods[0].netns, a.pods[1].ip, address="10.99.0.77")

    try:
        assert not decapsulated()

        a.forget_rule("new_out", "udp dport 6784 drop")
        assert decapsulated()
    finally:
        b.netns.run("ip", "addr", "del", "10.99.0.77/24", "dev", "eth0")


def test_no_rewritten_port_leads_to_a_tunnel(a: Node, b: Node) -> None:
    """A translation that connection tracking knows nothing of."""
    pod = a.pods[0]
    a.foreign(
        "table inet mangle { chain early { type filter hook prerouting priority -250; "
        f"ip saddr {pod.ip} udp dport {SERVICE_PORT} udp dport set 6784; }} ; }}"
    )

    def decapsulated() -> bool:
        return arrives_by_tunnel(b, pod.netns, a.pods[1].ip, port=SERVICE_PORT)

    assert not decapsulated()

    a.forget_rule("new_out", "daddr @peers4 goto mesh_ports")
    a.forget_rule("new_out", "udp dport 6784 drop")
    assert decapsulated()


@pytest.mark.parametrize("port", [6783, 6785])
def test_no_connection_waits_for_somebody_to_become_a_peer(
    whole: Cluster, a: Node, port: int
) -> None:
    """One that began before would not be asked again, and leaves with the address of the node."""
    a.foreign(dnat(f"{OUTSIDER}:{port}", "prerouting", f"udp dport {SERVICE_PORT}"))

    def arrives() -> bool:
        return _arrives(a.pods[0].netns, a.underlay, SERVICE_PORT, whole.outsider, port)

    assert not arrives()

    a.forget_rule("new_out", "ct status dnat")
    assert arrives()


def test_another_nodes_pod_is_led_to_no_tunnel_by_a_service(
    whole: Cluster, a: Node, b: Node
) -> None:
    b.foreign(
        dnat(
            f"{OUTSIDER}:6783",
            "prerouting",
            f"udp dport {SERVICE_PORT}",
            masquerade=f"ip daddr {OUTSIDER} masquerade",
        )
    )

    def arrives() -> bool:
        return _arrives(a.pods[0].netns, b.overlay, SERVICE_PORT, whole.outsider, 6783)

    assert not arrives()

    b.forget_rule("new_out", "ip saddr @remote4 ct status dnat")
    assert arrives()


def test_a_connection_begun_without_rules_ends_when_they_are_loaded(
    whole: Cluster, a: Node, b: Node
) -> None:
    a.foreign(
        dnat(
            f"{b.underlay}:6784",
            "prerouting",
            f"udp dport {SERVICE_PORT}",
            masquerade="udp dport 6784 masquerade",
        )
    )
    with Forger(a.pods[0].netns) as pod:

        def decapsulated() -> bool:
            return pod.arrives(b, a.pods[1].ip, a.underlay, SERVICE_PORT)

        a.netns.run("nft", "delete", "table", "inet", "weave")
        assert decapsulated()

        ended = a.netns.call(a.load_rules_only)
        assert decapsulated(), "nothing but its end helps"

        assert ended() == 1
        assert not decapsulated()


def test_a_connection_to_a_host_ends_when_that_becomes_a_peer(whole: Cluster, a: Node) -> None:
    with (
        packets.udp_socket(whole.outsider, 6785) as listener,
        packets.udp_socket(a.pods[0].netns) as pod,
    ):

        def arrives() -> bool:
            pod.sendto(b"still here", (OUTSIDER, 6785))
            return packets.received(listener) is not None

        assert arrives()

        former = a.inputs
        try:
            a.add_peer(OUTSIDER)
            ended = a.netns.call(a.load_rules_only)
            assert arrives(), "nothing but its end helps"

            assert ended() == 1
            assert not arrives()
        finally:
            a.inputs = former


# What may pass


def test_pods_may_use_these_ports(whole: Cluster, a: Node, b: Node) -> None:
    outside, inside = (whole.outsider, OUTSIDER), (b.pods[0].netns, b.pods[0].ip)
    for port, (space, address) in ((6785, outside), (6783, outside), (6784, inside)):
        assert _arrives(a.pods[0].netns, address, port, space)


def test_an_answer_may_come_to_any_masqueraded_port(whole: Cluster, a: Node) -> None:
    pod = a.pods[0]
    a.foreign(
        "table ip masquerades { chain post { type nat hook postrouting priority 99; "
        f"ip saddr {pod.ip} meta l4proto udp masquerade to :6784; }} ; }}"
    )

    with (
        packets.udp_socket(whole.outsider, PORT) as server,
        packets.udp_socket(pod.netns) as client,
    ):
        client.sendto(b"question", (OUTSIDER, PORT))
        question = packets.received(server)
        assert question is not None
        assert question[1] == (a.underlay, 6784)
        server.sendto(b"answer", question[1])
        assert packets.received(client) is not None


# Devices and their groups


@pytest.mark.parametrize("name", ["pod", "tunnel"])
def test_a_device_that_lost_its_group_opens_no_connection(a: Node, b: Node, name: str) -> None:
    near, far = a.pods[0], b.pods[0]
    device = near.record.link if name == "pod" else naming.VXLAN[Family.IPV4]
    source, target = (near, far) if name == "pod" else (far, near)

    a.netns.run("ip", "link", "set", device, "group", "default")
    assert not _reaches(source, target)

    a.forget_rule("new_from", "drop")
    assert _reaches(source, target)

    repaired = a.reconcile()
    assert any("group 0 instead of" in str(operation) for operation in repaired)
    assert _reaches(near, far)
    assert _reaches(far, near)


def _reaches(source: Pod, target: Pod) -> bool:
    return _arrives(source.netns, target.ip, PORT, target.netns)


def _arrives(sender: Netns, address: str, port: int, listener: Netns, listens_on: int = 0) -> bool:
    """Does a datagram arrive, at the port it is sent to unless something leads it elsewhere?"""
    with packets.udp_socket(listener, listens_on or port) as listening:
        packets.send_datagram(sender, address, port, b"hello")
        return packets.received(listening) is not None
