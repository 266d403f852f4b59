"""Peers that do what no peer of ours does: what they say neither counts nor harms others."""

from __future__ import annotations

from dataclasses import replace

import pytest

from tests.sim.cluster import Cluster
from tests.sim.invariants import Watchman
from tests.sim.node import Node
from tests.sim.wire import frame_bytes
from weave_gossip.core import repair, sizes
from weave_gossip.core.documents import Document, DocumentId
from weave_gossip.core.effects import Effect, LinkId, Send
from weave_gossip.core.facts import Link
from weave_gossip.core.knowledge import MAX_LISTED_LINKS
from weave_gossip.core.linkkeeping import PROOF_HOLDS_S
from weave_gossip.core.messages import Digest, Documents, Message, Ping, Pong
from weave_gossip.core.options import MeshOptions
from weave_gossip.core.status import ConnectionState
from weave_model.peer import PeerName

ABSENT = PeerName(b"absent")


@pytest.fixture
def four() -> Cluster:
    cluster = Cluster(4, seed=1)
    Watchman(cluster, connection_limit=30)
    cluster.start()
    cluster.run_to(cluster.is_converged, within_s=5)
    return cluster


def say(node: Node, message: Message) -> None:
    for stream in node.streams.values():
        node.network.send(stream, message)


def own(node: Node, topic: str, payload: bytes = b"", *, version: int = 99) -> Document:
    withdrawn = not payload
    return Document(DocumentId(topic, node.name, ""), 1, version, payload, withdrawn)


def test_who_takes_its_links_back_is_out_of_reach(four: Cluster) -> None:
    liar, *others = four.nodes

    say(liar, Documents((own(liar, "links"),)))
    four.run(0.5)

    for node in others:
        assert not node.mesh._knowledge.topology.is_reachable(liar.name)
        assert node.mesh.status().links == 3


def test_who_takes_its_facts_back_is_no_longer_shown(four: Cluster) -> None:
    liar, *others = four.nodes

    say(liar, Documents((own(liar, "peers"),)))
    four.run(0.2)

    for node in others:
        assert liar.name not in {peer.name for peer in node.mesh.peers()}


def test_more_links_than_anybody_can_hold_are_not_believed(four: Cluster) -> None:
    liar, *others = four.nodes
    many = tuple(
        Link(PeerName(b"\x06" + number.to_bytes(5, "big")), outbound=True)
        for number in range(1, MAX_LISTED_LINKS + 2)
    )

    say(liar, Documents((own(liar, "links", four.codec.encode_links(many)),)))
    four.run(0.2)

    for node in others:
        [quarantined] = node.mesh.quarantined()
        assert str(MAX_LISTED_LINKS) in quarantined.reason


def test_links_nobody_can_read_are_shown_as_none(four: Cluster) -> None:
    liar, witness, *_ = four.nodes

    say(liar, Documents((own(liar, "links", b"nonsense"),)))
    four.run(0.2)

    [shown] = [each for each in witness.mesh.peer_links() if each.peer.name == liar.name]
    assert shown.links == ()


def test_removals_taken_back_bring_the_removed_back(four: Cluster) -> None:
    one, other, _, gone = four.nodes
    gone.crash(dark=True)
    four.run(12)
    one.mesh.remove_peer(gone.name, one.now)
    one.perform()
    four.run(1)
    assert gone.name not in {peer.name for peer in other.mesh.peers()}

    say(one, Documents((own(one, "removed"),)))
    four.run(0.2)

    assert other.mesh._knowledge.removals.departed(other.mesh._knowledge.replica) == {}


def test_who_writes_so_much_that_its_own_facts_give_way_harms_itself_only(four: Cluster) -> None:
    liar, *others = four.nodes
    many = [
        Document(DocumentId("a", liar.name, f"{number:03}"), 1, 1, b"x") for number in range(64)
    ]
    withdrawn = Document(DocumentId("zone", liar.name, ""), 1, 1, withdrawn=True)

    say(liar, Documents((withdrawn, *many)))
    four.run(0.6)

    for node in others:
        held = node.mesh._knowledge.replica.of_writer(liar.name)
        assert {document.id.topic for document in held} == {"a"}
        assert node.mesh.status().reachable_peers == 3
        assert node.mesh.status().links == 3


