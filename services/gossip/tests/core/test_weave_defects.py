"""Defects of Weave Net's mesh that had to do with links and lives, each with its test here; see
docs/mesh-defects.md.
"""

from __future__ import annotations

from dataclasses import replace

import pytest

from services.gossip.tests.core.meshes import formed, say
from weave_gossip.core.documents import Document, DocumentId
from weave_gossip.core.messages import Digest, Documents
from weave_gossip.core.status import ConnectionState
from weave_model.peer import PeerName


def test_after_a_cut_the_newest_link_wins_at_once() -> None:
    """A coin decided between a half-open and a new connection, so that reconnecting went in
    circles.
    """
    cluster = formed(2)
    one, other = cluster.nodes
    before = [node.mesh.status().terminated_connections for node in cluster.nodes]
    for stream in list(one.streams.values()):
        one.network.conditions.cuts.add((other.number, one.number))
        one.lost(stream, "connection reset by peer")
    one.network.conditions.heal()

    cluster.run(1)
    cluster.run_to(cluster.is_converged, within_s=7)

    lost = [node.mesh.status().terminated_connections for node in cluster.nodes]
    assert [now - then for now, then in zip(lost, before, strict=True)] == [1, 1]


def test_a_black_hole_is_noticed_within_ten_seconds_on_both_sides() -> None:
    """There was no deadline for writing, and 60 s for reading."""
    cluster = formed(2)
    cluster.conditions.cuts |= {(0, 1), (1, 0)}

    cluster.run(10)

    assert [node.mesh.status().links for node in cluster.nodes] == [0, 0]


def test_a_neighbour_that_takes_nothing_is_given_up() -> None:
    """There was no deadline for writing: who was heard but did not read stayed a neighbour."""
    cluster = formed(2)
    one, _ = cluster.nodes
    [link] = one.mesh._links

    one.mesh.link_blocked(link.id)
    cluster.run(8)

    assert one.mesh.status().terminated_connections == 1


def test_a_path_that_fails_one_way_is_noticed_too() -> None:
    cluster = formed(2)
    cluster.conditions.cuts.add((0, 1))

    cluster.run(10)

    assert [node.mesh.status().reachable_peers for node in cluster.nodes] == [1, 1]


@pytest.mark.parametrize("topic", ["ring", "links", "peers", "removed"])
def test_a_document_nobody_can_read_never_closes_a_link(topic: str) -> None:
    """An error of any consumer closed the connection, and with it the data path."""
    cluster = formed(3)
    liar, *others = cluster.nodes
    bad = Document(DocumentId(topic, liar.name, ""), 1, 99, b"\xff\xfe nonsense")

    say(liar, Documents((bad,)))
    cluster.run(0.1)
    if topic == "ring":
        for node in others:
            node.mesh.quarantine(bad.id, 1, 99, "no ring", node.now)

    for node in others:
        assert [each.id.topic for each in node.mesh.quarantined()] == [topic]
        assert node.mesh.status().links == 2
    cluster.run_to(cluster.is_converged, within_s=10)


def test_states_of_equal_version_converge() -> None:
    """Equal versions with different content never met."""
    cluster = formed(3)
    absent = PeerName(b"absent")
    one, two, _ = cluster.nodes
    say(one, Documents((Document(DocumentId("ring", absent, "4"), 1, 1, b"a"),)))
    say(two, Documents((Document(DocumentId("ring", absent, "4"), 1, 1, b"b"),)))

    cluster.run(1)
    cluster.run_to(cluster.is_converged, within_s=15)

    assert len({node.mesh.documents("ring")[0].payload for node in cluster.nodes}) == 1


def test_a_consumer_that_is_busy_does_not_cost_a_link() -> None:
    """A blocked consumer kept heartbeats from being read; here effects only wait in a list."""
    cluster = formed(2)
    one, other = cluster.nodes
    one.on_document = lambda node, document: node.stall(2.0)

    other.publish("ring", "4", b"x")
    cluster.run(20)

    assert one.mesh.status().terminated_connections == 0


def test_two_third_parties_with_one_name_are_told() -> None:
    """Two hosts with one name, neither ours, overwrote each other's records in silence."""
    cluster = formed(4)
    original = cluster.nodes[3]
    clone = cluster.add(name=original.name)
    for node in cluster.nodes:
        node.log = []
    # The two meet different neighbours, never the same one, so that no handshake can show it.
    apart = {(a, b) for a in (0, 1) for b in (4,)} | {(2, 3)}
    cluster.conditions.cuts |= apart | {(b, a) for a, b in apart} | {(3, 4), (4, 3)}

    clone.start()
    cluster.run(60)

    told = [line for node in cluster.nodes for line in node.log or () if "collision" in line]
    assert told
    assert len(told) <= 5 * len(cluster.nodes)


