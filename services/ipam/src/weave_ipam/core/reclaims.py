"""Taking over: the space of dead peers, and space that lost its document.

A fence is one value in Coordination for each victim; whoever writes it may list the victim's
blocks. So of two sides of a partition at most one takes them. A victim that lives on obeys it
(`obedience`).
"""

from __future__ import annotations

import random
from dataclasses import dataclass, field

from weave_ipam.core.effects import (
    Answer,
    Effect,
    Note,
    ReadFence,
    RemovePeer,
    RequestId,
    Severity,
    WriteFence,
)
from weave_ipam.core.fences import Fence
from weave_ipam.core.obedience import Obedience
from weave_ipam.core.peers import Peers
from weave_ipam.core.pool import Pool
from weave_ipam.core.results import Reclaimed
from weave_model.errors import Absent, Conflict, DomainError, NotReady
from weave_model.peer import PeerName

# Lost races for one fence before the operator is told; each means that another heir is at it.
MAX_RACES = 5
# Between fence and takeover: documents of the victim that are under way arrive, so that what it
# gave away in its last moments is not taken from its new owner.
SETTLE_S = 2.0
# The heir's document normally follows the removal of the victim's within a second.
ORPHAN_S = 5.0


@dataclass(slots=True)
class _Takeover:
    """One victim that callers wait for."""

    requests: list[RequestId] = field(default_factory=list)
    races: int = 0
    # A fence of somebody else that is in the way, and its revision, until its heir's is read.
    obstacle: tuple[int, Fence] | None = None
    # The fence that ours replaces: its revision and its heir.
    former: tuple[int, PeerName] | None = None
    # What the victim had obeyed when ours was written.
    life: int = 0
    # What we had obeyed then.
    obeyed: int = 0
    # The fence is ours, its fencing token, and when the space may be taken.
    revision: int = 0
    token: int = 0
    due: float | None = None