def test_a_peer_that_lost_its_state_still_says_who_departed(four: Cluster) -> None:
    remover, other, _, gone = four.nodes
    gone.crash(dark=True)
    four.run(12)
    remover.mesh.remove_peer(gone.name, remover.now)
    remover.perform()
    four.run(1)
    remover.crash(dark=False, lose_state=True)
    four.run(1)

    remover.start()
    # What the mesh remembers of the former life is answered in the new one, a moment later.
    four.run(5)
    four.run_to(four.is_converged, within_s=20)

    said = other.mesh._knowledge.replica.get(DocumentId("removed", remover.name, ""))
    assert said is not None
    assert said.incarnation == remover.stored_incarnation > 1
    departed = other.mesh._knowledge.removals.departed(other.mesh._knowledge.replica)
    assert gone.name in departed
    assert gone.name not in {peer.name for peer in remover.mesh.peers()}


def test_removing_a_peer_nobody_knows_is_success(four: Cluster) -> None:
    one = four.nodes[0]
    before = one.mesh.status().documents

    one.mesh.remove_peer(ABSENT, one.now)

    assert one.mesh.status().documents == before


@pytest.mark.parametrize("payload", [b"nonsense", None])
def test_facts_forged_again_and_again_are_answered_again_and_again(
    four: Cluster, payload: bytes | None
) -> None:
    """None: our very facts in a later life, which is no other machine."""
    liar, victim, *_ = four.nodes
    victim.log = []
    for life in range(2, 6):
        facts = four.codec.encode_facts(victim.mesh._publisher.facts)
        forged_id = DocumentId("peers", victim.name, "")
        say(liar, Documents((Document(forged_id, 10 * life, 1, payload or facts),)))
        four.run(20)

    four.run_to(four.is_converged, within_s=60)
    assert victim.stored_incarnation > 50
    assert not [line for line in victim.log if "collision" in line]


@pytest.mark.parametrize(
    "digest",
    [
        Digest(buckets=0),
        Digest(buckets=2048),
        Digest(buckets=16, bucket_digests=(1, 2, 3)),
        Digest(buckets=16, bucket_numbers=(16,)),
    ],
)
def test_a_comparison_against_the_rules_ends_that_link(four: Cluster, digest: Digest) -> None:
    liar, victim, *_ = four.nodes
    [stream] = [each for each in liar.streams.values() if each.other.node is victim]

    four.network.send(stream, digest)
    four.run(0.1)

    assert victim.mesh.status().terminated_connections == 1


def test_versions_without_a_wish_for_ours_are_taken_and_not_answered(four: Cluster) -> None:
    four.run(10)
    liar, victim, *_ = four.nodes
    [stream] = [each for each in liar.streams.values() if each.other.node is victim]
    four.network.bytes_by_kind.clear()

    four.network.send(stream, Digest(buckets=16, bucket_numbers=tuple(range(16))))
    four.run(0.3)

    assert "Announce" not in four.network.bytes_by_kind


@pytest.mark.parametrize("buckets", [1, 16])
def test_a_comparison_is_cut_in_pieces_that_fit_a_frame(
    monkeypatch: pytest.MonkeyPatch, buckets: int
) -> None:
    """Who asks coarsely got all versions of a bucket in one frame, however many there were."""
    monkeypatch.setattr(repair, "MAX_BATCH_BYTES", 2000)
    monkeypatch.setattr(sizes, "MAX_BATCH_BYTES", 2000)
    cluster = Cluster(2, seed=1)
    cluster.start()
    cluster.run_to(cluster.is_converged, within_s=5)
    asking, answering = cluster.nodes
    for number in range(60):
        answering.publish("ring", f"{number:02}", b"x")
    cluster.run(2)
    answers: list[Digest] = []

    def note(node: Node, effect: Effect) -> None:
        if isinstance(effect, Send) and isinstance(effect.message, Digest):
            answers.append(effect.message)

    answering.on_effect = note
    say(asking, Digest(buckets, bucket_digests=(7,) * buckets, reply_wanted=True))
    cluster.run(0.3)

    named = {version.id for answer in answers for version in answer.versions}
    assert named == {document.id for document in answering.mesh._knowledge.replica}
    assert sorted(n for answer in answers for n in answer.bucket_numbers) == list(range(buckets))
    assert all(frame_bytes(answer) <= 2000 for answer in answers)
    assert asking.mesh.status().links == 1


def test_a_message_waits_while_the_neighbour_takes_nothing(four: Cluster) -> None:
    one, other, *_ = four.nodes
    [link] = [each for each in one.mesh._links if each.peer == other.name]
    one.mesh.link_blocked(link.id)
    one.publish("ring", "4", b"x")
    one.mesh.send_unicast(other.name, "paxos", b"prepare", one.now)
    one.perform()
    four.run(0.2)
    assert other.unicasts == []

    one.mesh.link_drained(link.id, one.now)
    one.perform()
    four.run(0.2)

    assert [each.payload for each in other.unicasts] == [b"prepare"]


