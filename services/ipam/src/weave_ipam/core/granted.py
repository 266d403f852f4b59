"""Grants to one peer, by the life that they were made to.

A peer that was removed and came back has an heir, to whom also belongs what it was granted before;
it may see such a grant for the first time only now.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from weave_ipam.core.view import Segment, Title
from weave_model.peer import PeerName
from weave_model.prefix import Prefix
from weave_model.ring import Grant, RingDocument


class Granted(NamedTuple):
    """Grants to the present life of one peer, and those that its heir has a right to."""

    new: frozenset[Grant]
    old: frozenset[Grant]

    def is_old(self, segment: Segment) -> bool:
        """Was this granted before the last fence, and by nobody since?"""
        return (
            segment.title is Title.GRANTED
            and any(_gives(grant, segment) for grant in self.old)
            and not any(_gives(grant, segment) for grant in self.new)
        )


class Taken(NamedTuple):
    """What we took over of a peer: all that was granted to us there below `generation` is stale."""

    generation: int
    prefixes: tuple[Prefix, ...]


def stale(
    documents: Mapping[PeerName, RingDocument],
    to: PeerName,
    segment: Segment,
    taken: Mapping[PeerName, Taken],
) -> tuple[Prefix, ...]:
    """What of a granted segment `to` has taken over, and maybe passed on, before the peer that it
    was taken of came back and granted it."""
    givers = [
        (writer, grant)
        for writer, document in documents.items()
        for grant in document.grants
        if grant.to == to and _gives(grant, segment)
    ]
    if not all(
        writer in taken and grant.generation < taken[writer].generation for writer, grant in givers
    ):
        return ()
    return tuple(prefix for writer, _ in givers for prefix in taken[writer].prefixes)


def granted(documents: Mapping[PeerName, RingDocument], to: PeerName, obeyed: int) -> Granted:
    """All grants that anybody shows; `obeyed` is the last fence that `to` has obeyed."""
    grants = [
        grant
        for writer, document in documents.items()
        if writer != to
        for grant in document.grants
        if grant.to == to
    ]
    return Granted(
        frozenset(grant for grant in grants if grant.obeyed >= obeyed),
        frozenset(grant for grant in grants if grant.obeyed < obeyed),
    )


def _gives(grant: Grant, segment: Segment) -> bool:
    return (
        grant.generation + 1 == segment.generation
        and grant.prefix.address <= segment.start
        and segment.end <= grant.prefix.end
    )
