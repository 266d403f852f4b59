"""Documents known to exist but not held: whom to ask for them, and when.

Each is asked for from one peer at a time. Announcements wait a little for the tree to bring the
document; what a digest showed to be missing is asked for at once. Who does not answer is passed
over for the next who has it; when nobody is left, the name is dropped, and the next digest finds it
again.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from heapq import heappop, heappush

from weave_gossip.core.documents import Document, DocumentId, DocumentVersion
from weave_gossip.core.effects import LinkId
from weave_gossip.core.links import LinkState, LinkTable
from weave_gossip.core.messages import Message, Want
from weave_gossip.core.sizes import batches, id_bytes

# Round trip and queue of a slow neighbour; then another is asked.
ANSWER_TIMEOUT_S = 1.0
# Time for the tree to bring what somebody announced: announcements are late already.
GRACE_S = 0.1
# Asks that fall due within this time share a message.
GATHER_S = 0.02
# Sources remembered per document. More is no use: the next digest finds what these do not give.
MAX_SOURCES = 4
# Names waited for at a time; the next digest finds those beyond. Ten thousand peers that a newcomer
# hears of at once fit.
MAX_MISSING = 65536


@dataclass(slots=True, eq=False)
class _Missing:
    version: DocumentVersion
    # Those not asked yet, first heard first.
    sources: list[LinkId]
    due: float


class Fetching:
    """What is missing here and how it is got."""

    def __init__(self, links: LinkTable, send: Callable[[LinkState, Message], None]) -> None:
        self._links = links
        self._send = send
        self._missing: dict[DocumentId, _Missing] = {}
        # (due, sequence, id); entries that no longer match _missing are skipped.
        self._queue: list[tuple[float, int, DocumentId]] = []
        self._sequence = 0

    def __len__(self) -> int:
        return len(self._missing)

    def learn(
        self, link: LinkState, versions: Iterable[DocumentVersion], *, at_once: bool, now: float
    ) -> None:
        """`link` has these, which are newer than ours."""
        due = now + (0.0 if at_once else GRACE_S)
        for version in versions:
            missing = self._missing.get(version.id)
            if missing is None and len(self._missing) >= MAX_MISSING:
                continue
            if missing is None or missing.version < version:
                missing = _Missing(version, [link.id], due)
                self._missing[version.id] = missing
                self._schedule(version.id, due)
            elif (
                missing.version == version
                and len(missing.sources) < MAX_SOURCES
                and link.id not in missing.sources
            ):
                missing.sources.append(link.id)

    def arrived(self, document: Document) -> None:
        """Nobody needs to be asked for this state or an older one any more."""
        missing = self._missing.get(document.id)
        if missing is not None and missing.version <= document.stamp:
            del self._missing[document.id]

    def next_deadline(self) -> float:
        while self._queue and self._is_outdated(self._queue[0]):
            heappop(self._queue)
        return self._queue[0][0] if self._queue else float("inf")

    def run(self, now: float) -> None:
        """Asks for what is due."""
        wanted: dict[LinkId, list[DocumentId]] = {}
        while self._queue and self._queue[0][0] <= now + GATHER_S:
            entry = heappop(self._queue)
            if not self._is_outdated(entry):
                self._ask_next(entry[2], wanted, now)
        for link_id, ids in wanted.items():
            link = self._links.get(link_id)
            assert link is not None
            link.is_eager = True
            for batch in batches(ids, id_bytes):
                self._send(link, Want(batch))

    # Inside

    def _ask_next(
        self, document_id: DocumentId, wanted: dict[LinkId, list[DocumentId]], now: float
    ) -> None:
        missing = self._missing[document_id]
        while missing.sources:
            link = self._links.get(missing.sources.pop(0))
            if link is not None and link.blocked_since is None:
                wanted.setdefault(link.id, []).append(document_id)
                missing.due = now + ANSWER_TIMEOUT_S
                self._schedule(document_id, missing.due)
                return
        del self._missing[document_id]

    def _schedule(self, document_id: DocumentId, due: float) -> None:
        self._sequence += 1
        heappush(self._queue, (due, self._sequence, document_id))

    def _is_outdated(self, entry: tuple[float, int, DocumentId]) -> bool:
        missing = self._missing.get(entry[2])
        return missing is None or missing.due != entry[0]
