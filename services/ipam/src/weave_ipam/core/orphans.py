"""Space whose owner's document was removed before its heir listed all of it.

Who holds such a document witnesses to the heir what it says, so that nothing gets lost.
"""

from __future__ import annotations

import random

from weave_ipam.core.effects import Effect, ReadFence
from weave_ipam.core.fences import Fence
from weave_ipam.core.obedience import Obedience
from weave_ipam.core.peers import Peers
from weave_ipam.core.pool import Pool
from weave_ipam.core.reclaims import Reclaims
from weave_model.peer import PeerName

# The heir's document normally follows the removal of the victim's within a second.
ORPHAN_S = 5.0


class Orphans:
    """Removed peers that own something by their last documents."""

    def __init__(
        self,
        peers: Peers,
        pools: tuple[Pool, ...],
        obedience: Obedience,
        reclaims: Reclaims,
        rng: random.Random,
        effects: list[Effect],
    ) -> None:
        self._peers = peers
        self._pools = pools
        self._obedience = obedience
        self._reclaims = reclaims
        self._rng = rng
        self._effects = effects
        # When the fence of each is read next.
        self._due: dict[PeerName, float] = {}

    def ask(self, now: float) -> None:
        """Reads the fences of those that are due."""
        departed = {victim for pool in self._pools for victim in pool.ring.departed}
        self._due = {
            victim: self._due.get(victim, now + ORPHAN_S * (1 + self._rng.random()))
            for victim in sorted(departed)
        }
        for victim, due in self._due.items():
            if now >= due:
                self._due[victim] = now + ORPHAN_S * (10 + self._rng.random())
                self._effects.append(ReadFence(victim))

    def deadlines(self) -> list[float]:
        """When `ask` has something to do."""
        return list(self._due.values())

    def read(self, victim: PeerName, revision: int, fence: Fence | None) -> None:
        """What stands in Coordination."""
        if victim not in self._due or fence is None or self._reclaims.is_taking(victim):
            return
        life = max(pool.ring.life(victim) for pool in self._pools)
        if life >= revision:
            # Removed by a takeover that came too late: it lives, and will publish again.
            return
        if fence.heir != self._peers.me:
            self._witness(fence)
        elif self._obedience.revision > fence.heir_revision:
            # Whoever removed us has the right to it now.
            return
        elif fence.token:
            for pool in self._pools:
                pool.take_over(victim, fence.heir_of(pool.ring.life(victim)), fence.token)
                pool.ring.forget(victim)
        else:
            self._reclaims.resume(victim, revision, fence)

    def _witness(self, fence: Fence) -> None:
        # Without a token it is not known above what the heir may list it.
        if fence.token:
            for pool in self._pools:
                pool.carry(fence.victim, fence.heir, fence.heir_revision, fence.token)
                pool.ring.forget(fence.victim)
