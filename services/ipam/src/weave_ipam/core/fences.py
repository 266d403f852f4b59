"""Fences: who may take over a dead peer's space, one for each of its lives."""

from __future__ import annotations

from dataclasses import dataclass

from weave_model.peer import PeerName


@dataclass(frozen=True, slots=True)
class Fence:
    """`heir` takes over what `victim` had in its life `victim_incarnation` (0: not known)."""

    victim: PeerName
    victim_incarnation: int
    victim_node_uid: str
    heir: PeerName
    # The last fence of its own that the heir had obeyed: a later one takes this out of its hands.
    heir_revision: int = 0
