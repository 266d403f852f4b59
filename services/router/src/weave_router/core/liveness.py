"""Is a peer's tunnel end there? Decided from small probes and their answers. No I/O, no clock.

    UNKNOWN --answer--> UP          the first answer is enough: nothing is known against it
    UNKNOWN --losses--> DOWN
    UP      --losses--> DOWN        LOSSES probes in a row without an answer
    DOWN    --streak--> UP          answers in a row; more of them when it has just failed again

While a path is up the next probe follows a lost one at once, so a dead path is known LOSSES
timeouts after the first probe that it swallowed. A flapping one has to hold out longer and longer
before it is used again.
"""

from __future__ import annotations

import enum
import random

# A path is left after four of them: with 10 % of probes lost by chance, once in five hours.
LOSSES = 4
# Far above the RTT of a cluster; slow paths get four times their own RTT.
TIMEOUT_S = 0.75
_RTT_FACTOR = 4.0
MAX_TIMEOUT_S = 5.0
# Between probes of a path that is down, and of one that has begun to answer again.
DOWN_INTERVAL_S = 3.0
STREAK_INTERVAL_S = 0.5
# Answers in a row; doubled while the path fails again within FLAP_S.
STREAK = 3
MAX_STREAK = 24
FLAP_S = 120.0
_JITTER = 0.25
# As TCP weighs its samples (RFC 6298).
_RTT_GAIN = 0.125


class State(enum.Enum):
    """What is known of a path."""

    UNKNOWN = "unknown"
    UP = "up"
    DOWN = "down"


class Liveness:
    """The state of one tunnel. Times are seconds of any steady clock."""

    def __init__(self, rng: random.Random, first_at: float) -> None:
        self.state = State.UNKNOWN
        # Smoothed; 0: none measured.
        self.rtt_s = 0.0
        self.next_at = first_at
        self._rng = rng
        self._is_waiting = False
        self._losses = 0
        self._answers = 0
        self._streak = STREAK
        self._up_since = first_at

    def poll(self, now: float, interval_s: float) -> bool:
        """Counts a probe that was not answered in time; True: send the next one now.

        `interval_s` is the time between probes of a path that is up.
        """
        if now < self.next_at:
            return False
        if self._is_waiting:
            self._lost(now)
            if self.state is State.DOWN:
                self.next_at = now + self._pause(interval_s)
                return False
        self._is_waiting = True
        self.next_at = now + self._timeout()
        return True

    def answered(self, now: float, rtt_s: float, interval_s: float) -> None:
        """An answer came, in time or late."""
        self.rtt_s = self.rtt_s + _RTT_GAIN * (rtt_s - self.rtt_s) if self.rtt_s else rtt_s
        self._is_waiting = False
        self._losses = 0
        self._answers += 1
        if self.state is State.UNKNOWN or (
            self.state is State.DOWN and self._answers >= self._streak
        ):
            self.state = State.UP
            self._up_since = now
        self.next_at = now + self._pause(interval_s)

    def _lost(self, now: float) -> None:
        self._is_waiting = False
        self._answers = 0
        self._losses += 1
        if self.state is State.DOWN or self._losses < LOSSES:
            return
        if self.state is State.UP:
            is_flapping = now - self._up_since < FLAP_S
            self._streak = min(self._streak * 2, MAX_STREAK) if is_flapping else STREAK
        self.state = State.DOWN

    def _pause(self, interval_s: float) -> float:
        if self.state is State.DOWN:
            pause = STREAK_INTERVAL_S if self._answers else max(interval_s, DOWN_INTERVAL_S)
        else:
            pause = interval_s
        return pause * (1 + self._rng.uniform(-_JITTER, _JITTER))

    def _timeout(self) -> float:
        return min(MAX_TIMEOUT_S, max(TIMEOUT_S, _RTT_FACTOR * self.rtt_s))
