"""Transitions of this peer's own ring document. Pure: each gives the document to write next.

Donation conserves space at every crash point (docs/adr/0002): the donor moves a block to its grants
(`give`), the heir lists it (`settle` at the heir), the donor drops the grant (`settle` at the
donor).
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Mapping
from dataclasses import replace

from weave_ipam.core.fences import Fence
from weave_ipam.core.granted import granted
from weave_ipam.core.receipts import receipts
from weave_ipam.core.takeovers import below, below_grants, needed
from weave_ipam.core.view import MAX_GENERATION, Segment, Title, View, coalesced
from weave_model.peer import PeerName
from weave_model.prefix import Prefix, cover, subtract
from weave_model.ring import Block, Grant, RingDocument, Takeover

# More changes of hands than a peer makes between its last document that spread and its death.
RECLAIM_STEP = 100


def settle(
    view: View,
    me: PeerName,
    own: RingDocument | None,
    share_for: PeerName | None,
    documents: Mapping[PeerName, RingDocument],
    *,
    obeyed: int = 0,
    heirs_life: int = 0,
    may_be_another: bool = False,
) -> RingDocument | None:
    """What our document must say, given what all say: list what is ours or was granted to us, leave
    out what others won, drop grants that are fulfilled. None: no document is needed.

    `share_for`: who gets the share of the first ring that is ours as long as we have no document of
    it, and what was granted to us before the last fence: we ourselves, or the heir who took us
    over; None: that is not known yet, and so nothing is written that would give it up.
    `documents`: those that `view` is of. `obeyed`: the last fence that we have obeyed.
    `heirs_life`: one that the heir is known to have obeyed.
    `may_be_another`: an heir may own some of our blocks, whose document has not come; so no block
    gets a higher generation by joining another.
    """
    mine = view.owned_by(me)
    if share_for is None and any(segment.title is Title.SHARE for segment in mine):
        return own
    # Who lost the state has the document back before it knows of any fence.
    obeyed = max(obeyed, own.obeyed if own is not None else 0)
    to_us = granted(documents, me, obeyed if share_for != me else 0)
    heirs = {
        segment
        for segment in mine
        if (segment.title is Title.SHARE and share_for != me) or to_us.is_old(segment)
    }
    same_ring = own if own is not None and own.genesis == view.genesis else None
    new = [
        Block(prefix, to_us.generation(segment))
        for segment in mine
        if segment not in heirs and segment.title is not Title.LISTED
        for prefix in _cover(view, segment)
    ]
    had = listed(view, me, same_ring) if same_ring is not None else ()
    blocks = coalesced((*had, *new), only_equal=may_be_another)
    grants: tuple[Grant, ...] = ()
    if same_ring is not None:
        grants = tuple(grant for grant in same_ring.grants if not view.is_fulfilled(grant))
    settled = frozenset(to_us.new)
    if share_for not in (None, me):
        known = max(heirs_life, life(documents, share_for))
        grants += _for_heir(view, heirs, share_for, known)
        settled |= frozenset(to_us.old)
    said = receipts(documents, me, same_ring, settled)
    if own is None and not (blocks or grants or said or obeyed):
        return None
    takeovers = needed(same_ring.takeovers, documents) if same_ring is not None else ()
    return RingDocument(view.universe, view.genesis, blocks, grants, said, obeyed, takeovers)


def listed(view: View, me: PeerName, own: RingDocument) -> Iterable[Block]:
    """What is left to us of the blocks of our document, with their generations there: in the view
    they may count for less."""
    blocks = sorted(own.blocks)
    starts = [block.prefix.address for block in blocks]
    for segment in view.owned_by(me):
        if segment.title is Title.LISTED:
            # A segment is of one claim.
            block = blocks[bisect_right(starts, segment.start) - 1]
            for prefix in _cover(view, segment):
                yield Block(prefix, block.generation)


def is_worth_writing(document: RingDocument, before: RingDocument | None) -> bool:
    """Does it say more than that some receipts are not needed any more?"""
    return (
        before is None
        or not set(document.receipts) <= set(before.receipts)
        or replace(document, receipts=before.receipts) != before
    )


def life(documents: Mapping[PeerName, RingDocument], peer: PeerName) -> int:
    """The last fence that a peer has obeyed, as far as its document says."""
    document = documents.get(peer)
    return document.obeyed if document is not None else 0


def _for_heir(
    view: View, segments: Iterable[Segment], heir: PeerName, obeyed: int, bound: int = 0
) -> tuple[Grant, ...]:
    """With the document that says so, none of it is ours any more."""
    return tuple(
        Grant(prefix, below(segment.generation, bound), heir, obeyed)
        for segment in sorted(segments)
        if segment.generation + 1 < MAX_GENERATION
        for prefix in _cover(view, segment)
    )


def give(own: RingDocument, prefixes: Iterable[Prefix], to: PeerName, obeyed: int) -> RingDocument:
    """Moves `prefixes` from the blocks to the grants. Blocks of the last generation stay.

    `obeyed`: the last fence that `to` has obeyed.
    """
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
        grants.extend(Grant(prefix, block.generation, to, obeyed) for prefix in given)
    return _replace(own, blocks, (*own.grants, *grants))


def take_over(
    view: View,
    own: RingDocument | None,
    fence: Fence,
    revision: int,
    former: Fence | None,
    documents: Mapping[PeerName, RingDocument],
) -> RingDocument:
    """Lists all that the victim of our fence owns; carries on its open grants to others and what
    it took over, whose only witness is a document that is about to be removed.

    What was granted to it before the last fence that it obeyed, `former`, belongs to the heir of
    that; while nobody knows who that is, the grant stays where it is. The generation is beyond all
    that is known by far: documents of others that nobody has seen must not win either.
    """
    document = own or RingDocument(view.universe, view.genesis)
    victim, victims = fence.victim, documents.get(fence.victim)
    generation = max(fence.generation, beyond(view))
    is_ours = former is not None and former.heir == fence.heir
    old = set() if is_ours else _of_former_lives(view, victim, documents)
    taken = [
        Block(prefix, generation)
        for segment in view.owned_by(victim)
        if segment not in old and generation < MAX_GENERATION
        for prefix in _cover(view, segment)
    ]
    carried = [
        grant
        for grant in (victims.grants if victims is not None else ())
        if grant.to != victim and not view.is_fulfilled(grant)
    ]
    if former is not None:
        known = life(documents, former.heir)
        carried += _for_heir(view, old, former.heir, known)
    takeovers = [
        *document.takeovers,
        *(victims.takeovers if victims is not None else ()),
        Takeover(victim, revision, fence.generation or generation),
    ]
    document = replace(document, takeovers=needed(takeovers, documents))
    return _replace(document, (*document.blocks, *taken), (*document.grants, *carried))


def beyond(view: View) -> int:
    """A generation that is beyond all that a view has by far."""
    return max((s.generation for s in view.segments), default=0) + RECLAIM_STEP


def carry(
    view: View,
    own: RingDocument | None,
    fence: Fence,
    documents: Mapping[PeerName, RingDocument],
    obeyed: int,
) -> RingDocument:
    """Witnesses to the heir of a removed peer what that peer owned, so that it does not get lost.

    `obeyed`: the last fence that the heir has obeyed.
    """
    document = own or RingDocument(view.universe, view.genesis)
    victim, bound = fence.victim, fence.generation
    old = _of_former_lives(view, victim, documents)
    owned = [segment for segment in view.owned_by(victim) if segment not in old]
    orphaned = _for_heir(view, owned, fence.heir, obeyed, bound)
    open_grants = [
        # The heir's own claim to it, if it has one, has to win.
        replace(grant, generation=below_grants(grant.generation, bound))
        for grant in documents[victim].grants
        if grant.to != victim and not view.is_fulfilled(grant)
    ]
    return _replace(document, document.blocks, (*document.grants, *orphaned, *open_grants))


def _of_former_lives(
    view: View, victim: PeerName, documents: Mapping[PeerName, RingDocument]
) -> set[Segment]:
    to_victim = granted(documents, victim, life(documents, victim))
    return {segment for segment in view.owned_by(victim) if to_victim.is_old(segment)}


def _replace(
    document: RingDocument, blocks: Iterable[Block], grants: Iterable[Grant]
) -> RingDocument:
    return replace(document, blocks=coalesced(blocks), grants=tuple(sorted(set(grants))))


def _cover(view: View, segment: Segment) -> Iterable[Prefix]:
    return cover(view.universe.family, segment.start, segment.end)


def _common(one: Prefix, other: Prefix) -> Prefix:
    return other if one.contains(other) else one
