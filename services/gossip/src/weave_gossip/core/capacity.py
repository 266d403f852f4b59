"""How much a replica holds in all, so that nobody can fill the memory of all peers with inventions.

A writer may hold ENTITLED_BYTES whatever others hold; what it holds above that comes out of a pool
shared by all. New writers are taken until there are MAX_WRITERS. So the payloads of a replica never
exceed MAX_WRITERS * ENTITLED_BYTES + POOL_BYTES = 192 MiB, and a writer that is known keeps its
place and its entitlement. What was refused is remembered, since neighbours that hold it would
otherwise offer it again at each comparison of digests.
"""

from __future__ import annotations

from weave_gossip.core.documents import Document, DocumentVersion
from weave_gossip.core.sizes import document_bytes
from weave_model.peer import PeerName

# Four times the peers that Weave Net could have.
MAX_WRITERS = 16384
# A peer writes some ten documents, together 3 KB.
ENTITLED_BYTES = 8 * 1024
# Shared by those that write more; five times what all is that a core knows of 1,000 peers.
POOL_BYTES = 64 * 1024 * 1024
# More are forgotten, oldest first, and then offered, and refused, again.
MAX_REMEMBERED = 4096


class Capacity:
    """Counts bytes by writer. Sizes are upper bounds of the encoding."""

    def __init__(self) -> None:
        self._bytes: dict[PeerName, int] = {}
        self._pool_bytes = 0
        self._refused: dict[DocumentVersion, None] = {}

    def take(self, document: Document, held: Document | None, *, must: bool) -> bool:
        """Makes room for `document` in place of `held`; False, and remembered, if there is none.

        `must`: ours, which has to fit. What needs no more room than what it replaces always does.
        """
        growth = document_bytes(document) - (0 if held is None else document_bytes(held))
        before = self._bytes.get(document.id.writer, 0)
        if growth > 0 and not must and not self._has_room(before, growth):
            self._refused[document.stamp] = None
            if len(self._refused) > MAX_REMEMBERED:
                del self._refused[next(iter(self._refused))]
            return False
        self._grow(document.id.writer, before, growth)
        return True

    def is_known_full(self, version: DocumentVersion) -> bool:
        """Whether this version was refused since there was last room."""
        if version in self._refused:
            return True
        return len(self._bytes) >= MAX_WRITERS and version.id.writer not in self._bytes

    def drop(self, document: Document) -> None:
        """`document` is held no more."""
        writer = document.id.writer
        self._grow(writer, self._bytes[writer], -document_bytes(document))
        self._refused.clear()

    def _has_room(self, before: int, growth: int) -> bool:
        if before == 0 and len(self._bytes) >= MAX_WRITERS:
            return False
        pool_growth = _above(before, growth)
        return pool_growth == 0 or self._pool_bytes + pool_growth <= POOL_BYTES

    def _grow(self, writer: PeerName, before: int, growth: int) -> None:
        self._pool_bytes += _above(before, growth)
        if before + growth:
            self._bytes[writer] = before + growth
        else:
            del self._bytes[writer]


def _above(before: int, growth: int) -> int:
    """How much of a writer's growth is over its entitlement; negative when it shrinks."""
    return max(0, before + growth - ENTITLED_BYTES) - max(0, before - ENTITLED_BYTES)
