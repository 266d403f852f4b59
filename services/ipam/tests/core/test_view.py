"""The ring as a function of documents: held against a naive count of every single address."""

from __future__ import annotations

import itertools
import random

from hypothesis import given
from hypothesis import strategies as st

from weave_ipam.core.genesis import shares, standing
from weave_ipam.core.view import coalesced, compute_view, document_fault
from weave_model.peer import PeerName
from weave_model.prefix import Prefix, subtract
from weave_model.ring import Block, Genesis, Grant, RingDocument

UNIVERSE = Prefix.parse("10.0.3.0/26")
PEERS = [PeerName(bytes([2, 0, 0, 0, 0, number])) for number in range(1, 6)]
A, B, C = PEERS[:3]
GENESIS = Genesis((A, B, C))


@st.composite
def parts(draw: st.DrawFn) -> Prefix:
    """A CIDR block inside the universe."""
    length = draw(st.integers(UNIVERSE.length, 32))
    number = draw(st.integers(0, (1 << (length - UNIVERSE.length)) - 1))
    return Prefix(UNIVERSE.family, UNIVERSE.address + (number << (32 - length)), length)


@st.composite
def documents(draw: st.DrawFn) -> RingDocument:
    """What a peer, honest or not, may say: blocks disjoint, grants anything."""
    blocks: list[Block] = []
    for part in draw(st.lists(parts(), max_size=4)):
        if not any(part.overlaps(block.prefix) for block in blocks):
            blocks.append(Block(part, draw(st.integers(0, 4))))
    grants = draw(
        st.lists(st.builds(Grant, parts(), st.integers(0, 4), st.sampled_from(PEERS)), max_size=3)
    )
    return RingDocument(UNIVERSE, GENESIS, tuple(sorted(blocks)), tuple(grants))


rings = st.dictionaries(st.sampled_from(PEERS), documents(), max_size=5)


def naive_owner(address: int, ring: dict[PeerName, RingDocument]) -> PeerName | None:
    """The rule of docs/adr/0002 for one address: higher generation, then lower owner name."""
    claims = [
        (-block.generation, writer)
        for writer, document in ring.items()
        for block in document.blocks
        if block.prefix.contains_address(address)
    ]
    claims += [
        (-grant.generation - 1, grant.to)
        for document in ring.values()
        for grant in document.grants
        if grant.prefix.contains_address(address)
    ]
    claims += [
        (0, seed)
        for seed, share in shares(UNIVERSE, GENESIS)
        if seed not in ring and share.contains_address(address)
    ]
    return min(claims)[1] if claims else None


@given(rings)
def test_each_address_belongs_to_the_one_the_rule_names(ring: dict[PeerName, RingDocument]) -> None:
    view = compute_view(UNIVERSE, GENESIS, ring)

    for address in range(UNIVERSE.address, UNIVERSE.end):
        assert view.owner_of(address) == naive_owner(address, ring)


@given(rings, st.randoms(use_true_random=False))
def test_the_view_does_not_depend_on_the_order_of_arrival(
    ring: dict[PeerName, RingDocument], rng: random.Random
) -> None:
    shuffled = list(ring.items())
    rng.shuffle(shuffled)

    assert (
        compute_view(UNIVERSE, GENESIS, dict(shuffled)).segments
        == compute_view(UNIVERSE, GENESIS, ring).segments
    )


@given(rings)
def test_the_ring_for_routes_is_disjoint_sorted_and_says_the_same(
    ring: dict[PeerName, RingDocument],
) -> None:
    view = compute_view(UNIVERSE, GENESIS, ring)
    blocks = view.ring().blocks

    assert all(one.prefix.end <= other.prefix.address for one, other in itertools.pairwise(blocks))
    for block in blocks:
        assert view.owner_of(block.prefix.address) == block.owner
        assert view.owner_of(block.prefix.end - 1) == block.owner
    assert sum(block.prefix.size for block in blocks) == sum(view.sizes().values())


def test_three_seeds_share_by_halving() -> None:
    """Vector 3.13.2 of Weave Net's behaviour: A has the lower half, B and C a quarter each."""
    assert [(seed, str(part)) for seed, part in shares(UNIVERSE, GENESIS)] == [
        (A, "10.0.3.0/27"),
        (B, "10.0.3.32/28"),
        (C, "10.0.3.48/28"),
    ]


