"""Fences: who may take over a dead peer's space, one for each of its lives."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

from weave_model.peer import PeerName

# Removals of one peer, each before it had obeyed the one before, whose heirs are remembered.
MAX_FORMER = 4


class Former(NamedTuple):
    """A fence of the same victim that was replaced."""

    revision: int
    heir: PeerName


@dataclass(frozen=True, slots=True)
class Fence:
    """`heir` takes over what `victim` had in its life `victim_incarnation` (0: not known)."""

    victim: PeerName
    victim_incarnation: int
    victim_node_uid: str
    heir: PeerName
    # The last fence of its own that the heir had obeyed: a later one takes this out of its hands.
    heir_revision: int = 0
    # The fencing token of the takeover; 0: it is not drawn yet.
    token: int = 0
    # Those that this one replaces, the newest first.
    former: tuple[Former, ...] = ()

    def heir_of(self, obeyed: int) -> PeerName | None:
        """Who had a right to what the victim was granted before it obeyed this; None: unknown."""
        return next((fence.heir for fence in self.former if fence.revision == obeyed), None)

    def replaced_at(self, revision: int) -> tuple[Former, ...]:
        """What the one that replaces this one remembers."""
        return (Former(revision, self.heir), *self.former)[:MAX_FORMER]
