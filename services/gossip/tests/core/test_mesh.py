"""A mesh of few peers, on the simulated network."""

from __future__ import annotations

from dataclasses import replace

import pytest

from tests.sim.cluster import Cluster
from weave_gossip.core.documents import Document, DocumentId
from weave_gossip.core.errors import InvalidDocument, NoRoute, PeerReachable
from weave_gossip.core.facts import Link
from weave_gossip.core.messages import Documents, Unicast
from weave_model.peer import PeerName


@pytest.fixture
def three() -> Cluster:
    """Three peers that have found each other."""
    cluster = Cluster(3, seed=1)
    cluster.start()
    cluster.run_to(cluster.is_converged, within_s=5)
    return cluster


def test_three_peers_find_each_other_and_link_in_full(three: Cluster) -> None:
    for node in three.nodes:
        assert node.mesh.status().links == 2
        assert [peer.nickname for peer in node.mesh.peers()] == ["node0", "node1", "node2"]
        assert all(peer.reachable for peer in node.mesh.peers())


def test_a_document_reaches_everybody(three: Cluster) -> None:
    published = three.nodes[0].publish("ring", "4", b"ten blocks")
    three.run(1)

    for node in three.nodes:
        assert node.mesh.documents("ring") == [published]


def test_publishing_the_same_again_changes_nothing(three: Cluster) -> None:
    first = three.nodes[0].publish("ring", "4", b"ten blocks")

    assert three.nodes[0].publish("ring", "4", b"ten blocks") is first


def test_a_withdrawn_document_disappears_everywhere(three: Cluster) -> None:
    three.nodes[0].publish("ring", "4", b"ten blocks")
    three.run(1)
    three.nodes[0].mesh.withdraw("ring", "4", three.nodes[0].now)
    three.nodes[0].perform()
    three.run(1)

    assert all(node.mesh.documents("ring") == [] for node in three.nodes)
    assert three.is_converged()


@pytest.mark.parametrize("topic", ["peers", "links", "removed", "", "t" * 129])
def test_topics_out_of_bounds_are_refused(three: Cluster, topic: str) -> None:
    with pytest.raises(InvalidDocument):
        three.nodes[0].publish(topic, "", b"")


def test_a_message_reaches_a_peer_through_another(three: Cluster) -> None:
    one, between, other = three.nodes
    three.conditions.cuts |= {(one.number, other.number), (other.number, one.number)}
    three.run(15)

    one.mesh.send_unicast(other.name, "paxos", b"prepare", one.now)
    one.perform()
    three.run(1)

    assert one.mesh.status().links == 1
    assert [(each.source, each.payload) for each in other.unicasts] == [(one.name, b"prepare")]
    assert between.unicasts == []


def test_a_message_to_nobody_known_has_no_route(three: Cluster) -> None:
    with pytest.raises(NoRoute):
        three.nodes[0].mesh.send_unicast(PeerName(b"nobody"), "paxos", b"", three.nodes[0].now)


def test_a_peer_away_keeps_its_documents_until_it_is_removed(three: Cluster) -> None:
    one, two, gone = three.nodes
    gone.publish("ring", "4", b"ten blocks")
    three.run(1)
    with pytest.raises(PeerReachable):
        one.mesh.remove_peer(gone.name, one.now)
    gone.crash(dark=True)
    three.run(12)
    assert [peer.reachable for peer in one.mesh.peers()] == [True, True, False]
    assert len(two.mesh.documents("ring")) == 1

    one.mesh.remove_peer(gone.name, one.now)
    one.perform()
    three.run(1)

    assert two.mesh.documents("ring") == []
    assert [peer.nickname for peer in two.mesh.peers()] == ["node0", "node1"]


def test_a_removed_peer_that_comes_back_is_a_member_again(three: Cluster) -> None:
    one, _, gone = three.nodes
    gone.publish("ring", "4", b"ten blocks")
    gone.crash(dark=True)
    three.run(12)
    one.mesh.remove_peer(gone.name, one.now)
    one.perform()
    three.run(1)

    gone.start()

    three.run_to(three.is_converged, within_s=10)
    assert [each.payload for each in one.mesh.documents("ring")] == [b"ten blocks"]


