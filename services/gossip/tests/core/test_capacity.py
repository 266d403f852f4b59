"""What one who invents writers and documents can take of the others' memory."""

from __future__ import annotations

import pytest

from tests.sim.cluster import Cluster
from weave_gossip.core import capacity, fetching, linkkeeping
from weave_gossip.core.documents import Document, DocumentId
from weave_gossip.core.effects import LinkId
from weave_gossip.core.messages import Announce, Documents, Hello, Want
from weave_gossip.core.replica import Merged, Replica
from weave_model.peer import PeerName

HONEST = PeerName(b"\x02\x00\x00\x00\x00\x07")


def invented(number: int, payload: bytes = b"", *, version: int = 1) -> Document:
    writer = PeerName(b"\x06" + number.to_bytes(5, "big"))
    return Document(DocumentId("ring", writer, ""), 1, version, payload)


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Limits that a test reaches."""
    monkeypatch.setattr(capacity, "MAX_WRITERS", 10)
    monkeypatch.setattr(capacity, "ENTITLED_BYTES", 1000)
    monkeypatch.setattr(capacity, "POOL_BYTES", 5000)


@pytest.mark.usefixtures("small")
def test_invented_writers_do_not_displace_those_that_were_there() -> None:
    replica = Replica()
    honest = Document(DocumentId("ring", HONEST, ""), 1, 1, b"blocks")
    replica.merge(honest)

    merged = [replica.merge(invented(number)) for number in range(1, 100)]

    assert merged == [Merged.NEWER] * 9 + [Merged.FULL] * 90
    assert replica.get(honest.id) is honest
    changed = Document(honest.id, 1, 2, bytes(500))
    assert replica.merge(changed) is Merged.NEWER


@pytest.mark.usefixtures("small")
def test_the_pool_is_shared_and_the_entitlement_is_not() -> None:
    replica = Replica()

    greedy = [replica.merge(invented(number, bytes(3000))) for number in range(1, 5)]
    modest = replica.merge(invented(9, bytes(500)))

    assert greedy == [Merged.NEWER, Merged.NEWER, Merged.FULL, Merged.FULL]
    assert modest is Merged.NEWER


@pytest.mark.usefixtures("small")
def test_what_takes_no_more_room_is_always_taken() -> None:
    replica = Replica()
    for number in range(1, 5):
        replica.merge(invented(number, bytes(3000)))

    assert replica.merge(invented(1, b"x" * 3000, version=2)) is Merged.NEWER
    assert replica.merge(invented(1, bytes(4000), version=3)) is Merged.FULL


@pytest.mark.usefixtures("small")
def test_what_was_refused_is_not_asked_for_again_until_there_is_room() -> None:
    replica = Replica()
    for number in range(1, 4):
        replica.merge(invented(number, bytes(3000)))
    refused = invented(3, bytes(3000))
    assert not replica.is_newer(refused.stamp)

    replica.set_departed({invented(1).id.writer: 1})

    assert replica.is_newer(refused.stamp)
    assert replica.merge(refused) is Merged.NEWER


@pytest.mark.usefixtures("small")
def test_a_writer_beyond_the_last_is_not_asked_for() -> None:
    replica = Replica()
    for number in range(1, 11):
        replica.merge(invented(number))

    assert not replica.is_newer(invented(11).stamp)
    assert replica.is_newer(invented(10, version=2).stamp)


@pytest.mark.usefixtures("small")
def test_our_own_documents_always_fit() -> None:
    replica = Replica()
    for number in range(1, 100):
        replica.merge(invented(number, bytes(3000)))

    ours = Document(DocumentId("ring", HONEST, ""), 1, 1, bytes(9000))
    assert replica.merge(ours) is Merged.FULL
    assert replica.merge(ours, must_fit=True) is Merged.NEWER


def test_what_is_remembered_of_refusals_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(capacity, "MAX_WRITERS", 0)
    monkeypatch.setattr(capacity, "MAX_REMEMBERED", 5)
    replica = Replica()

    for number in range(1, 20):
        replica.merge(invented(number))

    assert len(replica._capacity._refused) == 5


@pytest.mark.usefixtures("small")
def test_an_inventor_costs_neither_links_nor_agreement_and_is_told_once() -> None:
    cluster = Cluster(4, 1)
    cluster.start()
    cluster.run_to(cluster.is_converged, within_s=10)
    liar, *others = cluster.nodes
    for node in others:
        node.log = []
    for number in range(1, 200):
        for stream in liar.streams.values():
            liar.network.send(stream, Documents((invented(number),)))
        cluster.run(0.05)

    others[0].publish("ring", "4", b"still heard")
    cluster.run(2)

    for node in others:
        assert [each.payload for each in node.mesh.documents("ring") if each.payload] == [
            b"still heard"
        ]
        assert node.mesh.status().links == 3
        assert len([line for line in node.log or () if "no room for" in line]) == 1


def test_names_announced_by_the_million_cost_bounded_memory(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(fetching, "MAX_MISSING", 100)
    cluster = Cluster(2, 1)
    cluster.start()
    cluster.run_to(cluster.is_converged, within_s=10)
    liar, victim = cluster.nodes
    [stream] = liar.streams.values()

    liar.network.send(stream, Announce(tuple(invented(number).stamp for number in range(1, 5000))))
    cluster.run(0.06)

    assert len(victim.mesh._exchange._fetching) == 100
    cluster.run(5)
    assert len(victim.mesh._exchange._fetching) == 0


def test_questions_for_what_nobody_has_cost_no_memory() -> None:
    """A peer that asks and does not read the answers fills no queue."""
    cluster = Cluster(2, 1)
    cluster.start()
    cluster.run_to(cluster.is_converged, within_s=10)
    liar, victim = cluster.nodes
    [link] = victim.mesh._links
    victim.mesh.link_blocked(link.id)
    [stream] = liar.streams.values()

    liar.network.send(stream, Want(tuple(invented(number).id for number in range(1, 5000))))
    cluster.run(0.1)

    assert not link.replies


def test_names_of_documents_that_gave_way_do_not_pile_up_for_a_slow_link() -> None:
    """Found by seed 1242 with 50 peers: a liar's documents displaced each other all the time."""
    cluster = Cluster(3, 1)
    cluster.start()
    cluster.run_to(cluster.is_converged, within_s=10)
    liar, victim, slow = cluster.nodes
    [link] = [each for each in victim.mesh._links if each.peer == slow.name]
    victim.mesh.link_blocked(link.id)
    [stream] = [each for each in liar.streams.values() if each.other.node is victim]

    for is_eager in (True, False):
        link.is_eager = is_eager
        for number in range(999, 0, -1):
            key = f"{is_eager}{number:03}"
            document = Document(DocumentId("ring", liar.name, key), 1, 1, b"x")
            cluster.network.send(stream, Documents((document,)))
        cluster.run(0.5)
        bound = len(victim.mesh._knowledge.replica) + 64
        assert len(link.push) <= bound
        assert len(link.announce) <= bound


def test_strangers_that_come_under_ever_new_names_cost_no_memory(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Each held a link for a moment and said nothing, so that nobody ever removed it."""
    monkeypatch.setattr(linkkeeping, "MAX_REMEMBERED_LIVES", 10)
    cluster = Cluster(1, 1)
    cluster.start()
    [node] = cluster.nodes

    for number in range(1, 101):
        hello = Hello(invented(number).id.writer, "", 1, bytes(8), 0)
        link = LinkId(number)
        node.mesh.link_established(
            link, hello, outbound=False, address="10.9.9.9:1", epoch=number, now=node.now
        )
        node.mesh.link_lost(link, "closed", node.now)

    assert len(node.mesh._parts.keeper._instances) == 10