def test_a_clone_that_meets_the_original_is_refused_and_does_not_storm() -> None:
    cluster = formed(3)
    clone = cluster.add(name=cluster.nodes[2].name)

    clone.start()
    cluster.run(120)

    failed = [each for each in clone.mesh.connections() if each.state is ConnectionState.FAILED]
    assert any("peer names collision" in each.last_error for each in failed)
    assert clone.mesh.status().links == 0


def test_a_peer_that_lost_its_state_keeps_its_documents_and_its_name() -> None:
    """A newer life always wins, also one that has forgotten its earlier ones."""
    cluster = formed(3)
    victim = cluster.nodes[2]
    victim.publish("ring", "4", b"ten blocks")
    cluster.run(1)
    victim.crash(dark=False, lose_state=True)
    cluster.run(1)

    victim.start()

    cluster.run_to(cluster.is_converged, within_s=15)
    for node in cluster.nodes:
        [ring] = node.mesh.documents("ring")
        assert ring.payload == b"ten blocks"
    assert victim.stored_incarnation > 1


def test_targets_given_at_start_hold_for_a_restarted_peer_too() -> None:
    """A restarted container ignored the peers on its command line."""
    cluster = formed(3)
    node = cluster.nodes[2]
    node.crash(dark=False)
    node.stored_targets = ("10.0.0.1:6783",)
    node.start()

    assert node.mesh.targets() == ("10.0.0.1:6783",)
    cluster.run_to(cluster.is_converged, within_s=10)


def test_an_address_that_two_peers_claim_confuses_nobody() -> None:
    """A virtual address was taken for ourselves, and its owner for somebody who had left."""
    cluster = formed(3)
    owner, claimant, third = cluster.nodes
    facts = claimant.mesh._publisher.facts
    both = owner.mesh._publisher.facts.underlay_addresses + facts.underlay_addresses
    frames = cluster.network.frames

    claimant.mesh.update_facts(replace(facts, underlay_addresses=both), claimant.now)
    claimant.perform()
    cluster.run(120)

    assert cluster.is_converged()
    assert [node.mesh.status().links for node in cluster.nodes] == [2, 2, 2]
    assert cluster.network.frames - frames < 1000
    # It is still found when it comes back under its own address.
    third.crash(dark=False)
    cluster.run(3)
    third.start()
    cluster.run_to(cluster.is_converged, within_s=15)


def test_a_machine_that_came_back_under_another_name_is_not_dialled_again_and_again() -> None:
    """Whoever looked for the former peer dialled the new one, and each time cut its link."""
    cluster = formed(3)
    machine = cluster.nodes[2]
    machine.crash(dark=False, lose_state=True)
    cluster.run(10)
    machine.name = PeerName(b"\x06\x00\x00\x00\x00\x01")
    machine.start()
    cluster.run(10)
    linked_since = [link.since for node in cluster.nodes for link in node.mesh._links]

    cluster.run(300)

    assert len(linked_since) == 6
    assert [link.since for node in cluster.nodes for link in node.mesh._links] == linked_since


def test_two_peers_that_remove_the_same_one_agree() -> None:
    """Both took over what it had."""
    cluster = formed(4)
    one, other, _, gone = cluster.nodes
    gone.publish("ring", "4", b"ten blocks")
    cluster.run(1)
    gone.crash(dark=True)
    cluster.run(12)

    for node in (one, other):
        node.mesh.remove_peer(gone.name, node.now)
        node.perform()
    cluster.run(2)

    assert cluster.is_converged()
    assert all(node.mesh.documents("ring") == [] for node in cluster.live)
    gone.start()
    cluster.run_to(cluster.is_converged, within_s=15)
    assert [each.payload for each in one.mesh.documents("ring")] == [b"ten blocks"]


def test_a_clock_that_is_wrong_costs_no_link() -> None:
    """A clock 15 minutes off cut the link of whoever had it."""
    cluster = formed(3)

    for node, jump in zip(cluster.nodes, (3600.0, -3600.0, 900.0), strict=True):
        node.clock_offset += jump
        node.mesh.tick(node.now)
        node.perform()
    cluster.run(30)

    assert [node.mesh.status().terminated_connections for node in cluster.nodes] == [0, 0, 0]
    cluster.nodes[1].publish("ring", "4", b"x")
    cluster.run_to(cluster.is_converged, within_s=5)


def test_a_message_against_the_rules_closes_that_link_only() -> None:
    cluster = formed(3)
    liar, victim, other = cluster.nodes
    [stream] = [each for each in liar.streams.values() if each.other.node is victim]

    liar.network.send(stream, Digest(buckets=3, bucket_digests=(1, 2, 3)))
    cluster.run(1)

    reasons = [each.last_error for each in liar.mesh.connections()]
    assert victim.mesh.status().terminated_connections == 1
    assert other.mesh.status().terminated_connections == 0
    assert (
        any("not a power of two" in reason for reason in reasons) or liar.mesh.status().links == 2
    )
