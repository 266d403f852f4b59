"""Documents in and out: takes what links bring into what we know, and passes on what was new.

The three ways of a document: the tree (spreading.py), asking for what was announced (fetching.py),
comparison of digests (repair.py).
"""

from __future__ import annotations

from weave_gossip.core.documents import Document
from weave_gossip.core.fetching import Fetching
from weave_gossip.core.knowledge import Knowledge, check_document
from weave_gossip.core.links import LinkState, LinkTable
from weave_gossip.core.messages import (
    Announce,
    Digest,
    Documents,
    Pong,
    Prune,
    Unicast,
    Want,
)
from weave_gossip.core.outbox import Outbox
from weave_gossip.core.repair import Repair
from weave_gossip.core.replica import Merged
from weave_gossip.core.spreading import Spreading

# What an exchange of documents consists of.
DocumentMessage = Documents | Announce | Want | Prune | Digest


class Exchange:
    """The replica's traffic with the neighbours."""

    def __init__(self, knowledge: Knowledge, links: LinkTable, outbox: Outbox) -> None:
        replica = knowledge.replica
        self._knowledge = knowledge
        self._replica = replica
        self._outbox = outbox
        self._spreading = Spreading(replica, links, outbox.send)
        self._fetching = Fetching(links, outbox.send)
        self._repair = Repair(replica, self._fetching, self._spreading, outbox.send)

    def next_deadline(self) -> float:
        return min(self._spreading.next_deadline(), self._fetching.next_deadline())

    def run(self, now: float) -> None:
        """Asks for and sends what is due."""
        self._fetching.run(now)
        self._spreading.run(now)

    def spread_own(self, document: Document) -> None:
        """Passes on what we wrote."""
        self._repair.changed(self._outbox.now)
        self._spreading.spread(document, 0, None, self._outbox.now)

    def relay(self, link: LinkState, unicast: Unicast) -> None:
        self._spreading.relay(link, unicast)

    def resume(self, link: LinkState) -> None:
        """The link's send buffer has room again."""
        self._spreading.resume(link, self._outbox.now)

    def receive_pong(self, link: LinkState, pong: Pong) -> None:
        """Compares the other's state with ours."""
        self._repair.compare(link, pong.state_digest, self._outbox.now)

    def receive(self, link: LinkState, message: DocumentMessage) -> list[Document]:
        """Takes a message; returns the documents that were news. Raises InvalidMessage."""
        now = self._outbox.now
        match message:
            case Documents():
                return self._receive_documents(link, message, now)
            case Announce():
                self._receive_announce(link, message, now)
            case Want():
                self._spreading.reply(link, message.ids, now)
            case Prune():
                self._spreading.pruned(link, now)
            case _:
                self._repair.receive(link, message, now)
        return []

    def _receive_documents(self, link: LinkState, message: Documents, now: float) -> list[Document]:
        news = []
        known = 0
        for document in message.documents:
            link.announce.pop(document.id, None)
            held = self._replica.get(document.id)
            if held is not None and held.fingerprint == document.fingerprint:
                known += 1
                continue
            check_document(document)
            merged = self._knowledge.merge(document)
            self._fetching.arrived(document)
            if merged is Merged.OLDER:
                self._spreading.push(link, document.id, now)
            elif merged is Merged.NEWER:
                self._repair.changed(now)
                self._spreading.spread(document, message.hops + 1, link, now)
                news.append(document)
        # Batches of many writers are rarely known in whole; half is enough to call the link
        # redundant.
        if 2 * known > len(message.documents) and not message.reply:
            self._spreading.prune(link)
        return news

    def _receive_announce(self, link: LinkState, message: Announce, now: float) -> None:
        newer = []
        for version in message.versions:
            if self._replica.is_newer(version):
                newer.append(version)
            else:
                link.announce.pop(version.id, None)
        if newer:
            self._fetching.learn(link, newer, at_once=False, now=now)
