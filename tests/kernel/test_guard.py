"""The guard where two of its rules stand for each other: each of them alone is enough.

What the guard is for, and that nothing else does it, is in `test_traps`.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.kernel import packets
from tests.kernel.cluster import Cluster, Node, Pod, cluster
from tests.kernel.forgeries import PORT, arrives_by_tunnel, dnat
from weave_model.prefix import Family
from weave_router.core import naming

pytestmark = pytest.mark.kernel

SERVICE_PORT = 30080
FOREIGN_NOTRACK = (
    "table inet untracked { chain early { type filter hook prerouting priority -310; "
    "meta l4proto udp notrack; } ; }"
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


def test_strangers_tunnel_packets_that_nobody_tracks(whole: Cluster, a: Node, b: Node) -> None:
    """Chains that see new connections only see none of these."""

    def decapsulated() -> bool:
        return arrives_by_tunnel(a, whole.outsider, str(b.pods[0].ip))

    a.foreign(FOREIGN_NOTRACK)
    assert not decapsulated()

    a.forget_rule("guard", "udp dport 6784 fib")
    assert decapsulated()


def test_strangers_tunnel_packets_by_way_of_a_service(whole: Cluster, a: Node, b: Node) -> None:
    """The guard sees where a packet goes to before it is translated."""
    to_itself = dnat(f"{a.underlay}:6784", "prerouting", f"udp dport {SERVICE_PORT}")
    a.foreign(to_itself)

    def decapsulated() -> bool:
        return arrives_by_tunnel(a, whole.outsider, str(b.pods[0].ip), port=SERVICE_PORT)

    assert not decapsulated()

    a.forget_rule("new_in", "udp dport 6784 drop")
    assert decapsulated()


def test_pods_reach_no_port_of_their_own_node_by_a_service(a: Node) -> None:
    a.foreign(dnat(f"{a.underlay}:6783", "prerouting", f"udp dport {SERVICE_PORT}"))

    def arrives() -> bool:
        with packets.udp_socket(a.netns, 6783) as listener:
            packets.send_datagram(a.pods[0].netns, a.underlay, SERVICE_PORT, b"hello")
            return packets.received(listener) is not None

    assert not arrives()

    a.forget_rule("new_in", "goto mesh_ports")
    assert arrives()


def test_no_connection_waits_for_somebody_to_become_a_peer(whole: Cluster, a: Node) -> None:
    """A connection that began before would not be asked again, and leaves with the address of the
    node, which is that of a peer."""
    a.foreign(dnat("10.99.0.200:6784", "prerouting", f"udp dport {SERVICE_PORT}"))

    def arrives() -> bool:
        with packets.udp_socket(whole.outsider, 6784) as listener:
            packets.send_datagram(a.pods[0].netns, a.underlay, SERVICE_PORT, b"early")
            return packets.received(listener) is not None

    assert not arrives()

    a.forget_rule("new_out", "ct status dnat")
    assert arrives()


def test_a_pod_may_use_these_ports_elsewhere(whole: Cluster, a: Node, b: Node) -> None:
    for listener, address in ((whole.outsider, "10.99.0.200"), (b.pods[0].netns, b.pods[0].ip)):
        with packets.udp_socket(listener, 6784) as listening:
            packets.send_datagram(a.pods[0].netns, address, 6784, b"mine")
            assert packets.received(listening) is not None


@pytest.mark.parametrize("name", ["pod", "tunnel"])
def test_a_device_that_lost_its_group_opens_no_connection(a: Node, b: Node, name: str) -> None:
    near, far = a.pods[0], b.pods[0]
    device = near.record.link if name == "pod" else naming.VXLAN[Family.IPV4]

    a.netns.run("ip", "link", "set", device, "group", "default")
    assert not _reaches(far, near) if name == "tunnel" else not _reaches(near, far)

    a.forget_rule("new_from", "drop")
    assert _reaches(far, near) if name == "tunnel" else _reaches(near, far)

    repaired = a.reconcile()
    assert any("group 0 instead of" in str(operation) for operation in repaired)
    assert _reaches(near, far)
    assert _reaches(far, near)


def _reaches(source: Pod, target: Pod) -> bool:
    with packets.udp_socket(target.netns, PORT) as listener:
        packets.send_datagram(source.netns, target.ip, PORT, b"hello")
        return packets.received(listener) is not None
