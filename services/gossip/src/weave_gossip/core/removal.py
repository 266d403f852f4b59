"""Which lives of which peers have departed: the union of what all peers say on topic `removed`.

Removal is itself a replicated document of the remover, so it spreads, survives partitions and
converges like everything else: whoever holds it drops the departed life's documents and refuses
them from others. A peer that was removed by mistake sees it and goes on in a new incarnation. What
a peer removed stays removed when it departs in turn, since documents of this topic are never
dropped.
"""

from __future__ import annotations

from weave_gossip.core.documents import TOPIC_REMOVED, Document
from weave_gossip.core.facts import PayloadCodec, Removed
from weave_gossip.core.replica import Replica
from weave_model.peer import PeerName

# 14 bytes each: 57 KiB in one document. Older ones matter only to a peer that was away since.
MAX_REMOVALS = 4096


class Removals:
    """Reads the table of departed lives off the documents, and extends our own."""

    def __init__(self, codec: PayloadCodec) -> None:
        self._codec = codec

    def departed(self, replica: Replica) -> dict[PeerName, int]:
        """The highest departed incarnation of each peer. Raises nothing:

        what is unreadable says nothing.
        """
        table: dict[PeerName, int] = {}
        for document in replica:
            if document.id.topic == TOPIC_REMOVED and not document.withdrawn:
                for removed in self._read(document):
                    table[removed.peer] = max(removed.incarnation, table.get(removed.peer, 0))
        return table

    def extended(self, own: Document | None, peer: PeerName, incarnation: int) -> bytes:
        """The payload of our document with one more life."""
        entries = {} if own is None else {each.peer: each for each in self._read(own)}
        entries.pop(peer, None)
        entries[peer] = Removed(peer, incarnation)
        return self._codec.encode_removed(tuple(entries.values())[-MAX_REMOVALS:])

    def merged(self, own: Document | None, seen: Document) -> bytes:
        """What both say together, after the mesh remembered an earlier life of ours."""
        entries: dict[PeerName, int] = {}
        for document in (seen, own):
            for each in () if document is None else self._read(document):
                entries[each.peer] = max(each.incarnation, entries.get(each.peer, 0))
        removed = tuple(Removed(peer, incarnation) for peer, incarnation in entries.items())
        return self._codec.encode_removed(removed[-MAX_REMOVALS:])

    def _read(self, document: Document) -> tuple[Removed, ...]:
        try:
            return self._codec.decode_removed(document.payload)
        except ValueError:
            return ()