def test_a_message_to_ourselves_is_delivered(four: Cluster) -> None:
    one = four.nodes[0]

    one.mesh.send_unicast(one.name, "paxos", b"prepare", one.now)
    one.perform()

    assert [(each.source, each.payload) for each in one.unicasts] == [(one.name, b"prepare")]


def test_what_is_said_of_links_that_are_gone_changes_nothing(four: Cluster) -> None:
    one = four.nodes[0]

    one.mesh.link_lost(LinkId(999), "late", one.now)
    one.mesh.link_blocked(LinkId(999))
    one.mesh.link_drained(LinkId(999), one.now)

    assert one.mesh.status().links == 3


def test_a_peer_that_does_not_listen_is_never_dialled(four: Cluster) -> None:
    one, *_, deaf = four.nodes
    facts = replace(deaf.mesh._publisher.facts, listen_port=0)
    deaf.mesh.update_facts(facts, deaf.now)
    deaf.perform()
    four.run(1)

    assert one.mesh._knowledge.directory.addresses(deaf.name) == ()
    assert four.is_converged()


def test_an_old_proof_of_a_collision_does_not_condemn_a_restart() -> None:
    """A clone was refused; half a minute later the original itself restarts, and is let in."""
    cluster = Cluster(3, seed=1)
    cluster.start()
    cluster.run_to(cluster.is_converged, within_s=5)
    original = cluster.nodes[2]
    clone = cluster.add(name=original.name)
    clone.start()
    cluster.run(10)
    clone.crash(dark=True)
    cluster.run(PROOF_HOLDS_S + 10)
    original.crash(dark=True)

    original.start()

    cluster.run(0.5)
    cluster.run_to(cluster.is_converged, within_s=30)
    assert original.mesh.status().links == 2


def test_many_targets_without_discovery_make_a_sparse_mesh() -> None:
    cluster = Cluster(40, seed=1, seeds=40, options=MeshOptions(discovery=False))
    cluster.start()

    cluster.run_to(cluster.is_converged, within_s=60)

    assert all(node.mesh.status().links <= 30 for node in cluster.nodes)


def test_an_address_claimed_and_given_back_leads_to_its_owner_again(four: Cluster) -> None:
    owner, claimant, witness, _ = four.nodes
    facts = claimant.mesh._publisher.facts
    both = owner.mesh._publisher.facts.underlay_addresses + facts.underlay_addresses
    for said in (replace(facts, underlay_addresses=both), facts):
        claimant.mesh.update_facts(said, claimant.now)
        claimant.perform()
        four.run(1)

    directory = witness.mesh._knowledge.directory
    assert directory.at(owner.address) == owner.name
    assert directory.at(claimant.address) == claimant.name


def test_what_a_full_buffer_drops_is_made_good_once_it_drains(four: Cluster) -> None:
    """A comparison over a link that takes nothing says nothing; the next one does."""
    one = four.nodes[0]
    for link in list(one.mesh._links):
        one.mesh.link_blocked(link.id)
    one.publish("ring", "4", b"x")
    sent: list[Message] = []

    def note(_: Node, effect: Effect) -> None:
        if isinstance(effect, Send):
            sent.append(effect.message)

    one.on_effect = note
    four.run(4)
    assert {type(message) for message in sent} <= {Ping, Pong}

    for link in list(one.mesh._links):
        one.mesh.link_drained(link.id, one.now)
    one.perform()
    four.run_to(four.is_converged, within_s=5)


def test_an_address_that_is_being_dialled_is_shown_so() -> None:
    cluster = Cluster(2, seed=1)
    one, absent = cluster.nodes
    absent.is_dark = True
    one.start()
    cluster.run(0.2)
    first = {each.address: each for each in one.mesh.connections()}[absent.address]
    cluster.run(6)
    failed = {each.address: each for each in one.mesh.connections()}[absent.address]
    one.mesh.connect([absent.address], replace=False, now=one.now)
    one.perform()
    cluster.run(0.2)
    again = {each.address: each for each in one.mesh.connections()}[absent.address]

    states = [each.state for each in (first, failed, again)]
    assert states == [ConnectionState.CONNECTING, ConnectionState.FAILED, ConnectionState.RETRYING]
    assert first.last_error == ""
    assert failed.last_error == again.last_error == "i/o timeout"
