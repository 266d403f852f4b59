"""A grant counts once, and only for the life of its heir that it was made to."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

import pytest

from weave_ipam.core import receipts
from weave_ipam.core.granted import Taken
from weave_ipam.core.own import TAKEOVER_STEP, give, is_worth_writing, settle, take_over
from weave_ipam.core.view import compute_view
from weave_model.peer import PeerName
from weave_model.prefix import Prefix
from weave_model.ring import Block, Genesis, Grant, Receipt, RingDocument

ME, DEAD, DONOR, HEIR, NEXT = (PeerName(bytes([2, 0, 0, 0, 0, n])) for n in (1, 2, 3, 4, 5))
UNIVERSE = Prefix.parse("10.0.0.0/28")
GENESIS = Genesis((ME,))
BLOCK = Prefix.parse("10.0.0.8/30")


def document(*blocks: Block, grants: tuple[Grant, ...] = (), obeyed: int = 0) -> RingDocument:
    return RingDocument(UNIVERSE, GENESIS, blocks, grants, obeyed=obeyed)


def follow(
    documents: Mapping[PeerName, RingDocument],
    *,
    obeyed: int = 0,
    share_for: PeerName | None = ME,
    heirs_life: int = 0,
    taken: Mapping[PeerName, Taken] = MappingProxyType({}),
) -> RingDocument:
    """What this peer writes when it holds these documents."""
    view = compute_view(UNIVERSE, GENESIS, documents)
    settled = settle(
        view,
        ME,
        documents[ME],
        share_for,
        documents,
        obeyed=obeyed,
        heirs_life=heirs_life,
        taken=taken,
    )
    assert settled is not None
    return settled


def test_a_grant_of_a_dead_peer_does_not_come_back_in_between() -> None:
    """Seeds 1252, 1314 and 1568: the donor's newest document came before that of its heir."""
    dead = document(grants=(Grant(BLOCK, 1, ME),))
    listed = follow({ME: document(), DEAD: dead})
    assert listed.blocks == (Block(BLOCK, 2),)
    given = give(listed, [BLOCK], NEXT, 0)
    passed_on = follow({ME: given, DEAD: dead, NEXT: document(Block(BLOCK, 3))})
    assert passed_on.grants == ()

    in_between = {ME: passed_on, DEAD: dead, NEXT: document()}

    assert follow(in_between).blocks == ()
    assert compute_view(UNIVERSE, GENESIS, in_between).owner_of(BLOCK.address) is None


def test_what_was_taken_over_and_passed_on_is_not_taken_again_of_who_comes_back() -> None:
    """Seed 6772: the newest owner's document was under way, the one before showed nothing more."""
    lower, upper = BLOCK.halves()
    back = document(grants=(Grant(BLOCK, 1, ME),), obeyed=3)
    taken = {DEAD: Taken(TAKEOVER_STEP, (lower,))}

    told = follow({ME: document(), DEAD: back}, taken=taken)

    assert told.blocks == (Block(upper, 2),)
    assert told.receipts == (Receipt(DEAD, BLOCK, 1),)


@pytest.mark.parametrize(
    ("giver", "generation"), [(DONOR, 1), (DEAD, TAKEOVER_STEP)], ids=["another", "newer"]
)
def test_what_is_granted_anew_is_taken_all_the_same(giver: PeerName, generation: int) -> None:
    granting = document(grants=(Grant(BLOCK, generation, ME),))
    taken = {DEAD: Taken(TAKEOVER_STEP, (BLOCK,))}

    told = follow({ME: document(), giver: granting}, taken=taken)

    assert told.blocks == (Block(BLOCK, generation + 1),)


def test_a_grant_that_was_too_late_counts_no_more() -> None:
    late = document(grants=(Grant(BLOCK, 1, ME),))

    told = follow({ME: document(), DEAD: late, NEXT: document(Block(BLOCK, 7))})

    assert told.blocks == ()
    assert follow({ME: told, DEAD: late, NEXT: document()}).blocks == ()


def test_a_newer_grant_of_the_same_addresses_counts() -> None:
    settled = follow({ME: document(), DONOR: document(grants=(Grant(BLOCK, 1, ME),))})
    given = give(settled, [BLOCK], DONOR, 0)
    back = document(grants=(Grant(BLOCK, 3, ME),))

    assert follow({ME: given, DONOR: back}).blocks == (Block(BLOCK, 4),)


def test_a_receipt_stays_while_its_donor_may_show_the_grant() -> None:
    donor = document(grants=(Grant(BLOCK, 1, ME),))
    settled = follow({ME: document(), DONOR: donor})
    receipt = Receipt(DONOR, BLOCK, 1)
    assert settled.receipts == (receipt,)

    # No document of the donor is here: it may come back with the one before.
    other = document(grants=(Grant(Prefix.parse("10.0.0.0/30"), 1, ME),))
    elsewhere = follow({ME: settled, NEXT: other})
    assert receipt in elsewhere.receipts

    both = {ME: settled, DONOR: document(), NEXT: other}
    assert receipt not in follow(both).receipts


