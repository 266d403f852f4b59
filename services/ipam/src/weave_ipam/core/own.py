"""Transitions of this peer's own ring document. Pure: each gives the document to write next.

Donation conserves space at every crash point (docs/adr/0002): the donor moves a block to its grants
(`give`), the heir lists it (`settle` at the heir), the donor drops the grant (`settle` at the
donor).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from types import MappingProxyType

from weave_ipam.core.granted import Taken, granted, stale
from weave_ipam.core.receipts import receipts
from weave_ipam.core.view import MAX_GENERATION, Segment, Title, View, coalesced
from weave_model.peer import PeerName
from weave_model.prefix import Prefix, cover, subtract
from weave_model.ring import Block, Grant, RingDocument

# More changes of hands than there are between two takeovers: what a takeover lists is beyond all
# that came from earlier ones.
TAKEOVER_STEP = 1 << 20
# Beyond what is known of the victim, where the tokens began anew.
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
    taken: Mapping[PeerName, Taken] = MappingProxyType({}),
) -> RingDocument | None:
    """What our document must say, given what all say: list what is ours or was granted to us, leave
    out what others won, drop grants that are fulfilled. None: no document is needed.

    `share_for`: who gets the share of the first ring that is ours as long as we have no document of
    it, and what was granted to us before the last fence: we ourselves, or the heir who took us
    over; None: that is not known yet, and so nothing is written that would give it up.
    `documents`: those that `view` is of. `obeyed`: the last fence that we have obeyed.
    `heirs_life`: one that the heir is known to have obeyed.
    `may_be_another`: an heir may own some of our blocks, whose document has not come; so no block
    gets a higher generation by joining another. `taken`: what we took over of whom.
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
    listed = [
        Block(prefix, segment.generation)
        for segment in mine
        if segment not in heirs
        for prefix in subtract(
            _cover(view, segment),
            stale(documents, me, segment, taken) if segment.title is Title.GRANTED else (),
        )
    ]
    blocks = coalesced(listed, only_equal=may_be_another)
    same_ring = own if own is not None and own.genesis == view.genesis else None
    grants: tuple[Grant, ...] = ()
    if same_ring is not None:
        grants = tuple(grant for grant in same_ring.grants if not view.is_fulfilled(grant))
    settled = to_us.new
    if share_for not in (None, me):
        known = max(heirs_life, life(documents, share_for))
        grants += _for_heir(view, heirs, share_for, known)
        settled |= to_us.old
    said = receipts(documents, me, same_ring, settled)
    if own is None and not (blocks or grants or said or obeyed):
        return None
    return RingDocument(view.universe, view.genesis, blocks, grants, said, obeyed)


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
    view: View, segments: Iterable[Segment], heir: PeerName, obeyed: int
) -> tuple[Grant, ...]:
    """With the document that says so, none of it is ours any more."""
    return tuple(
        Grant(prefix, segment.generation, heir, obeyed)
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
    victim: PeerName,
    documents: Mapping[PeerName, RingDocument],
    me: PeerName,
    former: PeerName | None,
    token: int,
) -> RingDocument:
    """Lists all that `victim` owns, and carries on its open grants to others, whose only witness is
    a document that is about to be removed.

    What was granted to it before the last fence that it obeyed belongs to the heir of that,
    `former`; while nobody knows who that is, the grant stays where it is. `token`: the fencing
    token of the takeover; 0: it is not known. Generations go by it: a victim that comes back may
    bring documents that nobody has seen, and none of them may win.
    """
    document = own or RingDocument(view.universe, view.genesis)
    victims = documents.get(victim)
    known = max((s.generation for s in view.owned_by(victim)), default=0)
    generation = max(known + RECLAIM_STEP, token * TAKEOVER_STEP)
    old = _of_former_lives(view, victim, documents) if former != me else set()
    debts = _debts(view, victim, victims, but=me)
    taken = [
        Block(prefix, generation)
        for segment in view.owned_by(victim)
        if segment not in old and generation < MAX_GENERATION
        for prefix in subtract(_cover(view, segment), (debt.prefix for debt in debts))
    ]
    carried = [
        grant
        for grant in (victims.grants if victims is not None else ())
        if grant.to != victim and not view.is_fulfilled(grant)
    ]
    if former is not None:
        carried += _for_heir(view, old, former, life(documents, former))
    return _replace(document, (*document.blocks, *taken), (*document.grants, *carried, *debts))


def carry(
    view: View,
    own: RingDocument | None,
    victim: PeerName,
    documents: Mapping[PeerName, RingDocument],
    heir: PeerName,
    obeyed: int,
    token: int,
) -> RingDocument:
    """Witnesses to the heir of a removed peer what that peer owned, so that it does not get lost.

    `obeyed`: the last fence that `heir` has obeyed. `token`: that of its takeover; the heir lists
    what it did not know of as if it had.
    """
    document = own or RingDocument(view.universe, view.genesis)
    old = _of_former_lives(view, victim, documents)
    debts = _debts(view, victim, documents[victim], but=heir)
    orphaned = [
        Grant(prefix, generation, heir, obeyed)
        for segment in view.owned_by(victim)
        if segment not in old
        and (generation := max(segment.generation, token * TAKEOVER_STEP - 1)) + 1 < MAX_GENERATION
        for prefix in subtract(_cover(view, segment), (debt.prefix for debt in debts))
    ]
    open_grants = [
        grant
        for grant in documents[victim].grants
        if grant.to != victim and not view.is_fulfilled(grant)
    ]
    return _replace(document, document.blocks, (*document.grants, *orphaned, *open_grants, *debts))


def _debts(
    view: View, victim: PeerName, document: RingDocument | None, *, but: PeerName
) -> list[Grant]:
    """What a peer kept in use and owed to the heir of an earlier life, given to that one."""
    to = document.owed_to if document is not None else None
    if document is None or to is None or to in (victim, but):
        return []
    return [
        Grant(prefix, segment.generation, to, document.owed_life)
        for prefix in document.owed
        for segment in view.within(prefix)
        if segment.owner == victim and segment.title is Title.LISTED
    ]


def _of_former_lives(
    view: View, victim: PeerName, documents: Mapping[PeerName, RingDocument]
) -> set[Segment]:
    to_victim = granted(documents, victim, life(documents, victim))
    return {segment for segment in view.owned_by(victim) if to_victim.is_old(segment)}


def _replace(
    document: RingDocument, blocks: Iterable[Block], grants: Iterable[Grant]
) -> RingDocument:
    # No generation grows here: another may own some of our blocks without our knowing.
    joined = coalesced(blocks, only_equal=True)
    return replace(document, blocks=joined, grants=tuple(sorted(set(grants))))


def _cover(view: View, segment: Segment) -> Iterable[Prefix]:
    return cover(view.universe.family, segment.start, segment.end)


def _common(one: Prefix, other: Prefix) -> Prefix:
    return other if one.contains(other) else one
