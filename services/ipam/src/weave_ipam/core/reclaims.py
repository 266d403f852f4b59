"""Taking over the space of dead peers.

A fence is one value in Coordination for each victim; whoever writes it may list the victim's
blocks. So of two sides of a partition at most one takes them. A victim that lives on obeys it
(`obedience`).
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace

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
from weave_ipam.core.own import TAKEOVER_STEP
from weave_ipam.core.peers import Peers
from weave_ipam.core.pool import Pool
from weave_ipam.core.results import Reclaimed
from weave_model.errors import Absent, Conflict, DomainError, NotReady
from weave_model.peer import PeerName

# Lost races for one fence before the operator is told; each means that another heir is at it.
MAX_RACES = 5
# Heirs that were removed in their turn, one by the other; more is a circle.
MAX_HEIRS = 32
# Between fence and takeover: documents of the victim that are under way arrive, so that what it
# gave away in its last moments is not taken from its new owner.
SETTLE_S = 2.0


@dataclass(slots=True)
class _Takeover:
    """One victim that callers wait for."""

    requests: list[RequestId] = field(default_factory=list)
    races: int = 0
    # A fence of somebody else that is in the way, and its revision.
    obstacle: tuple[int, Fence] | None = None
    # Who has the right by it as far as is known, and the last fence it had obeyed when it got that;
    # how many had it before.
    holder: PeerName | None = None
    holder_revision: int = 0
    heirs: int = 0
    # What the victim had obeyed when ours was written.
    life: int = 0
    # Ours as it is written, its revision, and when the space may be taken.
    fence: Fence | None = None
    revision: int = 0
    due: float | None = None


class Reclaims:
    """The victims that callers wait for."""

    def __init__(
        self, peers: Peers, pools: tuple[Pool, ...], obedience: Obedience, effects: list[Effect]
    ) -> None:
        self._peers = peers
        self._pools = pools
        self._obedience = obedience
        self._effects = effects
        self._takeovers: dict[PeerName, _Takeover] = {}
        # Peers whose space we have taken.
        self._reclaimed: set[PeerName] = set()
        # Heirs in whose name a fence was in the way: they can be removed though nobody knows them.
        self._in_the_way: set[PeerName] = set()

    def reclaim(self, request: RequestId, victim: PeerName) -> None:
        """A caller wants the space of a dead peer."""
        self._reclaimed -= self._peers.reachable
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

    def resume(self, victim: PeerName, revision: int, fence: Fence) -> None:
        """Our own fence of this victim has no token: we ended before it was drawn."""
        self._takeovers[victim] = _Takeover()
        self._decide(victim, revision, fence)

    def is_taking(self, victim: PeerName) -> bool:
        """Is its takeover under way?"""
        return victim in self._takeovers

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

    # What Coordination answers

    def read(self, victim: PeerName, revision: int, fence: Fence | None) -> None:
        """What stands in Coordination."""
        for waiting, takeover in list(self._takeovers.items()):
            if takeover.holder == victim:
                self._follow(waiting, takeover, revision, fence)
        own = self._takeovers.get(victim)
        if own is not None and own.holder is None and own.fence is None:
            self._decide(victim, revision, fence)

    def written(self, revision: int, fence: Fence, now: float) -> None:
        """The fence is ours: the space may be taken soon."""
        takeover = self._takeovers.get(fence.victim)
        # Not that of an earlier attempt.
        if takeover is not None and takeover.fence == replace(fence, token=0):
            takeover.revision, takeover.fence, takeover.due = revision, fence, now + SETTLE_S

    def raced(self, victim: PeerName) -> None:
        """Somebody else wrote first: look who."""
        takeover = self._takeovers.get(victim)
        if takeover is None:
            return
        takeover.races += 1
        takeover.fence = None
        if takeover.races < MAX_RACES:
            self._effects.append(ReadFence(victim))
        else:
            self._fail(victim, Conflict(f"peer {victim} is being reclaimed by other peers as well"))

    def failed(self, victim: PeerName, reason: str) -> None:
        """Coordination is away."""
        for waiting, takeover in list(self._takeovers.items()):
            if victim in (waiting, takeover.holder):
                self._fail(waiting, NotReady(f"peer {waiting} cannot be fenced: {reason}"))

    # Whose right it is

    def _decide(self, victim: PeerName, revision: int, fence: Fence | None) -> None:
        takeover = self._takeovers[victim]
        refusal = self._refusal(victim)
        if refusal is not None:
            self._fail(victim, refusal)
        elif fence is None or self._is_past(revision, fence):
            self._write(victim, revision, fence)
        else:
            takeover.obstacle = revision, fence
            takeover.heirs = 0
            self._look_for(victim, takeover, fence)

    def _look_for(self, victim: PeerName, takeover: _Takeover, fence: Fence | None) -> None:
        """The heir of `fence` has the right, unless it was itself removed after it had written.

        Then it is that one's heir who has it. That nobody here knows an heir says nothing: it may
        be new, or be back, on the other side of a partition.
        """
        while fence is not None and fence.heir == self._peers.me:
            if self._obedience.revision <= fence.heir_revision:
                assert takeover.obstacle is not None
                self._write(victim, *takeover.obstacle)
                return
            fence = self._obedience.last
            takeover.heirs += 1
        takeover.heirs += 1
        if fence is None or takeover.heirs > MAX_HEIRS:
            self._fail(victim, Conflict(f"the heirs of peer {victim} have removed each other"))
            return
        takeover.holder, takeover.holder_revision = fence.heir, fence.heir_revision
        self._effects.append(ReadFence(fence.heir))

    def _follow(
        self, victim: PeerName, takeover: _Takeover, revision: int, fence: Fence | None
    ) -> None:
        holder, takeover.holder = takeover.holder, None
        assert holder is not None
        if fence is not None and revision > takeover.holder_revision:
            self._look_for(victim, takeover, fence)
            return
        self._in_the_way.add(holder)
        text = (
            f"peer {self._peers.label(victim)} was fenced by {self._peers.label(holder)}:"
            " use rmpeer there, or remove that peer first if it is dead"
        )
        self._fail(victim, Conflict(text))

    def _is_past(self, revision: int, fence: Fence) -> bool:
        """Is it for an earlier life of its victim?"""
        info = self._peers.info(fence.victim)
        is_back = info is not None and 0 < fence.victim_incarnation < info.incarnation
        return is_back or self._life(fence.victim) >= revision

    def _write(self, victim: PeerName, revision: int, before: Fence | None) -> None:
        takeover = self._takeovers[victim]
        takeover.life = self._life(victim)
        info = self._peers.info(victim)
        incarnation, uid = (info.incarnation, info.node_uid) if info is not None else (0, "")
        mine = Fence(victim, incarnation, uid, self._peers.me, self._obedience.obeyed)
        if before is not None:
            is_same = before.heir == self._peers.me and takeover.life < revision
            mine = replace(
                mine,
                victim_incarnation=max(incarnation, before.victim_incarnation),
                former=before.former if is_same else before.replaced_at(revision),
            )
        takeover.fence = mine
        views = [pool.ring.view for pool in self._pools if pool.ring.view is not None]
        highest = max((s.generation for view in views for s in view.segments), default=0)
        self._effects.append(WriteFence(mine, revision, highest // TAKEOVER_STEP))

    # Taking

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

    def deadlines(self) -> list[float]:
        """When `take` has something to do."""
        return [takeover.due for takeover in self._takeovers.values() if takeover.due]

    def _take(self, victim: PeerName, takeover: _Takeover) -> None:
        label, fence = self._peers.label(victim), takeover.fence
        assert fence is not None
        has_obeyed = takeover.life < takeover.revision <= self._life(victim)
        if self._peers.is_reachable(victim) or has_obeyed:
            self._fail(victim, Conflict(f"peer {label} came back meanwhile"))
            return
        if fence.heir_revision != self._obedience.revision:
            # Whoever removed us may have taken this fence out of our hands.
            self._fail(victim, Conflict("this peer was removed itself meanwhile"))
            return
        del self._takeovers[victim]
        self._reclaimed.add(victim)
        taken = sum(
            pool.take_over(victim, fence.heir_of(pool.ring.life(victim)), fence.token)
            for pool in self._pools
        )
        text = f"{taken} IPs taken over from {label} (fence {takeover.revision})"
        self._effects.append(Note(Severity.INFO, text))
        self._effects.extend(
            Answer(request, Reclaimed(victim, taken)) for request in takeover.requests
        )
        self._effects.append(RemovePeer(victim))

    def _refusal(self, victim: PeerName) -> DomainError | None:
        label = self._peers.label(victim)
        if victim == self._peers.me:
            return Conflict(f"peer {label} is this peer: use reset to leave")
        if self._peers.is_reachable(victim):
            return Conflict(f"peer {label} is reachable: only a dead peer can be removed")
        if not self._obedience.is_known or self._obedience.must_obey:
            return NotReady("whether this peer was removed itself is not known yet")
        known = (
            victim in self._reclaimed | self._in_the_way
            or self._peers.info(victim) is not None
            or self._owns(victim)
        )
        return None if known else Absent(f"no peer {label} is known")

    def _life(self, victim: PeerName) -> int:
        return max(pool.ring.life(victim) for pool in self._pools)

    def _owns(self, peer: PeerName) -> bool:
        return any(
            pool.ring.view is not None and pool.ring.view.owned_by(peer) for pool in self._pools
        )

    def _fail(self, victim: PeerName, error: DomainError) -> None:
        takeover = self._takeovers.pop(victim, None)
        if takeover is not None:
            self._effects.extend(Answer(request, error) for request in takeover.requests)
