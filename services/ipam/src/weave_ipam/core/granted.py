"""What others grant to this peer: which grants are new, which are its heir's, and the receipts.

Documents of different writers arrive in any order: that of a donor who no longer shows what it gave
may come before that of the heir who has listed it. In between an older grant, in the document of a
peer that died before it could drop it, would pass for the newest. So a grant counts once: its
receipt stands in the heir's document for as long as the donor may still show it.

A peer that was removed and came back has an heir, to whom also belongs what was granted before.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from weave_ipam.core.view import Segment
from weave_model.peer import PeerName
from weave_model.ring import Grant, Receipt, RingDocument

# Of donors that died in the middle of a donation; the oldest are forgotten.
MAX_RECEIPTS = 1024


class Granted(NamedTuple):
    """Grants to one peer: those to its present life, and those that its heir has a right to."""

    new: tuple[Grant, ...]
    old: tuple[Grant, ...]

    def is_old(self, segment: Segment) -> bool:
        """Was what is granted here granted before the last fence, and by nobody since?"""
        return any(_gives(grant, segment) for grant in self.old) and not any(
            _gives(grant, segment) for grant in self.new
        )


def granted(documents: Mapping[PeerName, RingDocument], me: PeerName, obeyed: int) -> Granted:
    """All grants to `me` that anybody shows; `obeyed` is the last fence that it has obeyed."""
    grants = [
        grant
        for writer, document in documents.items()
        if writer != me
        for grant in document.grants
        if grant.to == me
    ]
    return Granted(
        tuple(grant for grant in grants if grant.obeyed >= obeyed),
        tuple(grant for grant in grants if grant.obeyed < obeyed),
    )


def receipts(
    documents: Mapping[PeerName, RingDocument],
    me: PeerName,
    own: RingDocument | None,
    settled: tuple[Grant, ...],
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
    newest = sorted(kept | given, key=lambda receipt: -receipt.generation)[:MAX_RECEIPTS]
    return tuple(sorted(newest))


def _gives(grant: Grant, segment: Segment) -> bool:
    return (
        grant.generation + 1 == segment.generation
        and grant.prefix.address <= segment.start
        and segment.end <= grant.prefix.end
    )
