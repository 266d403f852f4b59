"""Grants to one peer, by the life that they were made to.

A peer that was removed and came back has an heir, to whom also belongs what it was granted before;
it may see such a grant for the first time only now.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import NamedTuple

from weave_ipam.core.takeovers import Bounds, below_grants
from weave_ipam.core.view import Segment, Title
from weave_model.peer import PeerName
from weave_model.ring import Grant, RingDocument


class Granted(NamedTuple):
    """Grants to the present life of one peer, and those that its heir has a right to; each with the
    generation that its claim has in the view."""

    new: Mapping[Grant, int]
    old: Mapping[Grant, int]

    def is_old(self, segment: Segment) -> bool:
        """Was this granted before the last fence, and by nobody since?"""
        return (
            segment.title is Title.GRANTED
            and any(_giving(self.old, segment))
            and not any(_giving(self.new, segment))
        )

    def generation(self, segment: Segment) -> int:
        """With which generation to list what was granted: in the view it may count for less."""
        given = [grant.generation + 1 for grant in _giving(self.new, segment)]
        return max([segment.generation, *given])


def granted(documents: Mapping[PeerName, RingDocument], to: PeerName, obeyed: int) -> Granted:
    """All grants that anybody shows; `obeyed` is the last fence that `to` has obeyed."""
    bounds = Bounds(documents)
    new: dict[Grant, int] = {}
    old: dict[Grant, int] = {}
    for writer, document in documents.items():
        if writer == to:
            continue
        bound = bounds.of(writer, document)
        for grant in document.grants:
            if grant.to == to:
                shown = new if grant.obeyed >= obeyed else old
                generation = below_grants(grant.generation, bound) + 1
                shown[grant] = max(shown.get(grant, 0), generation)
    return Granted(new, old)


def _giving(grants: Mapping[Grant, int], segment: Segment) -> Iterator[Grant]:
    for grant, generation in grants.items():
        if (
            generation == segment.generation
            and grant.prefix.address <= segment.start
            and segment.end <= grant.prefix.end
        ):
            yield grant
