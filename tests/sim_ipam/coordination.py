"""Coordination as its contract says: linearizable compare-and-swap, and a watch; or away."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from weave_ipam.core.fences import Fence
from weave_model.peer import PeerName
from weave_model.prefix import Family
from weave_model.ring import Genesis


@dataclass(slots=True)
class Coordination:
    """One for all peers; those in `cut_off` cannot reach it."""

    fences: dict[PeerName, tuple[int, Fence]] = field(default_factory=dict)
    geneses: dict[Family, Genesis] = field(default_factory=dict)
    cut_off: set[PeerName] = field(default_factory=set)
    revision: int = 0
    tokens: int = 0
    # What to do when a peer's own fence may have changed.
    watches: dict[PeerName, Callable[[], None]] = field(default_factory=dict)

    def cut(self, peer: PeerName) -> None:
        """The peer cannot reach Coordination any more."""
        self.cut_off.add(peer)

    def join(self, peer: PeerName) -> None:
        """It can again, and its watch begins with a snapshot."""
        self.cut_off.discard(peer)
        self._tell(peer)

    def fence(self, victim: PeerName) -> tuple[int, Fence | None]:
        """Revision 0: there is none."""
        return self.fences.get(victim, (0, None))

    def swap(self, fence: Fence, expected: int) -> int | None:
        """The new revision, or None when the present one is another than expected."""
        if self.fence(fence.victim)[0] != expected:
            return None
        self.revision += 1
        self.fences[fence.victim] = self.revision, fence
        self._tell(fence.victim)
        return self.revision

    def draw(self, floor: int) -> int:
        """A fencing token, greater than `floor` and all before."""
        self.tokens = max(self.tokens, floor) + 1
        return self.tokens

    def complete(self, fence: Fence, revision: int) -> bool:
        """A fence that has this revision is given its token; False: another stands there."""
        if self.fence(fence.victim)[0] != revision:
            return False
        self.fences[fence.victim] = revision, fence
        return True

    def _tell(self, peer: PeerName) -> None:
        watch = self.watches.get(peer)
        if watch is not None and peer not in self.cut_off and peer in self.fences:
            watch()