class Reclaims:
    """The victims that callers wait for, and those whose space nobody has taken yet."""

    def __init__(
        self,
        peers: Peers,
        pools: tuple[Pool, ...],
        obedience: Obedience,
        rng: random.Random,
        effects: list[Effect],
    ) -> None:
        self._peers = peers
        self._pools = pools
        self._obedience = obedience
        self._rng = rng
        self._effects = effects
        self._takeovers: dict[PeerName, _Takeover] = {}
        # Peers whose space we have taken.
        self._reclaimed: set[PeerName] = set()
        # Heirs in whose name a fence was in the way: they can be removed though nobody knows them.
        self._in_the_way: set[PeerName] = set()
        self._orphans: dict[PeerName, float] = {}

    # Taking over

    def reclaim(self, request: RequestId, victim: PeerName) -> None:
        """A caller wants the space of a dead peer."""
        refusal = self._refusal(victim)
        if refusal is not None:
            self._effects.append(Answer(request, refusal))
        elif victim in self._takeovers:
            self._takeovers[victim].requests.append(request)
        elif victim in self._reclaimed and not self._owns(victim):
            self._effects.append(Answer(request, Reclaimed(victim, 0)))
            self._effects.append(RemovePeer(victim))
        else:
            self._takeovers[victim] = _Takeover([request])
            self._effects.append(ReadFence(victim))

    def cancel(self, request: RequestId) -> bool:
        """The caller has gone; what has begun goes on."""
        for takeover in self._takeovers.values():
            if request in takeover.requests:
                takeover.requests.remove(request)
                return True
        return False

    def waits_for(self, request: RequestId) -> str:
        """Empty when the request is not here."""
        for victim, takeover in self._takeovers.items():
            if request in takeover.requests:
                return f"the fence of {self._peers.label(victim)}"
        return ""

    def read(self, victim: PeerName, revision: int, fence: Fence | None) -> None:
        """What stands in Coordination."""
        for waiting, takeover in list(self._takeovers.items()):
            if takeover.obstacle is not None and takeover.obstacle[1].heir == victim:
                self._overcome(waiting, takeover.obstacle, revision)
        if victim in self._takeovers:
            self._decide(victim, revision, fence)
        elif victim in self._orphans and fence is not None:
            self._adopt_orphan(revision, fence)

    def written(self, victim: PeerName, revision: int, token: int, now: float) -> None:
        """The fence is ours: the space may be taken soon."""
        takeover = self._takeovers.get(victim)
        if takeover is not None:
            takeover.revision, takeover.token, takeover.due = revision, token, now + SETTLE_S

    def raced(self, victim: PeerName) -> None:
        """Somebody else wrote first: look who."""
        takeover = self._takeovers.get(victim)
        if takeover is None:
            return
        takeover.races += 1
        if takeover.races < MAX_RACES:
            self._effects.append(ReadFence(victim))
        else:
            self._fail(victim, Conflict(f"peer {victim} is being reclaimed by other peers as well"))

    def failed(self, victim: PeerName, reason: str) -> None:
        """Coordination is away."""
        for waiting, takeover in list(self._takeovers.items()):
            obstacle = takeover.obstacle
            if waiting == victim or (obstacle is not None and obstacle[1].heir == victim):
                self._fail(waiting, NotReady(f"peer {waiting} cannot be fenced: {reason}"))

    # Orphans

    def take(self, now: float) -> bool:
        """Takes the space of victims whose documents have had time to arrive. Says if it did."""
        due = [
            (victim, takeover)
            for victim, takeover in self._takeovers.items()
            if takeover.due is not None and now >= takeover.due
        ]
        for victim, takeover in due:
            self._take(victim, takeover)
        return bool(due)

    def ask(self, now: float) -> None:
        """Reads the fences of departed peers that are due."""
        self._reclaimed -= self._peers.reachable
        departed = {victim for pool in self._pools for victim in pool.ring.departed}
        self._orphans = {
            victim: self._orphans.get(victim, now + ORPHAN_S * (1 + self._rng.random()))
            for victim in sorted(departed)
        }
        for victim, due in self._orphans.items():
            if now >= due:
                self._orphans[victim] = now + ORPHAN_S * (10 + self._rng.random())
                self._effects.append(ReadFence(victim))

    def deadlines(self) -> list[float]:
        """When `take` or `ask` has something to do."""
        takeovers = [takeover.due for takeover in self._takeovers.values() if takeover.due]
        return takeovers + list(self._orphans.values())

    def _take(self, victim: PeerName, takeover: _Takeover) -> None:
        label = self._peers.label(victim)
        has_obeyed = takeover.life < takeover.revision <= self._life(victim)
        if self._peers.is_reachable(victim) or has_obeyed:
            self._fail(victim, Conflict(f"peer {label} came back meanwhile"))
            return
        if takeover.obeyed != self._obedience.revision:
            # Whoever removed us may have taken this fence out of our hands.
            self._fail(victim, Conflict("this peer was removed itself meanwhile"))
            return
        del self._takeovers[victim]
        self._reclaimed.add(victim)
        taken = sum(
            pool.take_over(victim, self._former(takeover, pool.ring.life(victim)), takeover.token)
            for pool in self._pools
        )
        text = f"{taken} IPs taken over from {label} (fence {takeover.revision})"
        self._effects.append(Note(Severity.INFO, text))
        self._effects.extend(
            Answer(request, Reclaimed(victim, taken)) for request in takeover.requests
        )
        self._effects.append(RemovePeer(victim))

    @staticmethod
    def _former(takeover: _Takeover, obeyed: int) -> PeerName | None:
        """Whose is what the victim was granted before the last fence that it obeyed?"""
        if takeover.former is None or takeover.former[0] != obeyed:
            return None
        return takeover.former[1]

    def _adopt_orphan(self, revision: int, fence: Fence) -> None:
        if self._life(fence.victim) >= revision:
            # Removed by a takeover that came too late: it lives, and will publish again.
            return
        for pool in self._pools:
            if fence.heir == self._peers.me:
                pool.take_over(fence.victim)
            else:
                pool.carry(fence.victim, fence.heir, fence.heir_revision)
            pool.ring.forget(fence.victim)

    def _decide(self, victim: PeerName, revision: int, fence: Fence | None) -> None:
        refusal = self._refusal(victim)
        if refusal is not None:
            self._fail(victim, refusal)
        elif fence is None or fence.heir == self._peers.me or self._is_past(revision, fence):
            self._write(victim, revision, fence)
        else:
            self._takeovers[victim].obstacle = revision, fence
            self._effects.append(ReadFence(fence.heir))

    def _is_past(self, revision: int, fence: Fence) -> bool:
        """Is it for an earlier life of its victim?"""
        info = self._peers.info(fence.victim)
        is_back = info is not None and 0 < fence.victim_incarnation < info.incarnation
        return is_back or self._life(fence.victim) >= revision

    def _life(self, victim: PeerName) -> int:
        return max(pool.ring.life(victim) for pool in self._pools)

    def _overcome(self, victim: PeerName, obstacle: tuple[int, Fence], heirs: int) -> None:
        """The fence of the heir that is in the way has revision `heirs`, 0 for none.

        Only an heir that was itself removed after it wrote takes over no more. That nobody here
        knows it says nothing: it may be new, or be back, on the other side of a partition.
        """
        revision, fence = obstacle
        self._takeovers[victim].obstacle = None
        if heirs > fence.heir_revision:
            self._write(victim, revision, fence)
            return
        self._in_the_way.add(fence.heir)
        text = (
            f"peer {self._peers.label(victim)} was fenced by {self._peers.label(fence.heir)}:"
            " use rmpeer there, or remove that peer first if it is dead"
        )
        self._fail(victim, Conflict(text))

    def _write(self, victim: PeerName, revision: int, former: Fence | None) -> None:
        takeover = self._takeovers[victim]
        # Our own of a moment ago, read once more, is not the one that the victim had obeyed.
        if former is not None and not takeover.revision:
            takeover.former = (revision, former.heir)
        takeover.life, takeover.obeyed = self._life(victim), self._obedience.obeyed
        info = self._peers.info(victim)
        incarnation, uid = (info.incarnation, info.node_uid) if info is not None else (0, "")
        if former is not None:
            incarnation = max(incarnation, former.victim_incarnation)
        mine = Fence(victim, incarnation, uid, self._peers.me, takeover.obeyed)
        self._effects.append(WriteFence(mine, revision))

    def _refusal(self, victim: PeerName) -> DomainError | None:
        label = self._peers.label(victim)
        if victim == self._peers.me:
            return Conflict(f"peer {label} is this peer: use reset to leave")
        if self._peers.is_reachable(victim):
            return Conflict(f"peer {label} is reachable: only a dead peer can be removed")
        known = (
            victim in self._reclaimed | self._in_the_way
            or self._peers.info(victim) is not None
            or self._owns(victim)
        )
        return None if known else Absent(f"no peer {label} is known")

    def _owns(self, peer: PeerName) -> bool:
        return any(
            pool.ring.view is not None and pool.ring.view.owned_by(peer) for pool in self._pools
        )

    def _fail(self, victim: PeerName, error: DomainError) -> None:
        takeover = self._takeovers.pop(victim, None)
        if takeover is not None:
            self._effects.extend(Answer(request, error) for request in takeover.requests)
