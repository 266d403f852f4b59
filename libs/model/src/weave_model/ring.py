"""The values of the ring: what a peer's document says and what all documents together say.

How documents become a view is ipam's business (`weave_ipam.core`); how a view becomes routes is
the router's.
See docs/adr/0002-ring-documents.md.
"""

from __future__ import annotations

from dataclasses import dataclass

from weave_model.peer import PeerName
from weave_model.prefix import Family, Prefix


@dataclass(frozen=True, slots=True, order=True)
class Block:
    """A part of the universe and how often it has changed hands."""

    prefix: Prefix
    generation: int


@dataclass(frozen=True, slots=True, order=True)
class Grant:
    """A block given away to `to`, who has not listed it yet; `generation` is the donor's.

    `obeyed`: the last fence that `to` had obeyed, as far as the donor knew (`RingDocument.obeyed`).
    """

    prefix: Prefix
    generation: int
    to: PeerName
    obeyed: int = 0


@dataclass(frozen=True, slots=True, order=True)
class Receipt:
    """A grant to the writer that it has listed, or was too late for. Void is also every other grant
    to the writer inside `prefix` that is of no higher generation."""

    donor: PeerName
    prefix: Prefix
    generation: int


@dataclass(frozen=True, slots=True)
class Genesis:
    """The agreement a ring grew from: sorted names without duplicates."""

    seeds: tuple[PeerName, ...]

    def __post_init__(self) -> None:
        if not self.seeds:
            raise ValueError("a ring needs at least one seed")
        if list(self.seeds) != sorted(set(self.seeds)):
            raise ValueError("seeds are not sorted or hold a name twice")


@dataclass(frozen=True, slots=True)
class RingDocument:
    """What one peer says it owns in one family: sorted, disjoint blocks inside the universe.

    `receipts`: of grants that their donors may still show. `obeyed`: revision of the last fence of
    its own that the writer has obeyed, 0 for none. `owed`: host prefixes in the blocks that are in
    use here and `owed_to` another, the heir of that fence, who may have given them already;
    `owed_life`: the last fence of its own that the heir had obeyed then.
    """

    universe: Prefix
    genesis: Genesis
    blocks: tuple[Block, ...] = ()
    grants: tuple[Grant, ...] = ()
    receipts: tuple[Receipt, ...] = ()
    obeyed: int = 0
    owed: tuple[Prefix, ...] = ()
    owed_to: PeerName | None = None
    owed_life: int = 0


@dataclass(frozen=True, slots=True)
class OwnedBlock:
    """A part of the universe and the peer that owns it after all conflicts are decided."""

    prefix: Prefix
    owner: PeerName


@dataclass(frozen=True, slots=True)
class RingView:
    """One family's ring: disjoint blocks, sorted; what no block covers is nobody's."""

    universe: Prefix
    blocks: tuple[OwnedBlock, ...]

    @property
    def family(self) -> Family:
        """The family of all its prefixes."""
        return self.universe.family
