"""Transitions of this peer's own ring document. Pure: each gives the document to write next.

Donation conserves space at every crash point (docs/adr/0002): the donor moves a block to its grants
(`give`), the heir lists it (`settle` at the heir), the donor drops the grant (`settle` at the
donor).
"""

from __future__ import annotations

from collections.abc import Iterable

from weave_ipam.core.view import MAX_GENERATION, Segment, Title, View, coalesced
from weave_model.peer import PeerName
from weave_model.prefix import Prefix, cover, subtract
from weave_model.ring import Block, Grant, RingDocument

# More changes of hands than a peer makes between its last document that spread and its death.
RECLAIM_STEP = 100


def settle(
    view: View,
    me: PeerName,
    own: RingDocument | None,
    share_for: PeerName | None,
    *,
    may_be_another: bool = False,
) -> RingDocument | None:
    """What our document must say, given what all say: list what is ours or was granted to us, leave
    out what others won, drop grants that are fulfilled. None: no document is needed.

    `share_for`: who gets the share of the first ring that is ours as long as we have no document of
    it: we ourselves, or the heir who took it over; None: that is not known yet, and so nothing is
    written that would give it up. `may_be_another`: an heir may own some of our blocks, whose
    document has not come; so no block gets a higher generation by joining another.
    """
    mine = view.owned_by(me)
    if share_for is None and any(segment.title is Title.SHARE for segment in mine):
        return own
    listed = [
        Block(prefix, segment.generation)
        for segment in mine
        if share_for == me or segment.title is not Title.SHARE
        for prefix in _cover(view, segment)
    ]
    blocks = coalesced(listed, only_equal=may_be_another)
    grants: tuple[Grant, ...] = ()
    if own is not None and own.genesis == view.genesis:
        grants = tuple(grant for grant in own.grants if not view.is_fulfilled(grant))
    if share_for not in (None, me):
        grants += _shares_for(view, me, share_for)
    if own is None and not blocks and not grants:
        return None
    return RingDocument(view.universe, view.genesis, blocks, grants)


def _shares_for(view: View, me: PeerName, heir: PeerName) -> tuple[Grant, ...]:
    """With our first document our share is no more than what that says of it."""
    return tuple(
        Grant(prefix, 0, heir)
        for segment in view.owned_by(me)
        if segment.title is Title.SHARE
        for prefix in _cover(view, segment)
    )


def give(own: RingDocument, prefixes: Iterable[Prefix], to: PeerName) -> RingDocument:
    """Moves `prefixes` from the blocks to the grants. Blocks of the last generation stay."""
    wanted = list(prefixes)
    blocks: list[Block] = []
    grants: list[Grant] = []
    for block in own.blocks:
        given = [
            _common(block.prefix, prefix) for prefix in wanted if block.prefix.overlaps(prefix)
        ]
        if not given or block.generation + 1 >= MAX_GENERATION:
            blocks.append(block)
            continue
        blocks.extend(Block(rest, block.generation) for rest in subtract([block.prefix], given))
        grants.extend(Grant(prefix, block.generation, to) for prefix in given)
    return _replace(own, blocks, (*own.grants, *grants))


def take_over(
    view: View, own: RingDocument | None, victim: PeerName, victims: RingDocument | None
) -> RingDocument:
    """Lists all that `victim` owns, and carries on its open grants to others, whose only witness is
    a document that is about to be removed.

    The generation is beyond all that is known by far: a victim that comes back may bring documents
    that nobody has seen, and none of them may win.
    """
    document = own or RingDocument(view.universe, view.genesis)
    generation = max((s.generation for s in view.segments), default=0) + RECLAIM_STEP
    taken = [
        Block(prefix, generation)
        for segment in view.owned_by(victim)
        if generation < MAX_GENERATION
        for prefix in _cover(view, segment)
    ]
    carried = [
        grant
        for grant in (victims.grants if victims is not None else ())
        if grant.to != victim and not view.is_fulfilled(grant)
    ]
    return _replace(document, (*document.blocks, *taken), (*document.grants, *carried))


def carry(
    view: View, own: RingDocument | None, victim: PeerName, victims: RingDocument, heir: PeerName
) -> RingDocument:
    """Witnesses to the heir of a removed peer what that peer owned, so that it does not get
    lost."""
    document = own or RingDocument(view.universe, view.genesis)
    orphaned = [
        Grant(prefix, segment.generation, heir)
        for segment in view.owned_by(victim)
        if segment.generation + 1 < MAX_GENERATION
        for prefix in _cover(view, segment)
    ]
    open_grants = [
        grant for grant in victims.grants if grant.to != victim and not view.is_fulfilled(grant)
    ]
    return _replace(document, document.blocks, (*document.grants, *orphaned, *open_grants))


def _replace(
    document: RingDocument, blocks: Iterable[Block], grants: Iterable[Grant]
) -> RingDocument:
    return RingDocument(
        document.universe, document.genesis, coalesced(blocks), tuple(sorted(set(grants)))
    )


def _cover(view: View, segment: Segment) -> Iterable[Prefix]:
    return cover(view.universe.family, segment.start, segment.end)


def _common(one: Prefix, other: Prefix) -> Prefix:
    return other if one.contains(other) else one
