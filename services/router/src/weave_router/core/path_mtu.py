"""The largest packet that passes through a peer's tunnel. No I/O, no clock.

    VERIFY  `size` is tried; an answer settles it, CHECK_TRIES losses begin a search
    SEARCH  halving between what is known to pass and what is known not to
    SETTLED `mtu` passes; it is tried again every now and then, and larger ones seldom

Only packets lost while small ones pass mean a limit: the owner asks while the path is up. ICMP is
not needed and not believed (RFC 8899 does the same for a transport).
"""

from __future__ import annotations

import enum
import random

# Of one size before it counts as too large: with 10 % of packets lost, wrong once in a thousand.
TRIES = 3
# Of a size that has passed before, so that chance alone begins no search: once in 100,000 checks.
CHECK_TRIES = 5
TIMEOUT_S = 0.75
# A hole is noticed within this and CHECK_TRIES timeouts; a search takes 18 seconds at most.
CHECK_INTERVAL_S = 20.0
# How often more than what passes is tried, and every how many times a whole search is made of it.
RAISE_INTERVAL_S = 45.0
SEARCH_EVERY = 10
_JITTER = 0.25


class Phase(enum.Enum):
    """What is being done."""

    VERIFY = "verify"
    SEARCH = "search"
    SETTLED = "settled"
    RAISE = "raise"


# What is tried then has not passed before.
_GUESSES = (Phase.SEARCH, Phase.RAISE)


class PathMtu:
    """The limit of one tunnel. Sizes are bytes of the inner IP packet."""

    def __init__(self, rng: random.Random, floor: int, ceiling: int, now: float) -> None:
        # Known to pass, or to have passed while another is searched for; 0: not known yet.
        self.mtu = 0
        # Not even the floor passes.
        self.too_small = False
        self.next_at = now
        self._rng = rng
        self._floor, self._ceiling = floor, ceiling
        self._phase = Phase.VERIFY
        self._size = ceiling
        self._low, self._high = floor - 1, ceiling
        self._losses = 0
        self._is_waiting = False
        self._raise_at = now
        self._raises = 0

    @property
    def limit(self) -> int:
        """The largest size that both ends could carry."""
        return self._ceiling

    def restart(self, now: float) -> None:
        """The path came back, perhaps another one: what was known is tried first."""
        self._begin(Phase.VERIFY, self.mtu or self._ceiling, now)

    def poll(self, now: float, interval_s: float) -> int:
        """The size of the probe to send now; 0: none. `interval_s` is that between small ones."""
        if now < self.next_at:
            return 0
        if self._is_waiting:
            self._is_waiting = False
            self._losses += 1
            if self._losses >= (TRIES if self._phase in _GUESSES else CHECK_TRIES):
                self._too_large(now, interval_s)
                if now < self.next_at:
                    return 0
        elif self._phase is Phase.SETTLED:
            self._next_check(now)
        self._is_waiting = True
        self.next_at = now + TIMEOUT_S
        return self._size

    def answered(self, size: int, now: float, interval_s: float) -> None:
        """A packet of this size has passed. Late answers count as well."""
        if size < self._size:
            return
        self.too_small = False
        if self._phase is Phase.SEARCH:
            self._low, self._high = size, max(self._high, size)
            self._search(now, interval_s)
            return
        self.mtu = size
        self._settle(now, interval_s)

    def _too_large(self, now: float, interval_s: float) -> None:
        self._losses = 0
        match self._phase:
            case Phase.VERIFY | Phase.SETTLED:
                self._low, self._high = self._floor - 1, self._size - 1
                self._search(now, interval_s)
            case Phase.SEARCH:
                self._high = self._size - 1
                self._search(now, interval_s)
            case Phase.RAISE:
                self._raises += 1
                self._raise_at = now + self._jittered(RAISE_INTERVAL_S)
                if self._raises % SEARCH_EVERY == 0:
                    self._low, self._high = max(self.mtu, self._floor - 1), self._size - 1
                    self._search(now, interval_s)
                else:
                    self._settle(now, interval_s)

    def _search(self, now: float, interval_s: float) -> None:
        if self._low < self._high:
            self._begin(Phase.SEARCH, (self._low + self._high + 1) // 2, now)
            return
        self.too_small = self._low < self._floor
        self.mtu = 0 if self.too_small else self._low
        self._raise_at = now + self._jittered(RAISE_INTERVAL_S)
        self._settle(now, interval_s)

    def _settle(self, now: float, interval_s: float) -> None:
        self._phase = Phase.SETTLED
        self._size = self.mtu or self._floor
        self._losses, self._is_waiting = 0, False
        self.next_at = now + self._jittered(max(CHECK_INTERVAL_S, 4 * interval_s))
        if self._size < self._ceiling:
            self.next_at = max(now, min(self.next_at, self._raise_at))

    def _next_check(self, now: float) -> None:
        if self._size < self._ceiling and now >= self._raise_at:
            self._begin(Phase.RAISE, self._ceiling, now)

    def _begin(self, phase: Phase, size: int, now: float) -> None:
        self._phase, self._size = phase, size
        self._losses, self._is_waiting = 0, False
        self.next_at = now

    def _jittered(self, seconds: float) -> float:
        return seconds * (1 + self._rng.uniform(-_JITTER, _JITTER))
