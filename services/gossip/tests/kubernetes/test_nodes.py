"""What Nodes mean for the mesh."""

from __future__ import annotations

from services.gossip.tests.kubernetes.fake_api import node
from weave_gossip.core.status import PeerView
from weave_gossip.kubernetes import nodes
from weave_gossip.kubernetes.nodes import NodeFacts, parse_node
from weave_model.peer import PeerName

A, B, C = (PeerName(bytes([0, 0, 0, 0, 0, n])) for n in (1, 2, 3))


def facts(name: str, *addresses: str, uid: str = "") -> NodeFacts:
    return NodeFacts(name, uid or f"uid-{name}", addresses)


def peer(name: PeerName, on: str, uid: str = "", *, reachable: bool = False) -> PeerView:
    return PeerView(name, on, name == A, reachable or name == A, 1, uid or f"uid-{on}")


def by_name(*items: NodeFacts) -> dict[str, NodeFacts]:
    return {item.name: item for item in items}


def test_internal_addresses_are_preferred_and_names_left_out() -> None:
    item = node("a", "10.0.0.1", "fd00::1")
    item["status"]["addresses"].insert(0, {"type": "ExternalIP", "address": "192.0.2.1"})

    assert parse_node(item) == facts("a", "10.0.0.1", "fd00::1")


def test_external_addresses_serve_where_there_are_no_others() -> None:
    item = {"metadata": {"name": "a", "uid": "u"}, "status": {}}
    item["status"] = {"addresses": [{"type": "ExternalIP", "address": "192.0.2.1"}]}  # type: ignore[dict-item]

    assert parse_node(item).addresses == ("192.0.2.1",)


def test_all_other_nodes_are_dialled() -> None:
    cluster = [facts("a", "10.0.0.1"), facts("b", "10.0.0.2"), facts("c", "fd00::3"), facts("d")]

    assert nodes.targets(cluster, "a", 6783) == ("10.0.0.2:6783", "[fd00::3]:6783")


def test_a_node_that_shares_our_address_is_still_a_peer() -> None:
    """Virtual addresses move between nodes; Weave Net took their bearer for itself."""
    cluster = [facts("a", "10.0.0.9", "10.0.0.1"), facts("b", "10.0.0.9", "10.0.0.2")]

    assert nodes.targets(cluster, "a", 6783) == ("10.0.0.2:6783",)


def test_the_own_underlay_address_is_ours_alone_and_on_this_machine() -> None:
    cluster = [
        facts("a", "10.0.0.9", "10.0.0.7", "10.0.0.1", "fd00::1"),
        facts("b", "10.0.0.9"),
    ]

    found = nodes.underlay_addresses(cluster, "a", lambda address: address != "10.0.0.7")

    assert found == (bytes([10, 0, 0, 1]), bytes([0xFD]) + bytes(14) + b"\x01")


def test_a_peer_whose_node_is_gone_has_departed() -> None:
    peers = [peer(A, "a"), peer(B, "b")]

    assert nodes.departed(by_name(facts("a")), peers) == {B}


def test_a_reachable_peer_never_departs() -> None:
    peers = [peer(A, "a"), peer(B, "b", reachable=True)]

    assert nodes.departed(by_name(facts("a")), peers) == frozenset()


def test_a_node_that_was_registered_anew_keeps_its_peer() -> None:
    cluster = by_name(facts("a"), facts("b", uid="new"))

    assert nodes.departed(cluster, [peer(A, "a"), peer(B, "b", "old")]) == frozenset()


def test_a_peer_replaced_by_another_on_its_node_has_departed() -> None:
    cluster = by_name(facts("a"), facts("b", uid="new"))
    peers = [peer(A, "a"), peer(B, "b", "old"), peer(C, "b", "new", reachable=True)]

    assert nodes.departed(cluster, peers) == {B}


def test_the_former_name_of_a_machine_that_lost_its_state_has_departed() -> None:
    peers = [peer(A, "a"), peer(B, "b"), peer(C, "b", reachable=True)]

    assert nodes.departed(by_name(facts("a"), facts("b")), peers) == {B}


def test_two_names_of_a_node_that_is_away_are_kept() -> None:
    peers = [peer(A, "a"), peer(B, "b"), peer(C, "b")]

    assert nodes.departed(by_name(facts("a"), facts("b")), peers) == frozenset()


def test_peers_outside_of_the_cluster_are_left_alone() -> None:
    stranger = PeerView(B, "elsewhere", False, False, 1)

    assert nodes.departed(by_name(facts("a")), [peer(A, "a"), stranger]) == frozenset()
