"""Leaving for good: all blocks go to other peers, and those must have them before the caller is
told."""

from __future__ import annotations

from weave_ipam.core.effects import Answer, Effect, RequestId
from weave_ipam.core.peers import Peers
from weave_ipam.core.pool import Pool
from weave_ipam.core.results import Left
from weave_model.peer import PeerName
from weave_model.ring import Grant


class Leaving:
    """Does nothing until it has begun; then there is no way back in this process."""

    def __init__(self, peers: Peers, pools: tuple[Pool, ...], effects: list[Effect]) -> None:
        self.is_leaving = False
        self._peers = peers
        self._pools = pools
        self._effects = effects
        self._requests: list[RequestId] = []
        self._handed = 0

    def begin(self, request: RequestId) -> None:
        """A caller wants to leave; several may."""
        self.is_leaving = True
        for pool in self._pools:
            pool.advice.is_leaving = True
        self._requests.append(request)

    def cancel(self, request: RequestId) -> bool:
        """The caller has gone; leaving goes on."""
        if request in self._requests:
            self._requests.remove(request)
            return True
        return False

    def waits_for(self, request: RequestId) -> str:
        """Empty when the request is not here."""
        if request not in self._requests:
            return ""
        heirs = sorted({str(grant.to) for pool in self._pools for grant in self._grants(pool)})
        if heirs:
            return f"peers {', '.join(heirs)} to take the addresses over"
        return "a reachable peer that takes the addresses over"

    def step(self) -> bool:
        """Hands over what there is, answers when all of it has arrived. Says if it did anything."""
        if not self.is_leaving:
            return False
        moved = False
        for pool in self._pools:
            own = pool.ring.own
            heir = self._heir(pool) if own is not None and own.blocks else None
            if heir is not None:
                handed = pool.hand_over(heir, with_taken=True)
                self._handed += handed
                moved |= handed > 0
        if self._requests and all(self._is_empty(pool) for pool in self._pools):
            self._effects.extend(Answer(request, Left(self._handed)) for request in self._requests)
            self._requests.clear()
        return moved

    def _heir(self, pool: Pool) -> PeerName | None:
        """A reachable peer of the ring, else any reachable peer, that does not leave itself; the
        lowest name, so that a second hand-over goes to the same."""
        view = pool.ring.view
        staying = self._peers.reachable - pool.advice.leavers
        owners = set(view.sizes()) & staying if view is not None else set()
        return min(owners or staying, default=None)

    def _is_empty(self, pool: Pool) -> bool:
        own = pool.ring.own
        return own is None or not (own.blocks or own.grants)

    def _grants(self, pool: Pool) -> tuple[Grant, ...]:
        return pool.ring.own.grants if pool.ring.own is not None else ()
