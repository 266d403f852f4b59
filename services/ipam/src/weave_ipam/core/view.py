"""All documents of one family -> who owns what. Pure; independent of the order of arrival.

Every claim to a part of the universe is a CIDR block, so two claims are nested or disjoint. Of the
claims to an address the one with the higher generation wins, then the lower owner name, then the
stronger title:

- LISTED: the owner's own document lists the block. Only these may be allocated from.
- GRANTED: another's document gives it to the owner, who will list it with the grant's generation +
  1. Once the owner's document has a receipt of it the grant is void.
- SHARE: the owner is a seed without a document; generation 0.
"""

from __future__ import annotations

import enum
from bisect import bisect_right
from collections.abc import Iterable, Iterator, Mapping
from typing import NamedTuple

from weave_ipam.core.genesis import MAX_SEEDS, shares
from weave_ipam.core.receipts import Received
from weave_model.peer import PeerName
from weave_model.prefix import Prefix, cover
from weave_model.ring import Block, Genesis, Grant, OwnedBlock, RingDocument, RingView

# Leaves room for successors in 64 bits of the wire; no honest block changes hands this often.
MAX_GENERATION = 1 << 62
# What fits into a gossip document of 1 MiB, and some more.
MAX_CLAIMS = 1 << 16


class Title(enum.IntEnum):
    """By what right an owner holds a part; the lower wins a tie of the same owner."""

    LISTED = 0
    GRANTED = 1
    SHARE = 2


class Segment(NamedTuple):
    """Addresses [start, end) with one owner."""

    start: int
    end: int
    owner: PeerName
    generation: int
    title: Title


class View:
    """Who owns what: disjoint segments, sorted; what none covers is nobody's."""

    def __init__(
        self, universe: Prefix, genesis: Genesis, segments: list[Segment], received: Received
    ) -> None:
        self.universe = universe
        self.genesis = genesis
        self.segments = segments
        self.received = received
        self._starts = [segment.start for segment in segments]

    def within(self, prefix: Prefix) -> Iterator[Segment]:
        """The segments inside `prefix`, cut to it."""
        index = max(0, bisect_right(self._starts, prefix.address) - 1)
        end = prefix.end
        while index < len(self.segments) and self.segments[index].start < end:
            segment = self.segments[index]
            index += 1
            if segment.end > prefix.address:
                yield segment._replace(
                    start=max(segment.start, prefix.address), end=min(segment.end, end)
                )

    def owner_of(self, address: int) -> PeerName | None:
        """Whose the address is; None: nobody's."""
        index = bisect_right(self._starts, address) - 1
        if index >= 0 and address < self.segments[index].end:
            return self.segments[index].owner
        return None

    def owned_by(self, peer: PeerName) -> list[Segment]:
        """What a peer owns."""
        return [segment for segment in self.segments if segment.owner == peer]

    def sizes(self) -> dict[PeerName, int]:
        """How many addresses each owner has."""
        sizes: dict[PeerName, int] = {}
        for segment in self.segments:
            sizes[segment.owner] = sizes.get(segment.owner, 0) + segment.end - segment.start
        return sizes

    def is_fulfilled(self, grant: Grant) -> bool:
        """Has somebody listed all of it since, or given it on, or has its heir a receipt?

        Then the grant says nothing any more and may be dropped.
        """
        return grant in self.received or self.is_superseded(
            grant.prefix, grant.generation + 1, listed=True
        )

    def is_superseded(self, prefix: Prefix, generation: int, *, listed: bool) -> bool:
        """Is every address of `prefix` claimed with a higher generation, or (`listed`) listed with
        this one?"""
        covered = prefix.address
        for segment in self.within(prefix):
            newer = segment.generation > generation or (
                listed and segment.title is Title.LISTED and segment.generation == generation
            )
            if segment.start != covered or not newer:
                return False
            covered = segment.end
        return covered == prefix.end

    def ring(self) -> RingView:
        """What routes need: disjoint CIDR blocks, sorted, fewest per run of one owner."""
        blocks: list[OwnedBlock] = []
        index = 0
        while index < len(self.segments):
            first = self.segments[index]
            end = first.end
            index += 1
            while (
                index < len(self.segments)
                and self.segments[index].start == end
                and self.segments[index].owner == first.owner
            ):
                end = self.segments[index].end
                index += 1
            blocks.extend(
                OwnedBlock(prefix, first.owner)
                for prefix in cover(self.universe.family, first.start, end)
            )
        return RingView(self.universe, tuple(blocks))