def test_a_receipt_that_is_not_needed_any_more_is_worth_no_document() -> None:
    settled = follow({ME: document(), DONOR: document(grants=(Grant(BLOCK, 1, ME),))})

    later = follow({ME: settled, DONOR: document()})

    assert later.receipts == ()
    assert not is_worth_writing(later, settled)
    assert is_worth_writing(settled, document())
    assert is_worth_writing(later, None)


def test_a_donor_drops_a_grant_that_nobody_will_list() -> None:
    void = RingDocument(UNIVERSE, GENESIS, receipts=(Receipt(ME, BLOCK, 1),))

    settled = follow({ME: document(grants=(Grant(BLOCK, 1, HEIR),)), HEIR: void})

    assert settled.grants == ()


def test_receipts_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(receipts, "MAX_RECEIPTS", 2)
    hosts = [Prefix.host(BLOCK.family, BLOCK.address + n) for n in range(BLOCK.size)]
    grants = tuple(Grant(host, n, ME) for n, host in enumerate(hosts))

    settled = follow({ME: document(), DONOR: document(grants=grants)})

    assert [receipt.generation for receipt in settled.receipts] == [2, 3]


def test_of_too_many_receipts_those_that_are_needed_for_sure_stay(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(receipts, "MAX_RECEIPTS", 1)
    gone = RingDocument(UNIVERSE, GENESIS, receipts=(Receipt(DEAD, UNIVERSE, 0),))
    shown = Grant(BLOCK, 0, ME)

    settled = follow({ME: gone, DONOR: document(grants=(shown,))})
    again = follow({ME: settled, DONOR: document(grants=(shown, Grant(UNIVERSE, 0, HEIR)))})

    assert settled.receipts == again.receipts == (Receipt(DONOR, BLOCK, 0),)


def test_what_was_granted_before_the_fence_is_the_heirs() -> None:
    """Seed 669: the victim saw a grant for the first time after it had obeyed."""
    documents = {
        ME: document(obeyed=5),
        DONOR: document(grants=(Grant(BLOCK, 1, ME),)),
        HEIR: document(obeyed=3),
    }

    settled = follow(documents, obeyed=5, share_for=HEIR)

    assert settled.blocks == ()
    assert settled.grants == (Grant(BLOCK, 2, HEIR, obeyed=3),)
    assert settled.receipts == (Receipt(DONOR, BLOCK, 1),)


def test_an_heir_whose_document_is_not_here_gets_it_for_the_life_that_took_over() -> None:
    """Seed 3884: such a grant passed for one of before; its owner's next heir left it alone."""
    documents = {ME: document(obeyed=5), DONOR: document(grants=(Grant(BLOCK, 1, ME),))}

    settled = follow(documents, obeyed=5, share_for=HEIR, heirs_life=3)

    assert settled.grants == (Grant(BLOCK, 2, HEIR, obeyed=3),)


def test_what_is_granted_after_the_fence_is_ours() -> None:
    documents = {
        ME: document(obeyed=5),
        DONOR: document(grants=(Grant(BLOCK, 1, ME, obeyed=5),)),
        HEIR: document(),
    }

    settled = follow(documents, obeyed=5, share_for=HEIR)

    assert settled.blocks == (Block(BLOCK, 2),)
    assert settled.grants == ()


def test_nothing_is_passed_on_while_the_heir_is_not_known() -> None:
    documents = {ME: document(obeyed=5), DONOR: document(grants=(Grant(BLOCK, 1, ME),))}

    settled = follow(documents, share_for=None)

    assert settled == documents[ME]


def test_who_is_its_own_heir_again_takes_everything() -> None:
    """Its state was lost, and Coordination is another one."""
    documents = {ME: document(obeyed=5), DONOR: document(grants=(Grant(BLOCK, 1, ME),))}

    assert follow(documents, share_for=ME).blocks == (Block(BLOCK, 2),)


@pytest.mark.parametrize(
    ("former", "blocks", "grants"),
    [
        (NEXT, (), (Grant(BLOCK, 2, NEXT, obeyed=4),)),
        (ME, (Block(BLOCK, 3 * TAKEOVER_STEP),), ()),
        (None, (), ()),
    ],
    ids=["another", "me", "nobody"],
)
def test_a_second_heir_leaves_the_first_what_is_his(
    former: PeerName | None, blocks: tuple[Block, ...], grants: tuple[Grant, ...]
) -> None:
    documents = {
        ME: document(),
        HEIR: document(obeyed=5),
        NEXT: document(obeyed=4),
        DONOR: document(grants=(Grant(BLOCK, 1, HEIR),)),
    }
    view = compute_view(UNIVERSE, GENESIS, documents)

    taken = take_over(view, documents[ME], HEIR, documents, ME, former, 3)

    assert (taken.blocks, taken.grants) == (blocks, grants)
