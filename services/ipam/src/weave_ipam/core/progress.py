"""What follows from the inputs: documents give a view, the view a document of ours, both answers.

One pass does each step once; passes are made until the parts have come to rest.
"""

from __future__ import annotations

from weave_ipam.core.assembly import Parts
from weave_ipam.core.clock import SteadyClock
from weave_ipam.core.documents import TOPICS_NEEDED
from weave_ipam.core.effects import Answer, Effect, Persist, RequestId
from weave_ipam.core.pool import Pool
from weave_ipam.core.records import QuarantineGone
from weave_ipam.core.results import Primed
from weave_model.prefix import Prefix

# Each pass follows what the one before changed: document, view, obeyed fence, new document.
MAX_PASSES = 8
LEAVING = "this peer is leaving"


class Progress:
    """Drives the parts. `needs_adoption`: addresses may be in use that the state does not know."""

    def __init__(
        self, parts: Parts, clock: SteadyClock, effects: list[Effect], *, needs_adoption: bool
    ) -> None:
        self.needs_adoption = needs_adoption
        # Topics of which all that gossip holds has been delivered.
        self.synced: set[str] = set()
        # Callers that wait for a ring of every family.
        self.primes: list[RequestId] = []
        self._parts = parts
        self._pools = tuple(parts.pools.values())
        self._clock = clock
        self._effects = effects
        self._stirred = True

    def stir(self) -> None:
        """Something has changed."""
        self._stirred = True

    def touch(self) -> None:
        """Something besides the documents changed: look at all of them again."""
        self._stirred = True
        for pool in self._pools:
            pool.ring.touch()

    def run(self) -> None:
        """Makes passes until nothing follows any more."""
        passes = 0
        while self._stirred and passes < MAX_PASSES:
            self._stirred = False
            passes += 1
            self._pass(self._clock.now)

    def obstacle(self) -> str | None:
        """Why this peer neither gives nor takes anything now."""
        if self._parts.leaving.is_leaving:
            return LEAVING
        waits_for = self.unknown()
        return f"waiting for {waits_for}" if waits_for is not None else None

    def unknown(self) -> str | None:
        """What must be known before anything is given, taken or handed over; None: all is."""
        if not self._may_write:
            return "the documents of the other peers: gossip has not answered"
        if not self._parts.obedience.is_known:
            return "whether this peer was removed meanwhile: Coordination has not answered"
        if self.needs_adoption:
            return "the addresses in use: the router has not answered"
        return None

    def no_ring(self) -> str:
        """What the families without a ring wait for; empty when all have one."""
        return ", ".join(
            pool.ring.initial.status() for pool in self._pools if pool.ring.view is None
        )

    def deadline(self) -> float | None:
        """When a pass has something to do without any input, in steady time."""
        deadlines = self._parts.reclaims.deadlines() + self._parts.orphans.deadlines()
        if self._parts.obedience.deadline is not None:
            deadlines.append(self._parts.obedience.deadline)
        for pool in self._pools:
            deadlines += pool.deadlines()
            if pool.space.resting:
                deadlines.append(next(iter(pool.space.resting.values())))
        return min(deadlines, default=None)

    @property
    def _may_write(self) -> bool:
        return self.synced >= TOPICS_NEEDED

    def _pass(self, now: float) -> None:
        parts = self._parts
        self._expire(now)
        for pool in self._pools:
            pool.ring.may_be_another = parts.obedience.may_be_another
            pool.ring.obeyed = parts.obedience.obeyed
            pool.ring.heirs_life = parts.obedience.heirs_life
            pool.refresh(may_write=self._may_write, share_for=parts.obedience.share_for)
            if pool.ring.has_lost:
                pool.ring.has_lost = False
                parts.obedience.check()
                self._stirred = True
            if pool.ring.view is None and self._may_write:
                self._found(pool, now)
        if self._may_write:
            if parts.obedience.must_obey and not self.needs_adoption:
                parts.obedience.obey()
                for pool in self._pools:
                    pool.ring.obeyed = parts.obedience.obeyed
                self.touch()
            parts.obedience.settle_debts(now)
            # What we would hand over may be an heir's, and our share of the first ring unlisted.
            if parts.obedience.is_known:
                self._stirred |= parts.leaving.step()
            self._stirred |= parts.reclaims.take(now)
        parts.obedience.ask(now)
        parts.orphans.ask(now)
        self._serve()
        for pool in self._pools:
            if self.obstacle() is None:
                pool.donate_postponed(now, parts.desk.allocates_waiting)
            pool.ask(parts.desk.wants(pool.family), now, recover=not parts.leaving.is_leaving)
            self._stirred |= pool.supplied
            pool.publish_advice(now)
        self._answer_primes()

    def _found(self, pool: Pool, now: float) -> None:
        pool.ring.initial.wanted |= bool(self.primes) or not self._parts.desk.is_idle
        if pool.ring.initial.step(now, self._parts.peers.reachable):
            pool.ring.touch()
            self._stirred = True

    def _serve(self) -> None:
        desk = self._parts.desk
        desk.obstacle = self.unknown()
        desk.serve(self._clock.wall, retry=any(pool.supplied for pool in self._pools))
        for pool in self._pools:
            pool.supplied = False

    def _expire(self, now: float) -> None:
        for pool in self._pools:
            rested = pool.space.rested(now)
            if rested:
                pool.supplied = True
                self._effects.append(
                    Persist(tuple(QuarantineGone(Prefix.host(pool.family, a)) for a in rested))
                )

    def _answer_primes(self) -> None:
        if self.primes and not self.no_ring():
            self._effects.extend(Answer(request, Primed()) for request in self.primes)
            self.primes.clear()