def test_a_restart_without_goodbye_is_back_within_ten_seconds(three: Cluster) -> None:
    """Its old links still look alive to the others, who challenge them before they believe it."""
    one, _, back = three.nodes
    back.crash(dark=True)
    three.run(0.5)

    back.start()

    three.run(0.5)
    three.run_to(three.is_converged, within_s=10)
    assert back.mesh.status().links == 2
    [view] = [peer for peer in one.mesh.peers() if peer.name == back.name]
    assert view.incarnation == 2


def test_a_peer_away_for_an_hour_that_owns_nothing_is_removed(three: Cluster) -> None:
    one, two, gone = three.nodes
    gone.crash(dark=True)

    three.run(3700)

    assert [peer.nickname for peer in one.mesh.peers()] == ["node0", "node1"]
    assert [peer.nickname for peer in two.mesh.peers()] == ["node0", "node1"]
    assert three.is_converged()


def test_a_peer_away_for_hours_that_owns_a_ring_document_stays_known(three: Cluster) -> None:
    one, _, gone = three.nodes
    gone.publish("ring", "4", b"ten blocks")
    three.run(1)
    gone.crash(dark=True)

    three.run(7400)

    assert len(one.mesh.documents("ring")) == 1
    assert [peer.reachable for peer in one.mesh.peers()] == [True, True, False]


def test_forgotten_targets_are_not_dialled_again(three: Cluster) -> None:
    one, two, _ = three.nodes
    one.mesh.forget([two.address], one.now)

    one.perform()

    assert two.address not in one.mesh.targets()
    assert one.stored_targets == one.mesh.targets()
    assert one.mesh.status().links == 2


def test_replaced_targets_leave_links_alone(three: Cluster) -> None:
    one = three.nodes[0]

    one.mesh.connect(["10.9.9.9:6783"], replace=True, now=one.now)
    one.perform()
    three.run(1)

    assert one.mesh.targets() == ("10.9.9.9:6783",)
    assert one.mesh.status().links == 2


def test_only_features_of_all_reachable_peers_are_common(three: Cluster) -> None:
    one, two, gone = three.nodes
    for node, features in ((one, ("relay", "sleeve")), (two, ("relay",))):
        facts = node.mesh._publisher.facts
        node.mesh.update_facts(replace(facts, features=features), node.now)
        node.perform()
    three.run(1)
    assert one.mesh.common_features() == frozenset()

    gone.crash(dark=False)
    three.run(2)

    assert one.mesh.common_features() == {"relay"}


def test_a_message_that_circles_ends(three: Cluster) -> None:
    one, two, _ = three.nodes
    [stream] = [each for each in one.streams.values() if each.other.node is two]
    frames = three.network.frames

    one.network.send(stream, Unicast(one.name, PeerName(b"nobody"), "x", b"", 200))
    three.run(0.3)

    assert three.network.frames - frames < 10


def test_a_peer_removed_by_mistake_goes_on_with_its_links_and_documents(three: Cluster) -> None:
    """Two halves apart: one says that the other has departed, which is not so."""
    one, _, apart = three.nodes
    apart.publish("ring", "4", b"ten blocks")
    three.run(1)
    three.conditions.groups[apart.number] = 1
    three.run(15)
    one.mesh.remove_peer(apart.name, one.now)
    one.perform()
    three.run(1)

    three.conditions.heal()

    three.run_to(three.is_converged, within_s=30)
    assert [peer.reachable for peer in apart.mesh.peers()] == [True, True, True]
    assert [each.payload for each in one.mesh.documents("ring")] == [b"ten blocks"]
    three.run(5)
    assert three.is_converged()


def test_lists_of_links_under_other_keys_say_nothing(three: Cluster) -> None:
    """Of several, what counted would depend on which came last, and peers would disagree."""
    liar, *others = three.nodes
    codec = three.codec
    listed = codec.encode_links((Link(PeerName(b"nobody"), outbound=True),))
    forged = Document(DocumentId("links", liar.name, "x"), 1, 9, listed)
    for stream in liar.streams.values():
        liar.network.send(stream, Documents((forged,)))

    three.run(1)

    assert all(forged.id in {each.id for each in node.mesh.documents("links")} for node in others)
    assert all(node.mesh.status().reachable_peers == 3 for node in others)
