"""Time as the core counts it: the time in which it was awake.

The clock that the core is fed with may jump, and the process may stand still (suspended, starved of
CPU). A jump back counts as no time, and lateness over STANDSTILL_S as none either: what others did
not say while we could not hear is no sign that they are gone.
"""

from __future__ import annotations

from collections.abc import Callable

# Longer than a healthy process is late. Shorter than the stalls of 2 s of a busy machine, two of
# which, on both sides of a link, would otherwise go far towards the 7 s that end it.
STANDSTILL_S = 1.5
# Nothing is that urgent, and rounding between two clocks must not make us spin.
SHORTEST_SLEEP_S = 0.001


class Clock:
    """Counts from the first reading on. All times inside the core are on this clock."""

    def __init__(self, reading: float) -> None:
        self.now = reading
        self._reading = reading

    def advance(self, reading: float, next_deadline: Callable[[], float]) -> None:
        """Takes a reading of the clock outside; the deadline tells which pause was agreed on."""
        passed = max(0.0, reading - self._reading)
        self._reading = reading
        if passed > STANDSTILL_S:
            late = passed - max(0.0, next_deadline() - self.now)
            if late > STANDSTILL_S:
                passed -= late
        self.now += passed

    def wake_at(self, deadline: float) -> float:
        """When to be woken for a deadline, on the clock outside."""
        return max(self.outside(deadline), self._reading + SHORTEST_SLEEP_S)

    def outside(self, time: float) -> float:
        """A time inside, as the clock outside will show it if it does not jump."""
        return time + (self._reading - self.now)
