"""What every input begins and ends with: the time is taken, then each part does what is due.

The order matters: links that are dead end before it is decided who is reachable, what we say
follows from that, then links are chosen, and documents go out last, over the links that are left.
"""

from __future__ import annotations

from weave_gossip.core.assembly import Parts

# Peers that lost their path are looked for together: others' documents about one loss differ by
# that much in arrival.
SETTLE_DELAY_S = 0.2
NEVER = float("inf")


class Rounds:
    """Runs the parts, and knows when the next of them has something to do."""

    def __init__(self, parts: Parts) -> None:
        self._clock = parts.clock
        self._outbox = parts.outbox
        self._knowledge = parts.knowledge
        self._exchange = parts.exchange
        self._publisher = parts.publisher
        self._connector = parts.connector
        self._departures = parts.departures
        self._settle_due = NEVER

    def begin(self, now: float) -> float:
        """Returns the time that all parts count by."""
        self._clock.advance(now, self._next_deadline)
        self._outbox.now = self._clock.now
        return self._clock.now

    def end(self, now: float) -> None:
        """Does what is due, which may be nothing."""
        topology = self._knowledge.topology
        self._connector.keep_alive(now)
        if now >= self._settle_due:
            topology.settle()
            self._settle_due = NEVER
        elif topology.is_unsettled and self._settle_due == NEVER:
            self._settle_due = now + SETTLE_DELAY_S
        self._publisher.run(now)
        for peer, reachable in self._knowledge.show_peers():
            self._connector.peer_moved(peer, reachable=reachable)
        self._departures.run(now)
        self._connector.run(now)
        self._exchange.run(now)

    def wake_at(self) -> float | None:
        """When something is due next, on the clock outside; None: never by itself."""
        due = self._next_deadline()
        return None if due == NEVER else self._clock.wake_at(due)

    def _next_deadline(self) -> float:
        return min(
            self._connector.next_deadline(),
            self._settle_due,
            self._departures.next_deadline(),
            self._exchange.next_deadline(),
            self._publisher.next_deadline(),
        )
