"""What an heir took counts for more than what its victim still claims, until that has obeyed."""

from __future__ import annotations

import pytest

from weave_ipam.core import takeovers
from weave_ipam.core.fences import Fence
from weave_ipam.core.own import carry, listed, settle, take_over
from weave_ipam.core.takeovers import Bounds, is_taken_over, lowered, needed
from weave_ipam.core.view import compute_view, document_fault
from weave_model.peer import PeerName
from weave_model.prefix import Prefix
from weave_model.ring import Block, Genesis, Grant, RingDocument, Takeover

ME, VICTIM, OTHER, FAR = (PeerName(bytes([2, 0, 0, 0, 0, n])) for n in (1, 2, 3, 4))
UNIVERSE = Prefix.parse("10.0.0.0/28")
GENESIS = Genesis((ME,))
BLOCK, SECOND = Prefix.parse("10.0.0.8/30"), Prefix.parse("10.0.0.4/30")
FENCE = Fence(VICTIM, 1, "", ME, generation=101)


def document(
    *blocks: Block,
    grants: tuple[Grant, ...] = (),
    obeyed: int = 0,
    taken: tuple[Takeover, ...] = (),
) -> RingDocument:
    return RingDocument(UNIVERSE, GENESIS, blocks, grants, obeyed=obeyed, takeovers=taken)


def owner(documents: dict[PeerName, RingDocument], prefix: Prefix) -> PeerName | None:
    return compute_view(UNIVERSE, GENESIS, documents).owner_of(prefix.address)


@pytest.mark.parametrize(("obeyed", "expected"), [(0, OTHER), (6, OTHER), (7, VICTIM)])
def test_a_victim_that_has_not_obeyed_takes_nothing_back(obeyed: int, expected: PeerName) -> None:
    documents = {
        ME: document(taken=(Takeover(VICTIM, 7, 101),)),
        OTHER: document(Block(BLOCK, 102)),
        VICTIM: document(Block(BLOCK, 403), Block(SECOND, 403), obeyed=obeyed),
    }

    assert owner(documents, BLOCK) == expected
    assert owner(documents, SECOND) == VICTIM


def test_what_a_victim_gave_counts_for_less_than_what_its_heir_took() -> None:
    documents = {
        ME: document(Block(BLOCK, 101), taken=(Takeover(VICTIM, 7, 101),)),
        VICTIM: document(grants=(Grant(BLOCK, 403, OTHER), Grant(SECOND, 403, OTHER))),
        OTHER: document(),
    }

    assert owner(documents, BLOCK) == ME
    assert owner(documents, SECOND) == OTHER


def test_of_several_takeovers_the_lowest_counts() -> None:
    documents = {
        ME: document(taken=(Takeover(VICTIM, 7, 303),)),
        OTHER: document(taken=(Takeover(VICTIM, 5, 101),)),
    }

    assert Bounds(documents).of(VICTIM, document()) == 101
    assert Bounds(documents).of(VICTIM, document(obeyed=5)) == 303
    assert Bounds(documents).of(VICTIM, document(obeyed=7)) == 0
    assert Bounds(documents).of(ME, document()) == 0


def test_an_heir_says_what_it_took_over_and_what_its_victim_had() -> None:
    documents = {
        ME: document(),
        VICTIM: document(Block(BLOCK, 3), taken=(Takeover(FAR, 2, 50), Takeover(ME, 1, 40))),
    }
    view = compute_view(UNIVERSE, GENESIS, documents)

    taken = take_over(view, documents[ME], FENCE, 7, None, documents)

    assert taken.takeovers == (
        Takeover(ME, 1, 40),
        Takeover(VICTIM, 7, 101),
        Takeover(FAR, 2, 50),
    )
    assert taken.blocks == (Block(BLOCK, 103),)


def test_a_takeover_is_kept_until_its_victim_has_obeyed() -> None:
    old, new = Takeover(VICTIM, 5, 101), Takeover(VICTIM, 7, 90)

    assert needed((old, new), {}) == (new,)
    assert needed((old, new), {VICTIM: document(obeyed=6)}) == (new,)
    assert needed((old, new), {VICTIM: document(obeyed=7)}) == ()


def test_takeovers_are_bounded_the_last_stay(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(takeovers, "MAX_TAKEOVERS", 2)
    all_of_them = tuple(Takeover(peer, 1, n) for n, peer in enumerate((VICTIM, OTHER, FAR), 1))

    assert needed(all_of_them, {}) == all_of_them[1:]


def test_who_obeys_puts_all_it_claims_below() -> None:
    had = document(Block(BLOCK, 403), Block(SECOND, 5), grants=(Grant(BLOCK, 403, OTHER),))

    now = lowered(had, 101)

    assert now.blocks == (Block(BLOCK, 100), Block(SECOND, 5))
    assert now.grants == (Grant(BLOCK, 99, OTHER),)
    assert lowered(had, 0) == had


def test_what_is_left_to_a_victim_keeps_its_generation() -> None:
    own = document(Block(BLOCK, 403), Block(SECOND, 403))
    documents = {
        ME: document(Block(BLOCK, 101), taken=(Takeover(VICTIM, 7, 101),)),
        VICTIM: own,
    }
    view = compute_view(UNIVERSE, GENESIS, documents)

    assert list(listed(view, VICTIM, own)) == [Block(SECOND, 403)]
    followed = settle(view, VICTIM, own, VICTIM, documents)
    assert followed is not None
    assert followed.blocks == (Block(SECOND, 403),)


def test_what_a_victim_gave_is_listed_with_the_generation_that_it_named() -> None:
    """Seed 49: listed with less, it was given back with less than an old receipt, and lost."""
    documents = {
        ME: document(taken=(Takeover(VICTIM, 7, 303),)),
        VICTIM: document(grants=(Grant(BLOCK, 304, ME),)),
    }
    view = compute_view(UNIVERSE, GENESIS, documents)

    followed = settle(view, ME, documents[ME], ME, documents)

    assert followed is not None
    assert followed.blocks == (Block(BLOCK, 305),)


def test_it_is_known_whether_somebody_took_a_peer_over() -> None:
    documents = {ME: document(taken=(Takeover(VICTIM, 7, 101),))}

    assert is_taken_over(VICTIM, 7, documents)
    assert not is_taken_over(VICTIM, 8, documents)
    assert not is_taken_over(OTHER, 7, documents)


def test_a_witness_brings_the_heir_nothing_that_counts_for_more() -> None:
    """It may not hold the heir's document: the fence says it, too."""
    documents = {
        OTHER: document(),
        VICTIM: document(Block(BLOCK, 403), grants=(Grant(SECOND, 403, FAR),)),
    }
    view = compute_view(UNIVERSE, GENESIS, documents)

    carried = carry(view, documents[OTHER], FENCE, documents, 0)

    assert carried.grants == (Grant(SECOND, 99, FAR), Grant(BLOCK, 100, ME))


@pytest.mark.parametrize("generation", [0, 1 << 62])
def test_a_takeover_out_of_bounds_is_a_fault(generation: int) -> None:
    fault = document_fault(UNIVERSE, document(taken=(Takeover(VICTIM, 1, generation),)))

    assert fault == f"generation {generation} of a takeover is out of bounds"
