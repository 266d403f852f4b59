"""Merging: what makes any two replicas agree, and the digests that show when they do."""

from __future__ import annotations

from functools import reduce
from operator import xor

import pytest
from hypothesis import given
from hypothesis import strategies as st

from weave_gossip.core.documents import MAX_BUCKETS, TOPIC_REMOVED, Document, DocumentId
from weave_gossip.core.replica import (
    MAX_DOCUMENTS_PER_WRITER,
    Merged,
    Replica,
)
from weave_model.peer import PeerName

WRITERS = [PeerName(bytes([2, 0, 0, 0, 0, number])) for number in range(1, 4)]

ids = st.builds(
    DocumentId,
    st.sampled_from(["ring", "peers", TOPIC_REMOVED]),
    st.sampled_from(WRITERS),
    st.sampled_from(["", "4"]),
)


def _document(document_id: DocumentId, incarnation: int, version: int, payload: bytes) -> Document:
    withdrawn = payload == b"withdrawn"
    return Document(document_id, incarnation, version, b"" if withdrawn else payload, withdrawn)


documents = st.builds(
    _document,
    ids,
    st.integers(0, 2),
    st.integers(1, 3),
    st.sampled_from([b"", b"a", b"b", b"withdrawn"]),
)
# Lives that departed.
tables = st.dictionaries(st.sampled_from(WRITERS), st.integers(0, 2))


def replica_of(arrived: list[Document], departed: dict[PeerName, int] | None = None) -> Replica:
    replica = Replica()
    replica.set_departed(departed or {})
    for document in arrived:
        replica.merge(document)
    return replica


def contents(replica: Replica) -> set[Document]:
    return set(replica)


@given(st.lists(documents), st.randoms(use_true_random=False))
def test_any_order_and_duplication_ends_in_the_same_replica(
    arrived: list[Document], random: object
) -> None:
    shuffled = arrived + arrived[::2]
    random.shuffle(shuffled)  # type: ignore[attr-defined]

    assert contents(replica_of(arrived)) == contents(replica_of(shuffled))


@given(st.lists(documents), st.lists(documents), st.lists(documents))
def test_merging_is_associative(
    one: list[Document], two: list[Document], three: list[Document]
) -> None:
    left = replica_of([*replica_of(one + two), *three])
    right = replica_of([*one, *replica_of(two + three)])

    assert contents(left) == contents(right)


@given(st.lists(documents))
def test_merging_is_idempotent(arrived: list[Document]) -> None:
    replica = replica_of(arrived)

    assert all(replica.merge(document) is Merged.SAME for document in list(replica))


@given(documents, documents)
def test_of_two_states_of_a_document_the_greater_stays(one: Document, other: Document) -> None:
    other = Document(one.id, other.incarnation, other.version, other.payload, other.withdrawn)

    [held] = replica_of([one, other])

    assert held.order == max(one.order, other.order)


@given(st.lists(documents), st.lists(documents))
def test_digests_are_equal_exactly_when_replicas_are(
    one: list[Document], other: list[Document]
) -> None:
    left, right = replica_of(one), replica_of(other)

    orders_left = {(each.id, each.order) for each in left}
    orders_right = {(each.id, each.order) for each in right}
    assert (left.state_digest == right.state_digest) == (orders_left == orders_right)


@given(st.lists(documents), tables)
def test_departed_lives_leave_the_same_replica_before_and_after(
    arrived: list[Document], departed: dict[PeerName, int]
) -> None:
    before = replica_of(arrived, departed)
    after = replica_of(arrived)
    after.set_departed(departed)
    # What a dropped newer life had displaced may be held elsewhere, and comes from there.
    for document in arrived:
        after.merge(document)

    assert contents(before) == contents(after)
    assert before.state_digest == after.state_digest


@given(st.lists(documents), st.sampled_from([1, 2, 16, MAX_BUCKETS]))
def test_bucket_digests_add_up_and_place_each_document_once(
    arrived: list[Document], buckets: int
) -> None:
    replica = replica_of(arrived)

    digests = replica.bucket_digests(buckets)
    placed = [list(replica.bucket_documents(buckets, number)) for number in range(buckets)]

    assert reduce(xor, digests) == replica.state_digest
    assert sorted(map(repr, (each for bucket in placed for each in bucket))) == sorted(
        map(repr, replica)
    )
    for digest, bucket in zip(digests, placed, strict=True):
        assert digest == reduce(xor, (each.fingerprint for each in bucket), 0)


@given(st.randoms(use_true_random=False))
def test_a_writer_keeps_its_smallest_ids_in_whatever_order_they_come(random: object) -> None:
    """The bound is a function of the set that arrived, so it does not keep replicas apart."""
    many = [
        Document(DocumentId("ring", WRITERS[0], f"{number:03}"), 1, 1, b"x")
        for number in range(MAX_DOCUMENTS_PER_WRITER + 10)
    ]
    shuffled = list(many)
    random.shuffle(shuffled)  # type: ignore[attr-defined]

    assert contents(replica_of(shuffled)) == set(many[:MAX_DOCUMENTS_PER_WRITER])


def test_what_a_departed_peer_removed_stays_removed() -> None:
    removal = Document(DocumentId(TOPIC_REMOVED, WRITERS[0], ""), 1, 1, b"x")

    assert contents(replica_of([removal], {WRITERS[0]: 1})) == {removal}


def test_a_withdrawn_document_is_taken_as_newer_than_what_it_withdraws() -> None:
    document_id = DocumentId("ring", WRITERS[0], "4")
    written = Document(document_id, 1, 1, b"x")
    withdrawn = Document(document_id, 1, 2, b"", withdrawn=True)

    assert contents(replica_of([withdrawn, written])) == {withdrawn}


@pytest.mark.parametrize(("held", "buckets"), [(0, 16), (100, 32), (1000, 128)])
def test_the_number_of_buckets_follows_the_number_of_documents(held: int, buckets: int) -> None:
    replica = Replica()
    for number in range(held):
        writer = PeerName(b"\x02" + (number + 1).to_bytes(5, "big"))
        replica.merge(Document(DocumentId("ring", writer, ""), 1, 1, b""))

    assert replica.preferred_buckets() == buckets
