"""What watchers of the gRPC interface see: documents per topic, peers, and messages.

Fed by the driver with the effects of the core; serves any number of subscribers, fast or slow.
"""

from __future__ import annotations

import asyncio
import logging
from collections import defaultdict
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace

from weave_gossip.core.documents import Document, DocumentId
from weave_gossip.core.effects import DeliverUnicast
from weave_gossip.core.status import PeerView
from weave_model.peer import PeerName
from weave_runtime.logs import once_per
from weave_runtime.watch import Table

log = logging.getLogger(__name__)
log.addFilter(once_per(60))

# A message is at most 64 KiB: a caller that reads nothing holds 8 MiB back at worst, then loses the
# oldest.
INBOX_MESSAGES = 128

DocumentKey = tuple[PeerName, str]


class Views:
    """Tables that are complete once the mesh has had the time to tell what it knows."""

    def __init__(self) -> None:
        self.peers: Table[PeerName, PeerView] = Table()
        self._documents: dict[str, Table[DocumentKey, Document]] = {}
        self._inboxes: defaultdict[str, set[asyncio.Queue[DeliverUnicast]]] = defaultdict(set)
        self._is_complete = False
        self._departed: frozenset[PeerName] = frozenset()

    def documents(self, topic: str) -> Table[DocumentKey, Document]:
        """The table of a topic, made on demand."""
        table = self._documents.get(topic)
        if table is None:
            table = self._documents[topic] = Table()
            if self._is_complete:
                table.complete()
        return table

    @property
    def is_complete(self) -> bool:
        """Are watchers served?"""
        return self._is_complete

    def complete(self) -> None:
        """From now on watchers are served. Idempotent."""
        if not self._is_complete:
            self._is_complete = True
            self.peers.complete()
            for table in self._documents.values():
                table.complete()

    def peer_changed(self, peer: PeerView) -> None:
        """A peer is new or other."""
        departed = peer.name in self._departed and not peer.reachable
        self.peers.put(peer.name, replace(peer, departed=departed))

    def declare_departed(self, names: frozenset[PeerName]) -> None:
        """These peers' machines are gone for good, and no others'."""
        self._departed = names
        for peer in list(self.peers.items.values()):
            self.peer_changed(peer)

    def document_changed(self, document: Document) -> None:
        """A document is new or newer."""
        self.documents(document.id.topic).put((document.id.writer, document.id.key), document)

    def document_removed(self, document_id: DocumentId) -> None:
        """A document is gone."""
        self.documents(document_id.topic).remove((document_id.writer, document_id.key))

    def deliver(self, message: DeliverUnicast) -> None:
        """Gives a message to every subscriber of its topic; nobody listening is no error."""
        for inbox in self._inboxes.get(message.topic, ()):
            if inbox.full():
                inbox.get_nowait()
                log.warning("reader too slow, message dropped", extra={"topic": message.topic})
            inbox.put_nowait(message)

    @asynccontextmanager
    async def subscribed(self, topic: str) -> AsyncIterator[asyncio.Queue[DeliverUnicast]]:
        """Every message of a topic from here on."""
        inbox: asyncio.Queue[DeliverUnicast] = asyncio.Queue(INBOX_MESSAGES)
        self._inboxes[topic].add(inbox)
        try:
            yield inbox
        finally:
            self._inboxes[topic].discard(inbox)
            if not self._inboxes[topic]:
                del self._inboxes[topic]
