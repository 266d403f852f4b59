"""What all documents together say: who the peers are, who reaches whom, who has departed.

Documents come in here and nowhere else; directory, topology and removals follow each change, and
the shell is told.
"""

from __future__ import annotations

from collections.abc import Iterable

from weave_gossip.core.admission import describe_collision
from weave_gossip.core.directory import Directory
from weave_gossip.core.documents import (
    MAX_INCARNATION,
    MAX_KEY_BYTES,
    MAX_PAYLOAD_BYTES,
    MAX_TOPIC_BYTES,
    TOPIC_LINKS,
    TOPIC_PEERS,
    TOPIC_REMOVED,
    Document,
    DocumentId,
)
from weave_gossip.core.effects import (
    DocumentChanged,
    DocumentRemoved,
    LogLevel,
    PeerChanged,
    PeerRemoved,
)
from weave_gossip.core.errors import InvalidMessage
from weave_gossip.core.facts import Link, PayloadCodec
from weave_gossip.core.outbox import Outbox
from weave_gossip.core.removal import Removals
from weave_gossip.core.replica import Merged, Replica
from weave_gossip.core.status import PeerView, QuarantinedDocument
from weave_gossip.core.topology import Topology
from weave_model.peer import PeerName

# More links than any peer can hold; a liar's million would cost all others their memory.
MAX_LISTED_LINKS = 4096
# An inventor is told of as long as it goes on, and fills no log.
FULL_TOLD_EVERY_S = 60.0


