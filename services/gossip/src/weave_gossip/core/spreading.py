"""Epidemic broadcast: a tree of eager links carries documents, the other links announce them.

After Leitão, Pereira, Rodrigues, "Epidemic Broadcast Trees" (SRDS 2007): a new document goes at
once to all eager links but the one it came from; a copy that was known already prunes the link it
came over (both ends make it lazy); lazy links get announcements, and who misses an announced
document asks for it, which makes that link eager again. The tree is shared by all writers and heals
by itself.

What waits for a link is a set of document names; the newest state is read when it is sent. So a
slow link costs bounded memory and skips states that were overtaken.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from weave_gossip.core.documents import Document, DocumentId
from weave_gossip.core.links import LinkState, LinkTable
from weave_gossip.core.messages import Announce, Documents, Message, Prune, Unicast
from weave_gossip.core.replica import Replica
from weave_gossip.core.sizes import batches, document_bytes, id_bytes

# A lone document leaves at once; in a flood, documents that follow within this time share a
# message.
PUSH_INTERVAL_S = 0.05
# Longer than the tree usually takes to bring a document, so that most announcements find it known.
# The dialler of a link announces first, which makes most of the other side's announcements
# needless.
ANNOUNCE_DELAY_S = 0.15
ANSWERING_DELAY_S = 0.3
# In a flood one peer announces a document on so many links only: others are left to other
# documents, and everybody hears of it several times all the same. In calm it does so on all, so
# that a peer whose place in the tree has just died hears for certain.
ANNOUNCED_LINKS = 6
# This many announcements waiting for a link are a flood.
FLOOD = 8
# What one link may be given at a time before others and pings have their turn.
MAX_BURST_BYTES = 512 * 1024
# Names of documents that have gone again are dropped from what waits for a link by so many at once.
DEAD_NAMES = 32
NEVER = float("inf")


class Spreading:
    """What is to go out on which link, and when."""

    def __init__(
        self, replica: Replica, links: LinkTable, send: Callable[[LinkState, Message], None]
    ) -> None:
        self._replica = replica
        self._links = links
        self._send = send
        self._push_due = NEVER
        self._announce_due = NEVER
        self._last_push = float("-inf")

    def spread(self, document: Document, hops: int, origin: LinkState | None, now: float) -> None:
        """Passes on a document that is new here, to all links but the one it came from."""
        document_id = document.id
        # More names than there are documents: some are of documents that have gone.
        bound = len(self._replica) + DEAD_NAMES
        lazy = []
        for link in self._links:
            if not link.is_eager:
                lazy.append(link)
            elif link is not origin:
                link.push[document_id] = hops
                if len(link.push) > bound:
                    self._drop_dead(link.push)
        # Nothing happens then if nothing waits.
        self._schedule_push(now)
        if origin is not None and not origin.is_eager:
            lazy.remove(origin)
        if len(lazy) > ANNOUNCED_LINKS and len(lazy[0].announce) >= FLOOD:
            first = document.fingerprint % len(lazy)
            lazy = (lazy + lazy)[first : first + ANNOUNCED_LINKS]
        for link in lazy:
            if not link.announce:
                delay_s = ANNOUNCE_DELAY_S if link.outbound else ANSWERING_DELAY_S
                self._schedule_announcement(link, now + delay_s)
            link.announce[document_id] = None
            if len(link.announce) > bound:
                self._drop_dead(link.announce)

    def reply(self, link: LinkState, ids: Iterable[DocumentId], now: float) -> None:
        """Answers a Want, and makes the link eager: it reached whom the tree did not."""
        link.is_eager = True
        for document_id in ids:
            # Who asks for what nobody has, and does not read the answers, costs no memory.
            if self._replica.get(document_id) is not None:
                link.replies[document_id] = 0
        self._schedule_push(now)

    def push(self, link: LinkState, document_id: DocumentId, now: float) -> None:
        """Sends one document to a peer that showed an older state."""
        link.push.setdefault(document_id, 0)
        self._schedule_push(now)

    def announce(self, link: LinkState, ids: Iterable[DocumentId], now: float) -> None:
        for document_id in ids:
            link.announce[document_id] = None
        if link.announce:
            self._schedule_announcement(link, now)

    def prune(self, link: LinkState) -> None:
        """The other end brought nothing new: it need not push to us, nor we to it.

        Said again each time, as the first Prune may be lost.
        """
        link.is_eager = False
        self._send(link, Prune())

    def pruned(self, link: LinkState, now: float) -> None:
        """The other end does not want pushes; what waits is announced instead."""
        link.is_eager = False
        waiting, link.push = link.push, {}
        if waiting:
            self.announce(link, waiting, now)

    def relay(self, link: LinkState, unicast: Unicast) -> None:
        if link.blocked_since is None:
            self._send(link, unicast)
        else:
            link.unicasts.append(unicast)

    def resume(self, link: LinkState, now: float) -> None:
        """The send buffer has room again."""
        while link.unicasts:
            self._send(link, link.unicasts.popleft())
        if link.push or link.replies:
            self._schedule_push(now)
        if link.announce:
            self._schedule_announcement(link, now)

    def next_deadline(self) -> float:
        return min(self._push_due, self._announce_due)

    def run(self, now: float) -> None:
        """Sends what is due."""
        if now >= self._push_due:
            self._push_due = NEVER
            self._last_push = now
            for link in self._links:
                if (link.push or link.replies) and link.blocked_since is None:
                    self._flush(link, now)
        if now >= self._announce_due:
            for link in self._links:
                if link.announce_due <= now and link.blocked_since is None:
                    self._flush_announcements(link)
            # One that is blocked is scheduled again when it has drained.
            dues = (link.announce_due for link in self._links if link.blocked_since is None)
            self._announce_due = min(dues, default=NEVER)

    # Inside

    def _drop_dead(self, waiting: dict[DocumentId, Any]) -> None:
        """Drops names of what is held no more, so that no more waits than there is."""
        for document_id in [each for each in waiting if self._replica.get(each) is None]:
            del waiting[document_id]

    def _schedule_push(self, now: float) -> None:
        if self._push_due == NEVER:
            self._push_due = max(now, self._last_push + PUSH_INTERVAL_S)

    def _schedule_announcement(self, link: LinkState, due: float) -> None:
        link.announce_due = min(link.announce_due, due)
        self._announce_due = min(self._announce_due, due)

    def _flush(self, link: LinkState, now: float) -> None:
        left = self._flush_documents(link, link.replies, MAX_BURST_BYTES, reply=True)
        self._flush_documents(link, link.push, left, reply=False)
        if link.replies or link.push:
            self._schedule_push(now)

    def _flush_documents(
        self, link: LinkState, waiting: dict[DocumentId, int], budget: int, *, reply: bool
    ) -> int:
        """Sends what waits, as far as the budget of bytes goes; returns what is left of it."""
        if not waiting:
            return budget
        taken: list[Document] = []
        hops = 0
        for document_id, document_hops in list(waiting.items()):
            if budget <= 0:
                break
            del waiting[document_id]
            document = self._replica.get(document_id)
            if document is not None:
                taken.append(document)
                hops = max(hops, document_hops)
                budget -= document_bytes(document)
        if len(taken) == 1:
            self._send(link, Documents((taken[0],), hops, reply))
        else:
            for batch in batches(taken, document_bytes):
                self._send(link, Documents(batch, hops, reply))
        return budget

    def _flush_announcements(self, link: LinkState) -> None:
        waiting, link.announce = link.announce, {}
        link.announce_due = NEVER
        held = [self._replica.get(document_id) for document_id in waiting]
        versions = [document.stamp for document in held if document is not None]
        for batch in batches(versions, lambda version: id_bytes(version.id)):
            self._send(link, Announce(batch))
