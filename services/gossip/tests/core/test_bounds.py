"""What is too large, too many or against the rules, and what becomes of it."""

from __future__ import annotations

import pytest

from tests.sim.cluster import Cluster
from tests.sim.invariants import Watchman
from weave_gossip.core.documents import MAX_INCARNATION, MAX_PAYLOAD_BYTES, Document, DocumentId
from weave_gossip.core.errors import InvalidDocument, InvalidMessage
from weave_gossip.core.knowledge import check_document
from weave_gossip.core.options import MeshOptions
from weave_gossip.core.replica import MAX_DOCUMENTS_PER_WRITER
from weave_gossip.core.sizes import MAX_BATCH_BYTES, batches
from weave_model.peer import PeerName

NAME = PeerName(b"\x02\x00\x00\x00\x00\x07")


@pytest.fixture
def pair() -> Cluster:
    cluster = Cluster(2, seed=1)
    Watchman(cluster, connection_limit=30)
    cluster.start()
    cluster.run_to(cluster.is_converged, within_s=5)
    return cluster


@pytest.mark.parametrize(
    ("document", "names"),
    [
        (Document(DocumentId("", NAME, ""), 1, 1), "topic"),
        (Document(DocumentId("t" * 129, NAME, ""), 1, 1), "topic"),
        (Document(DocumentId("ring", NAME, "k" * 129), 1, 1), "key"),
        (Document(DocumentId("ring", NAME, ""), 1, 1, bytes(MAX_PAYLOAD_BYTES + 1)), "payload"),
        (Document(DocumentId("ring", NAME, ""), 1, 1, b"x", withdrawn=True), "withdrawn"),
        (Document(DocumentId("ring", NAME, ""), MAX_INCARNATION + 1, 1), "incarnation"),
    ],
)
def test_a_document_out_of_bounds_is_named(document: Document, names: str) -> None:
    with pytest.raises(InvalidMessage, match=names):
        check_document(document)


def test_documents_of_the_greatest_size_travel_one_by_one(pair: Cluster) -> None:
    """Three of them do not fit a frame; the watchman checks every frame."""
    writer, reader = pair.nodes
    for key in "123":
        writer.publish("big", key, key.encode() * MAX_PAYLOAD_BYTES)

    pair.run(1)
    pair.run_to(pair.is_converged, within_s=10)

    assert [len(each.payload) for each in reader.mesh.documents("big")] == 3 * [MAX_PAYLOAD_BYTES]


def test_what_cannot_be_published_is_refused(pair: Cluster) -> None:
    writer = pair.nodes[0]

    with pytest.raises(InvalidDocument, match="payload"):
        writer.publish("big", "", bytes(MAX_PAYLOAD_BYTES + 1))
    with pytest.raises(InvalidDocument, match="key"):
        writer.publish("ring", "k" * 129, b"")
    # Two of them are the mesh's own: peers and links.
    for number in range(MAX_DOCUMENTS_PER_WRITER - 2):
        writer.publish("ring", str(number), b"")
    with pytest.raises(InvalidDocument, match="documents"):
        writer.publish("ring", "one more", b"")


def test_a_message_over_64_kib_is_refused(pair: Cluster) -> None:
    one, other = pair.nodes

    with pytest.raises(InvalidDocument, match="65537"):
        one.mesh.send_unicast(other.name, "paxos", bytes(65537), one.now)


def test_quarantine_of_a_version_no_longer_held_changes_nothing(pair: Cluster) -> None:
    writer, reader = pair.nodes
    document = writer.publish("ring", "4", b"bad")
    pair.run(1)
    reader.mesh.quarantine(document.id, 1, 1, "no ring", reader.now)
    assert [each.reason for each in reader.mesh.quarantined()] == ["no ring"]

    writer.publish("ring", "4", b"good")
    pair.run(1)
    reader.mesh.quarantine(document.id, 1, 1, "no ring", reader.now)

    assert reader.mesh.quarantined() == []


def test_batches_keep_order_and_the_limit() -> None:
    sizes = [1, MAX_BATCH_BYTES - 1, 1, 3 * MAX_BATCH_BYTES, 5]

    cut = list(batches(sizes, int))

    assert [size for batch in cut for size in batch] == sizes
    assert all(len(batch) == 1 or sum(batch) <= MAX_BATCH_BYTES for batch in cut)
    assert list(batches([], int)) == []


def test_a_negative_limit_is_refused() -> None:
    with pytest.raises(ValueError, match="-1"):
        MeshOptions(connection_limit=-1)


def test_links_are_reported_from_both_ends(pair: Cluster) -> None:
    one, other = pair.nodes

    reported = {each.peer.nickname: each.links for each in one.mesh.peer_links()}

    [there] = reported["node0"]
    [back] = reported["node1"]
    assert (there.peer, there.address, there.established) == (other.name, other.address, True)
    assert (back.peer, back.outbound) == (one.name, not there.outbound)
