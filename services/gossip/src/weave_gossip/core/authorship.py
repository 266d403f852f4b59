"""The documents we write, and what happens when the mesh holds one of them in a newer state than we
do.

That is so after loss of our state (the mesh remembers an earlier life) and when another machine has
our name (a clone). Either way we take the incarnation after the one seen, and write again: what we
hold if we hold it, else what the mesh remembers, so that nothing vanishes because a disk did.
Against a clone this would go on for ever, as it does the same; so each further time waits twice as
long.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

from weave_gossip.core.documents import (
    MAX_INCARNATION,
    MAX_KEY_BYTES,
    MAX_PAYLOAD_BYTES,
    MAX_TOPIC_BYTES,
    OWN_TOPICS,
    Document,
    DocumentId,
)
from weave_gossip.core.errors import InvalidDocument
from weave_gossip.core.replica import MAX_DOCUMENTS_PER_WRITER
from weave_model.peer import PeerName

# The first time is at once, since loss of state is the usual reason. From then on the wait doubles
# up to the longest wait between two dials, and starts anew after a time without a dispute.
FIRST_WAIT_S = 1.0
LONGEST_WAIT_S = 360.0
DISPUTE_OVER_S = 600.0


class Authorship:
    """Our documents as we want them to be."""

    def __init__(
        self,
        name: PeerName,
        incarnation: int,
        documents: Iterable[Document],
        store: Callable[[Document], None],
    ) -> None:
        """`store` takes each document we write, to be persisted, merged and spread."""
        self.incarnation = incarnation
        self._name = name
        self._store = store
        self._documents = {each.id: each for each in documents if each.id.writer == name}
        # States of ours that the mesh holds and we did not write.
        self._disputed: dict[DocumentId, Document] = {}
        self._next_answer = float("-inf")
        self._wait_s = FIRST_WAIT_S

    def get(self, topic: str, key: str) -> Document | None:
        return self._documents.get(DocumentId(topic, self._name, key))

    def publish(self, topic: str, key: str, payload: bytes) -> Document:
        """Writes a document; the same payload again changes nothing. Raises InvalidDocument."""
        document_id = self._check_id(topic, key)
        if len(payload) > MAX_PAYLOAD_BYTES:
            raise InvalidDocument(
                f"{topic}/{key}: payload of {len(payload)} bytes, at most {MAX_PAYLOAD_BYTES} fit"
            )
        held = self._documents.get(document_id)
        if held is not None and not held.withdrawn and held.payload == payload:
            return held
        if held is None and len(self._documents) >= MAX_DOCUMENTS_PER_WRITER:
            raise InvalidDocument(
                f"{topic}/{key}: one peer may have {MAX_DOCUMENTS_PER_WRITER} documents, "
                "withdrawn ones included"
            )
        return self._write(document_id, payload, withdrawn=False)

    def withdraw(self, topic: str, key: str) -> None:
        """Takes a document back; absent is success. Raises InvalidDocument."""
        held = self._documents.get(self._check_id(topic, key))
        if held is not None and not held.withdrawn:
            self._write(held.id, b"", withdrawn=True)

    def publish_own_topic(self, topic: str, payload: bytes) -> Document:
        """Writes one of the documents that the mesh keeps about ourselves, in the present life."""
        document_id = DocumentId(topic, self._name, "")
        held = self._documents.get(document_id)
        if held is not None and held.payload == payload and held.incarnation == self.incarnation:
            return held
        return self._write(document_id, payload, withdrawn=False)

    # Disputes

    def dispute(self, seen: Document) -> None:
        """The mesh holds this state of a document of ours; it is newer than what we wrote."""
        self._disputed[seen.id] = seen

    def rewrite_departed(self, limit: int) -> None:
        """Somebody removed our lives up to `limit` (0: none):

        what we wrote in them is written again.
        """
        if limit == 0:
            return
        self._outlive(limit)
        for document in list(self._documents.values()):
            if document.incarnation <= limit:
                self._write(document.id, document.payload, withdrawn=document.withdrawn)

    def next_deadline(self) -> float:
        return self._next_answer if self._disputed else float("inf")

    def is_disputed_again(self, now: float) -> bool:
        """Whether the last dispute was answered so lately that this one answers back."""
        return now - self._next_answer <= DISPUTE_OVER_S

    def answer_disputes(self, now: float) -> list[Document]:
        """Writes again what is disputed, once it is due; returns the foreign states."""
        if self.is_disputed_again(now):
            self._wait_s = min(2 * self._wait_s, LONGEST_WAIT_S)
        else:
            self._wait_s = FIRST_WAIT_S
        self._next_answer = now + self._wait_s
        disputed, self._disputed = list(self._disputed.values()), {}
        self._outlive(max(document.incarnation for document in disputed))
        for seen in disputed:
            ours = self._documents.get(seen.id, seen)
            self._write(seen.id, ours.payload, withdrawn=ours.withdrawn, above=seen.version)
        return disputed

    # Inside

    def _outlive(self, incarnation: int) -> None:
        if incarnation >= self.incarnation:
            self.incarnation = min(incarnation + 1, MAX_INCARNATION)

    def _write(
        self, document_id: DocumentId, payload: bytes, *, withdrawn: bool, above: int = 0
    ) -> Document:
        held = self._documents.get(document_id)
        version = max(above, held.version if held is not None else 0) + 1
        document = Document(document_id, self.incarnation, version, payload, withdrawn)
        self._documents[document_id] = document
        self._store(document)
        return document

    def _check_id(self, topic: str, key: str) -> DocumentId:
        if topic in OWN_TOPICS:
            raise InvalidDocument(f"topic {topic!r} is written by the mesh itself")
        if not 1 <= len(topic.encode()) <= MAX_TOPIC_BYTES:
            raise InvalidDocument(f"topic {topic!r} has not 1 to {MAX_TOPIC_BYTES} bytes")
        if len(key.encode()) > MAX_KEY_BYTES:
            raise InvalidDocument(f"key {key!r} has over {MAX_KEY_BYTES} bytes")
        return DocumentId(topic, self._name, key)