class Knowledge:
    """The replica and what is read off it."""

    def __init__(self, own_name: PeerName, codec: PayloadCodec, outbox: Outbox) -> None:
        self.replica = Replica()
        self.directory = Directory(own_name)
        self.topology = Topology(own_name)
        self.quarantine: dict[DocumentId, QuarantinedDocument] = {}
        self.removals = Removals(codec)
        self._own_name = own_name
        self._codec = codec
        self._outbox = outbox
        self._departed: dict[PeerName, int] = {}
        self._full_told = float("-inf")
        # Peers whose view may have changed, and what became of those shown since it was last asked.
        self._stale: dict[PeerName, None] = {}
        self._moved: list[tuple[PeerName, bool | None]] = []

    def merge(self, document: Document, *, is_ours: bool = False) -> Merged:
        """Takes a document with all it entails.

        `is_ours`: we wrote it just now. One under our name that we did not write is held like any
        other, so that replicas agree, but it says nothing about us: we are about to answer it.
        """
        merged = self.replica.merge(document, must_fit=is_ours)
        if merged is Merged.FULL:
            self._tell_full(document)
        for displaced in self.replica.take_displaced():
            self._lose(displaced)
        if merged is Merged.NEWER and (is_ours or document.id.writer != self._own_name):
            self.quarantine.pop(document.id, None)
            self._read(document)
            if document.withdrawn:
                self._outbox.put(DocumentRemoved(document.id))
            else:
                self._outbox.put(DocumentChanged(document))
        return merged

    def set_own_links(self, peers: Iterable[PeerName]) -> None:
        """Our own links count from the moment they are there, before the document says so."""
        self.topology.set_links(self._own_name, peers)

    def listed_links(self, peer: PeerName) -> tuple[Link, ...]:
        """The links that a peer's document lists; none where it cannot be read."""
        document = self.replica.get(DocumentId(TOPIC_LINKS, peer, ""))
        try:
            return () if document is None else self._codec.decode_links(document.payload)
        except ValueError:
            return ()

    def own_departed_life(self) -> int:
        """Up to which incarnation somebody removed us; 0: never."""
        return self._departed.get(self._own_name, 0)

    def set_aside(self, document: Document, reason: str) -> None:
        """Quarantines a version: it shows in status, and is stored and forwarded all the same."""
        self.quarantine[document.id] = QuarantinedDocument(
            document.id, document.incarnation, document.version, reason, self._outbox.now
        )
        self._outbox.log(
            LogLevel.WARNING,
            f"quarantined {document.id.topic}/{document.id.key} of {document.id.writer}: {reason}",
        )

    def show_peers(self) -> list[tuple[PeerName, bool | None]]:
        """Reports changed peers to the shell; returns those that were found, lost (False) or
        removed (None).
        """
        for peer in self.topology.take_changed():
            self._stale[peer] = None
        if not self._stale:
            return []
        stale, self._stale = self._stale, {}
        self._moved = []
        for peer in stale:
            self.directory.show(
                peer,
                reachable=self.topology.is_reachable(peer),
                changed=self._peer_changed,
                removed=self._peer_removed,
            )
        return self._moved

    # Inside

    def _read(self, document: Document) -> None:
        topic, _, key = document.id
        if key and topic != TOPIC_REMOVED:
            # One of each: of several, what counts would depend on the order they came in.
            return
        try:
            if topic == TOPIC_LINKS:
                self._read_links(document)
            elif topic == TOPIC_PEERS:
                self._read_facts(document)
            elif topic == TOPIC_REMOVED:
                self._read_removals(document)
        except ValueError as error:
            self.set_aside(document, str(error))

    def _read_links(self, document: Document) -> None:
        writer = document.id.writer
        if writer == self._own_name:
            return
        listed: tuple[Link, ...] = ()
        try:
            if not document.withdrawn:
                listed = self._codec.decode_links(document.payload)
            if len(listed) > MAX_LISTED_LINKS:
                raise ValueError(f"{len(listed)} links, at most {MAX_LISTED_LINKS} are believed")
        except ValueError:
            self.topology.set_links(writer, ())
            raise
        self.topology.set_links(writer, [link.peer for link in listed])

    def _read_facts(self, document: Document) -> None:
        writer = document.id.writer
        self._stale[writer] = None
        if document.withdrawn:
            self.directory.remove(writer)
            return
        try:
            facts = self._codec.decode_facts(document.payload)
        except ValueError:
            self.directory.remove(writer)
            raise
        other = self.directory.update(writer, document.incarnation, facts)
        if other is not None:
            message = describe_collision(writer, other.nickname, facts.nickname)
            self._outbox.log(LogLevel.ERROR, message, peer=str(writer))

    def _read_removals(self, document: Document) -> None:
        if not document.withdrawn:
            self._codec.decode_removed(document.payload)
        self._departed = self.removals.departed(self.replica)
        for dropped in self.replica.set_departed(self._departed):
            self._lose(dropped)

    def _lose(self, document: Document) -> None:
        """Draws the conclusions from a document that is held no more."""
        writer = document.id.writer
        self.quarantine.pop(document.id, None)
        if writer == self._own_name:
            return
        if document.id == DocumentId(TOPIC_LINKS, writer, ""):
            self.topology.set_links(writer, ())
        elif document.id == DocumentId(TOPIC_PEERS, writer, ""):
            self.directory.remove(writer)
            self._stale[writer] = None
        if not document.withdrawn:
            self._outbox.put(DocumentRemoved(document.id))

    def _tell_full(self, document: Document) -> None:
        now = self._outbox.now
        if now >= self._full_told + FULL_TOLD_EVERY_S:
            self._full_told = now
            name = f"{document.id.topic}/{document.id.key} of {document.id.writer}"
            message = f"no room for {name}: more documents than any mesh has; does somebody invent?"
            self._outbox.log(LogLevel.ERROR, message)

    def _peer_changed(self, view: PeerView, before: PeerView | None) -> None:
        self._outbox.put(PeerChanged(view))
        if view.is_self:
            return
        if before is None or before.reachable != view.reachable:
            self._moved.append((view.name, view.reachable))

    def _peer_removed(self, name: PeerName) -> None:
        self._outbox.put(PeerRemoved(name))
        self._outbox.log(LogLevel.INFO, f"Removed unreachable peer {name}")
        self._moved.append((name, None))


def check_document(document: Document) -> None:
    """Whether a document that came from a peer keeps within bounds. Raises InvalidMessage."""
    document_id = document.id
    if not document_id.topic or _is_over(document_id.topic, MAX_TOPIC_BYTES):
        raise InvalidMessage(f"topic {document_id.topic!r} has not 1 to {MAX_TOPIC_BYTES} bytes")
    if _is_over(document_id.key, MAX_KEY_BYTES):
        raise InvalidMessage(f"key {document_id.key!r} has over {MAX_KEY_BYTES} bytes")
    if len(document.payload) > MAX_PAYLOAD_BYTES:
        raise InvalidMessage(f"payload of {len(document.payload)} bytes")
    if document.withdrawn and document.payload:
        raise InvalidMessage(
            f"{document_id.topic}/{document_id.key} is withdrawn and has a payload"
        )
    if not 0 <= document.incarnation <= MAX_INCARNATION:
        raise InvalidMessage(f"incarnation {document.incarnation} is over {MAX_INCARNATION}")


def _is_over(text: str, limit: int) -> bool:
    """Counts bytes only where it matters: no character has more than four."""
    return 4 * len(text) > limit and len(text.encode()) > limit