@given(st.lists(st.sampled_from(PEERS), min_size=1, unique=True))
def test_shares_cover_the_universe_once(seeds: list[PeerName]) -> None:
    parts_of_all = [part for _, part in shares(UNIVERSE, Genesis(tuple(sorted(seeds))))]

    assert subtract([UNIVERSE], parts_of_all) == []
    assert sum(part.size for part in parts_of_all) == UNIVERSE.size


def test_more_seeds_than_addresses_share_what_there_is() -> None:
    tiny = Prefix.parse("10.0.3.0/30")
    genesis = Genesis(tuple(sorted(PEERS)))

    assert sum(part.size for _, part in shares(tiny, genesis)) == tiny.size


def test_a_donation_moves_ownership_at_each_step_and_never_loses_space() -> None:
    """The table of docs/adr/0002, step by step."""
    given_away = Prefix.parse("10.0.3.16/28")
    kept = Block(Prefix.parse("10.0.3.0/28"), 1)
    before = RingDocument(UNIVERSE, GENESIS, (Block(Prefix.parse("10.0.3.0/27"), 1),))
    granting = RingDocument(UNIVERSE, GENESIS, (kept,), (Grant(given_away, 1, B),))
    heir = RingDocument(UNIVERSE, GENESIS, (Block(given_away, 2),))
    after = RingDocument(UNIVERSE, GENESIS, (kept,))
    steps: list[dict[PeerName, RingDocument]] = [
        {A: before},
        {A: granting},
        {A: granting, B: heir},
        {A: after, B: heir},
    ]
    # The heir's share of the genesis ends with its first document, so it is not looked at here.
    owners = [compute_view(UNIVERSE, GENESIS, ring).owner_of(given_away.address) for ring in steps]

    assert owners == [A, B, B, B]
    assert compute_view(UNIVERSE, GENESIS, steps[2]).is_fulfilled(granting.grants[0])
    assert not compute_view(UNIVERSE, GENESIS, steps[1]).is_fulfilled(granting.grants[0])


@given(st.lists(st.lists(st.sampled_from(PEERS), min_size=1, unique=True), max_size=4))
def test_one_genesis_stands_whatever_the_order(names: list[list[PeerName]]) -> None:
    candidates = [Genesis(tuple(sorted(each))) for each in names]

    winner = standing(candidates)

    assert winner == standing(reversed(candidates))
    assert (winner is None) == (not candidates)


@given(documents())
def test_an_honest_document_has_no_fault(document: RingDocument) -> None:
    assert document_fault(UNIVERSE, document) is None


def test_a_document_that_cannot_be_part_of_the_ring_says_why() -> None:
    elsewhere = RingDocument(Prefix.parse("10.0.4.0/26"), GENESIS)
    outside = RingDocument(UNIVERSE, GENESIS, (Block(Prefix.parse("10.9.0.0/28"), 0),))
    overlapping = RingDocument(
        UNIVERSE,
        GENESIS,
        (Block(Prefix.parse("10.0.3.0/27"), 0), Block(Prefix.parse("10.0.3.0/28"), 0)),
    )
    endless = RingDocument(UNIVERSE, GENESIS, (Block(UNIVERSE, 1 << 63),))

    assert "Incompatible IP allocation ranges" in (document_fault(UNIVERSE, elsewhere) or "")
    assert "10.9.0.0/28 lies outside" in (document_fault(UNIVERSE, outside) or "")
    assert "overlap" in (document_fault(UNIVERSE, overlapping) or "")
    assert "out of bounds" in (document_fault(UNIVERSE, endless) or "")


@given(documents())
def test_coalescing_keeps_every_address_and_never_lowers_a_generation(
    document: RingDocument,
) -> None:
    merged = coalesced(document.blocks)

    for block in document.blocks:
        (holder,) = [each for each in merged if each.prefix.contains(block.prefix)]
        assert holder.generation >= block.generation
    assert sum(each.prefix.size for each in merged) == sum(b.prefix.size for b in document.blocks)
