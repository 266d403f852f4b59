"""Virtual time: what happens next, in an order that depends on the seed alone."""

from __future__ import annotations

from collections.abc import Callable
from heapq import heappop, heappush
from typing import Any


class Scheduler:
    """A queue of calls by time; calls at one time run in the order they were made."""

    def __init__(self) -> None:
        self.now = 0.0
        self.steps = 0
        self._queue: list[tuple[float, int, Callable[..., None], tuple[Any, ...]]] = []
        self._sequence = 0

    def at(self, when: float, call: Callable[..., None], *arguments: Any) -> None:
        """Runs `call` at a time, which is never before now."""
        self._sequence += 1
        heappush(self._queue, (max(when, self.now), self._sequence, call, arguments))

    def after(self, delay_s: float, call: Callable[..., None], *arguments: Any) -> None:
        self.at(self.now + delay_s, call, *arguments)

    def run_until(self, when: float, *, until: Callable[[], bool] | None = None) -> bool:
        """Runs what is due by `when`; stops, returning True, once `until` holds after a step."""
        queue = self._queue
        while queue and queue[0][0] <= when:
            self.now, _, call, arguments = heappop(queue)
            self.steps += 1
            call(*arguments)
            if until is not None and until():
                return True
        self.now = when
        return False
