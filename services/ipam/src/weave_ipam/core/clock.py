"""A clock that never goes back, made of one that may."""

from __future__ import annotations

# Above the resolution of Unix time as a float (2.4e-7 s): a deadline given out is due when it
# comes.
GRAIN_S = 1e-5


class SteadyClock:
    """Adds up the forward steps of wall time; a step back counts as none.

    So a correction of the wall clock delays what is waited for by no more than the step, and never
    makes a quarantine of the past begin again.
    """

    def __init__(self, wall: float) -> None:
        self.now = 0.0
        self.wall = wall

    def advance(self, wall: float) -> None:
        """Wall time is `wall` now."""
        self.now += max(0.0, wall - self.wall)
        self.wall = wall

    def to_wall(self, steady: float) -> float:
        """The wall time at which `now` will be `steady`, if the wall clock keeps its pace."""
        return self.wall + steady - self.now + GRAIN_S
