"""All documents held here: the greatest state seen of each, and digests to compare them with
another replica.

Merging keeps the maximum of a total order, so any order, duplication or loss on the way ends in the
same replica once every document has arrived. Two rules bound what is held and keep that property,
since what is left is a function of the set of documents that ever arrived: a departed life's
documents are dropped, and of each writer only the MAX_DOCUMENTS_PER_WRITER smallest ids stay.

capacity.py bounds the whole. Only one who invents writers by the thousand gets there; then first
come is first kept, so that what is true and was there before stays and can still change.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from enum import Enum, auto

from weave_gossip.core.capacity import Capacity
from weave_gossip.core.documents import (
    MAX_BUCKETS,
    TOPIC_REMOVED,
    Document,
    DocumentId,
    DocumentVersion,
)
from weave_model.peer import PeerName

# A peer writes some ten documents; the limit keeps one that went wild from filling all others'
# memory.
MAX_DOCUMENTS_PER_WRITER = 64


class Merged(Enum):
    """What became of a document that arrived."""

    NEWER = auto()
    SAME = auto()
    # We hold a newer state.
    OLDER = auto()
    # Its writer's life has departed, or the writer has too many documents.
    REFUSED = auto()
    # There is no room for it: see capacity.py.
    FULL = auto()


class Replica:
    """The set of documents.

    `state_digest` is equal on two replicas when, and practically only when, they are equal.
    """

    def __init__(self) -> None:
        self.state_digest = 0
        self._documents: dict[DocumentId, Document] = {}
        # The document of an id, or None.
        self.get = self._documents.get
        self._by_writer: dict[PeerName, set[DocumentId]] = {}
        self._leaf_digests = [0] * MAX_BUCKETS
        # Dictionaries rather than sets: their order is that of arrival, so that runs repeat
        # exactly.
        self._leaf_ids: list[dict[DocumentId, None] | None] = [None] * MAX_BUCKETS
        self._departed: dict[PeerName, int] = {}
        self._capacity = Capacity()
        self._displaced: list[Document] = []

    def __len__(self) -> int:
        return len(self._documents)

    def __iter__(self) -> Iterator[Document]:
        return iter(self._documents.values())

    def of_writer(self, writer: PeerName) -> list[Document]:
        """Documents of one writer, withdrawn ones included, sorted by id."""
        return [self._documents[each] for each in sorted(self._by_writer.get(writer, ()))]

    def merge(self, document: Document, *, must_fit: bool = False) -> Merged:
        """Takes the document if it is the greatest seen. Commutative, associative, idempotent."""
        document_id = document.id
        held = self._documents.get(document_id)
        if held is not None:
            if held is document or held.fingerprint == document.fingerprint:
                return Merged.SAME
            if document.order < held.order:
                return Merged.OLDER
        if self.is_departed(document_id, document.incarnation):
            return Merged.REFUSED
        displaced = self._displaced_by(document_id) if held is None else None
        if displaced == document_id:
            return Merged.REFUSED
        if not self._capacity.take(document, held, must=must_fit):
            return Merged.FULL
        if displaced is not None:
            self._displaced.append(self._documents[displaced])
            self._drop(self._documents[displaced])
        self._put(document, held)
        return Merged.NEWER

    def is_newer(self, version: DocumentVersion) -> bool:
        """Whether that version would change this replica, as far as can be told without it."""
        held = self._documents.get(version.id)
        if held is not None:
            return held.stamp < version and not self._capacity.is_known_full(version)
        return not (
            self.is_departed(version.id, version.incarnation)
            or self._displaced_by(version.id) == version.id
            or self._capacity.is_known_full(version)
        )

    def take_displaced(self) -> list[Document]:
        """Documents that gave way to smaller ids of their writer since the last call."""
        displaced, self._displaced = self._displaced, []
        return displaced

    # Departed lives

    def is_departed(self, document_id: DocumentId, incarnation: int) -> bool:
        """Whether a document of this life is dropped. What departed peers removed stays removed."""
        limit = self._departed.get(document_id.writer)
        return limit is not None and incarnation <= limit and document_id.topic != TOPIC_REMOVED

    def set_departed(self, departed: Mapping[PeerName, int]) -> list[Document]:
        """Replaces the table of departed lives and returns the documents dropped by it."""
        self._departed = dict(departed)
        return [
            dropped
            for writer in departed
            for dropped in self.of_writer(writer)
            if self.is_departed(dropped.id, dropped.incarnation) and self._drop(dropped)
        ]

    # Digests

    def preferred_buckets(self) -> int:
        """A power of two that makes finding one difference cheap:

        8 bytes a bucket against some 80 a document in it.
        """
        wanted = (10 * len(self._documents)) ** 0.5
        buckets = 16
        while buckets < wanted and buckets < MAX_BUCKETS:
            buckets *= 2
        return buckets

    def bucket_digests(self, buckets: int) -> tuple[int, ...]:
        """XOR of the fingerprints in each of `buckets` equal parts of the hash space.

        A power of two up to MAX_BUCKETS.
        """
        leaves = self._leaf_digests
        width = MAX_BUCKETS // buckets
        if width == 1:
            return tuple(leaves)
        folded = []
        for first in range(0, MAX_BUCKETS, width):
            digest = 0
            for leaf in leaves[first : first + width]:
                digest ^= leaf
            folded.append(digest)
        return tuple(folded)

    def bucket_documents(self, buckets: int, number: int) -> Iterator[Document]:
        width = MAX_BUCKETS // buckets
        for ids in self._leaf_ids[number * width : (number + 1) * width]:
            for document_id in ids or ():
                yield self._documents[document_id]

    # Inside

    def _displaced_by(self, document_id: DocumentId) -> DocumentId | None:
        """What has to go for a new document of this writer: itself if it is the greatest."""
        ids = self._by_writer.get(document_id.writer)
        if ids is None or len(ids) < MAX_DOCUMENTS_PER_WRITER:
            return None
        return max(document_id, *ids)

    def _put(self, document: Document, held: Document | None) -> None:
        document_id = document.id
        leaf = document.leaf
        change = document.fingerprint
        if held is None:
            self._by_writer.setdefault(document_id.writer, set()).add(document_id)
            ids = self._leaf_ids[leaf]
            if ids is None:
                ids = self._leaf_ids[leaf] = {}
            ids[document_id] = None
        else:
            change ^= held.fingerprint
        self._documents[document_id] = document
        self.state_digest ^= change
        self._leaf_digests[leaf] ^= change

    def _drop(self, document: Document) -> bool:
        document_id = document.id
        leaf = document.leaf
        del self._documents[document_id]
        self._capacity.drop(document)
        self.state_digest ^= document.fingerprint
        self._leaf_digests[leaf] ^= document.fingerprint
        ids = self._leaf_ids[leaf]
        assert ids is not None
        del ids[document_id]
        of_writer = self._by_writer[document_id.writer]
        of_writer.remove(document_id)
        if not of_writer:
            del self._by_writer[document_id.writer]
        return True