def compute_view(
    universe: Prefix, genesis: Genesis, documents: Mapping[PeerName, RingDocument]
) -> View:
    """The view of documents that have no fault and this genesis."""
    bits = universe.family.bits
    received = Received(documents)
    # (address, length, -generation, owner, title): sorts outer before inner, better before worse.
    claims: list[tuple[int, int, int, PeerName, Title]] = []
    for writer, document in documents.items():
        for block in document.blocks:
            prefix = block.prefix
            claims.append((prefix.address, prefix.length, -block.generation, writer, Title.LISTED))
        for grant in document.grants:
            if grant in received:
                continue
            prefix = grant.prefix
            claims.append(
                (prefix.address, prefix.length, -grant.generation - 1, grant.to, Title.GRANTED)
            )
    for seed, prefix in shares(universe, genesis):
        if seed not in documents:
            claims.append((prefix.address, prefix.length, 0, seed, Title.SHARE))
    claims.sort()
    return View(universe, genesis, _sweep(claims, bits), received)


def _sweep(claims: list[tuple[int, int, int, PeerName, Title]], bits: int) -> list[Segment]:
    segments: list[Segment] = []
    # The claims that contain the present position, outermost first: (end, best claim up to here).
    open_claims: list[tuple[int, tuple[int, PeerName, Title]]] = []
    position = 0

    def advance(to: int) -> None:
        nonlocal position
        if to > position:
            order, owner, title = open_claims[-1][1]
            segments.append(Segment(position, to, owner, -order, title))
            position = to

    for address, length, order, owner, title in claims:
        while open_claims and open_claims[-1][0] <= address:
            advance(open_claims[-1][0])
            open_claims.pop()
        if open_claims:
            advance(address)
        position = address
        best = (order, owner, title)
        if open_claims:
            best = min(best, open_claims[-1][1])
        open_claims.append((address + (1 << (bits - length)), best))
    while open_claims:
        advance(open_claims[-1][0])
        open_claims.pop()
    return segments


def incompatible(received: Prefix, ours: Prefix) -> str:
    """Weave Net's words for a peer with another range."""
    return f"Incompatible IP allocation ranges (received: {received}, ours: {ours})"


def document_fault(universe: Prefix, document: RingDocument) -> str | None:
    """Why a document cannot be part of this ring; None when it can."""
    if document.universe != universe:
        return incompatible(document.universe, universe)
    parts = (document.blocks, document.grants, document.receipts, document.owed)
    claims = sum(map(len, parts))
    if claims > MAX_CLAIMS:
        return f"{claims} blocks, grants, receipts and debts are more than {MAX_CLAIMS}"
    if len(document.genesis.seeds) > MAX_SEEDS:
        return f"{len(document.genesis.seeds)} seeds are more than {MAX_SEEDS}"
    pairs = [(block.prefix, block.generation) for block in document.blocks]
    pairs += [(grant.prefix, grant.generation) for grant in document.grants]
    pairs += [(receipt.prefix, receipt.generation) for receipt in document.receipts]
    pairs += [(prefix, 0) for prefix in document.owed]
    for prefix, generation in pairs:
        if not universe.contains(prefix):
            return f"block {prefix} lies outside the range {universe}"
        if not 0 <= generation < MAX_GENERATION:
            return f"generation {generation} of {prefix} is out of bounds"
    return _overlap(block.prefix for block in document.blocks)


def _overlap(prefixes: Iterable[Prefix]) -> str | None:
    previous: Prefix | None = None
    for prefix in sorted(prefixes):
        if previous is not None and prefix.address < previous.end:
            return f"blocks {previous} and {prefix} overlap"
        previous = prefix
    return None


def coalesced(blocks: Iterable[Block], *, only_equal: bool = False) -> tuple[Block, ...]:
    """Disjoint blocks of one owner, sorted; buddies become their parent with the greater
    generation. `only_equal`: those of different generations stay apart.
    """
    merged: list[Block] = []
    for block in sorted(blocks):
        merged.append(block)
        while (
            len(merged) > 1
            and merged[-1].prefix.length > 0
            and merged[-1].prefix.length == merged[-2].prefix.length
            and merged[-1].prefix.parent() == merged[-2].prefix.parent()
            and (not only_equal or merged[-1].generation == merged[-2].generation)
        ):
            upper, lower = merged.pop(), merged.pop()
            generation = max(upper.generation, lower.generation)
            merged.append(Block(upper.prefix.parent(), generation))
    return tuple(merged)
