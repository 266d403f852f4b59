"""Fences at work: taking over dead peers, being taken over, and space that lost its document.

A fence is one value in Coordination for each victim; whoever writes it may list the victim's
blocks. So of two sides of a partition at most one takes them. A victim that lives on obeys a fence
it has not obeyed yet by granting all that is free to the heir: it gives nothing that the heir may
have given, and nothing is lost, whatever the heir saw.
"""

from __future__ import annotations

import random
from dataclasses import dataclass, field

from weave_ipam.core.effects import (
    Answer,
    Effect,
    Note,
    Persist,
    ReadFence,
    RemovePeer,
    RequestId,
    Severity,
    WriteFence,
)
from weave_ipam.core.fences import Fence
from weave_ipam.core.peers import Peers
from weave_ipam.core.pool import Pool
from weave_ipam.core.records import FenceRecord, Owed, OwedRecord
from weave_ipam.core.results import Reclaimed
from weave_model.errors import Absent, Conflict, DomainError, NotReady
from weave_model.peer import PeerName
from weave_model.prefix import Prefix

# Lost races for one fence before the operator is told; each means that another heir is at it.
MAX_RACES = 5
# Our own fence must be read before anything is given: ask again soon.
READ_AGAIN_S = 1.0
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
    # The fence is ours, and when the space may be taken.
    revision: int = 0
    due: float | None = None


