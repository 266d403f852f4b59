"""A grant counts once: its heir's receipt voids it for everybody.

Documents of different writers arrive in any order: that of a donor who no longer shows what it gave
may come before that of the heir who has listed it. In between an older grant, in the document of a
peer that died before it could drop it, would pass for the newest claim. So its receipt stands in
the heir's document for as long as the donor may still show it.
"""

from __future__ import annotations

from collections.abc import Mapping

from weave_model.peer import PeerName
from weave_model.ring import Grant, Receipt, RingDocument

# Of donors that died in the middle of a donation. Those of grants that are still shown come first,
# then those that went from hand to hand most often.
MAX_RECEIPTS = 1024


class Received:
    """The grants that are void: those of a receipt, and those inside it that are not newer."""

    def __init__(self, documents: Mapping[PeerName, RingDocument]) -> None:
        # heir -> length -> address -> generation
        self._by_heir: dict[PeerName, dict[int, dict[int, int]]] = {}
        for heir, document in documents.items():
            for receipt in document.receipts:
                lengths = self._by_heir.setdefault(heir, {})
                generations = lengths.setdefault(receipt.prefix.length, {})
                known = generations.get(receipt.prefix.address, -1)
                generations[receipt.prefix.address] = max(known, receipt.generation)

    def __contains__(self, grant: Grant) -> bool:
        prefix = grant.prefix
        for length, generations in self._by_heir.get(grant.to, {}).items():
            rest = prefix.family.bits - length
            address = prefix.address >> rest << rest
            if length <= prefix.length and generations.get(address, -1) >= grant.generation:
                return True
        return False


def receipts(
    documents: Mapping[PeerName, RingDocument],
    me: PeerName,
    own: RingDocument | None,
    settled: frozenset[Grant],
) -> tuple[Receipt, ...]:
    """Of the grants that are `settled`, and those given before whose donors may still show them."""
    shown = {
        Receipt(writer, grant.prefix, grant.generation): grant
        for writer, document in documents.items()
        if writer != me
        for grant in document.grants
        if grant.to == me
    }
    kept = {
        receipt
        for receipt in (own.receipts if own is not None else ())
        if receipt in shown or receipt.donor not in documents
    }
    given = {receipt for receipt, grant in shown.items() if grant in settled}
    first = sorted(kept | given, key=lambda each: (each not in shown, -each.generation, each))
    return tuple(sorted(first[:MAX_RECEIPTS]))