class Reclaims:
    """`is_known`: it is known whether this peer was reclaimed; nothing is given before that."""

    def __init__(
        self,
        peers: Peers,
        pools: tuple[Pool, ...],
        revision: int,
        owed: Owed | None,
        rng: random.Random,
        effects: list[Effect],
    ) -> None:
        self.is_known = False
        self.obeyed = revision
        self._peers = peers
        self._pools = pools
        self._rng = rng
        self._effects = effects
        self._owed = owed
        self._own: tuple[int, Fence] | None = None
        self._heir: PeerName | None = None
        self._read_own_at: float | None = 0.0
        self._takeovers: dict[PeerName, _Takeover] = {}
        # Peers whose space we have taken: a fence in their name holds nobody back.
        self._reclaimed: set[PeerName] = set()
        self._orphans: dict[PeerName, float] = {}

    # Being taken over

    def check_own(self) -> None:
        """Something hints that we were reclaimed: read our fence again."""
        self._read_own_at = 0.0

    def obey(self) -> None:
        """Hands what is free here to the heir of a fence that we have not obeyed yet.

        The heir may have given it already, and we may not know. What is in use here stays ours for
        so long, unless the heir has listed it: it may not have known of it. But as soon as it is
        free it is the heir's too (`settle_debts`).
        """
        if self._own is None:
            return
        (revision, fence), self._own = self._own, None
        self.obeyed = revision
        for pool in self._pools:
            pool.hand_over(fence.heir, with_taken=False)
        kept = frozenset(
            Prefix.host(pool.family, number)
            for pool in self._pools
            for number in (*pool.space.used, *pool.space.resting)
        )
        self._effects.append(Persist((FenceRecord(revision),)))
        self._owe(fence.heir, kept)
        self._effects.append(
            Note(
                Severity.WARNING,
                f"This peer was removed by {self._peers.label(fence.heir)}:"
                " its addresses are handed over, new space is asked for",
            )
        )

    def settle_debts(self, now: float) -> None:
        """Gives the heir of the last fence what is free by now of what was in use then.

        The heir's document may still be unknown here: what the heir may have given must never be
        given here again. An heir that cannot be told is waited for, or was removed and has an heir.
        """
        if self._owed is None:
            return
        heir, owed = self._owed.heir, self._owed.addresses
        idle = [(pool, pool.idle(owed)) for pool in self._pools]
        given = {address for _, addresses in idle for address in addresses}
        if not given:
            return
        if not self._peers.is_reachable(heir):
            for pool, addresses in idle:
                for address in addresses:
                    pool.space.rest(address.address, now + ORPHAN_S)
            self._effects.append(ReadFence(heir))
            return
        for pool, addresses in idle:
            pool.hand_back(addresses, heir)
        self._owe(heir, owed - given)

    def _inherit(self, owed: Owed, fence: Fence | None) -> None:
        """Whom we owe may have been removed; if it has left by itself, nobody may have it."""
        info = self._peers.info(owed.heir)
        if fence is not None and (
            info is None or (not info.reachable and info.incarnation <= fence.victim_incarnation)
        ):
            self._owe(fence.heir, owed.addresses)
        elif fence is None and info is None:
            self._owe(self._peers.me, owed.addresses)

    def _owe(self, heir: PeerName, addresses: frozenset[Prefix]) -> None:
        is_owed = addresses and heir != self._peers.me
        self._owed = Owed(heir, addresses) if is_owed else None
        self._effects.append(Persist((OwedRecord(self._owed),)))

    @property
    def share_for(self) -> PeerName | None:
        """Who gets the share that we have of the first ring as a seed: the heir of our last fence,
        who may not have known of it; None while that is not known or not obeyed."""
        if not self.is_known or self._own is not None:
            return None
        return self._heir if self.obeyed else self._peers.me

    @property
    def may_be_another(self) -> bool:
        """May an heir own some of our blocks without our knowing?"""
        return not self.is_known or self._own is not None or self._owed is not None

    @property
    def must_obey(self) -> bool:
        """Is there a fence to be obeyed?"""
        return self._own is not None

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
        if victim == self._peers.me:
            self.is_known = True
            self._read_own_at = None
            self._heir = fence.heir if fence is not None else None
            if fence is not None and revision > self.obeyed and fence.heir != victim:
                self._own = (revision, fence)
            return
        if self._owed is not None and victim == self._owed.heir:
            self._inherit(self._owed, fence)
        if victim in self._takeovers:
            self._decide(victim, revision, fence)
        elif victim in self._orphans and fence is not None:
            self._adopt_orphan(victim, fence.heir)

    def written(self, victim: PeerName, revision: int, now: float) -> None:
        """The fence is ours: the space may be taken soon."""
        takeover = self._takeovers.get(victim)
        if takeover is not None:
            takeover.revision, takeover.due = revision, now + SETTLE_S

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

    def failed(self, victim: PeerName, reason: str, now: float) -> None:
        """Coordination is away."""
        if victim == self._peers.me:
            self._read_own_at = now + READ_AGAIN_S * (1 + self._rng.random())
        else:
            self._fail(victim, NotReady(f"peer {victim} cannot be fenced: {reason}"))

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
        """Reads the fences that are due."""
        self._reclaimed -= self._peers.reachable
        if self._read_own_at is not None and now >= self._read_own_at:
            # One question at a time; the shell answers each with `read` or `failed`.
            self._read_own_at = None
            self._effects.append(ReadFence(self._peers.me))
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
        own = [self._read_own_at] if self._read_own_at is not None else []
        takeovers = [takeover.due for takeover in self._takeovers.values() if takeover.due]
        return own + takeovers + list(self._orphans.values())

    def _take(self, victim: PeerName, takeover: _Takeover) -> None:
        label = self._peers.label(victim)
        if self._peers.is_reachable(victim):
            self._fail(victim, Conflict(f"peer {label} came back meanwhile"))
            return
        del self._takeovers[victim]
        self._reclaimed.add(victim)
        taken = sum(pool.take_over(victim) for pool in self._pools)
        text = f"{taken} IPs taken over from {label} (fence {takeover.revision})"
        self._effects.append(Note(Severity.INFO, text))
        self._effects.extend(
            Answer(request, Reclaimed(victim, taken)) for request in takeover.requests
        )
        self._effects.append(RemovePeer(victim))

    def _adopt_orphan(self, victim: PeerName, heir: PeerName) -> None:
        for pool in self._pools:
            if heir == self._peers.me:
                pool.take_over(victim)
            else:
                pool.carry(victim, heir)
            pool.ring.forget(victim)

    def _decide(self, victim: PeerName, revision: int, fence: Fence | None) -> None:
        refusal = self._refusal(victim)
        info = self._peers.info(victim)
        incarnation = info.incarnation if info is not None else 0
        if refusal is None and fence is not None and not self._may_replace(fence, incarnation):
            refusal = Conflict(
                f"peer {self._peers.label(victim)} was fenced by {self._peers.label(fence.heir)}:"
                " use rmpeer there, or remove that peer first if it is dead"
            )
        if refusal is not None:
            self._fail(victim, refusal)
            return
        uid = info.node_uid if info is not None else ""
        mine = Fence(victim, incarnation, uid, self._peers.me)
        self._effects.append(WriteFence(mine, revision))

    def _may_replace(self, fence: Fence, incarnation: int) -> bool:
        return (
            fence.heir == self._peers.me
            or fence.victim_incarnation < incarnation
            or fence.heir in self._reclaimed
            or (self._peers.info(fence.heir) is None and not self._owns(fence.heir))
        )

    def _refusal(self, victim: PeerName) -> DomainError | None:
        label = self._peers.label(victim)
        if victim == self._peers.me:
            return Conflict(f"peer {label} is this peer: use reset to leave")
        if self._peers.is_reachable(victim):
            return Conflict(f"peer {label} is reachable: only a dead peer can be removed")
        known = (
            victim in self._reclaimed or self._peers.info(victim) is not None or self._owns(victim)
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
