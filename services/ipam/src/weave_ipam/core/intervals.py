"""A set of addresses kept as sorted runs, fast where addresses come in runs."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Iterator


class IntervalSet:
    """Integers, as disjoint runs [start, end) that do not touch."""

    def __init__(self) -> None:
        self._starts: list[int] = []
        self._ends: list[int] = []

    def add(self, value: int) -> None:
        """Adds one address; one that is there already changes nothing."""
        index = bisect_right(self._starts, value) - 1
        after = index + 1
        if index >= 0 and value < self._ends[index]:
            return
        joins_before = index >= 0 and self._ends[index] == value
        joins_after = after < len(self._starts) and self._starts[after] == value + 1
        if joins_before and joins_after:
            self._ends[index] = self._ends.pop(after)
            del self._starts[after]
        elif joins_before:
            self._ends[index] = value + 1
        elif joins_after:
            self._starts[after] = value
        else:
            self._starts.insert(after, value)
            self._ends.insert(after, value + 1)

    def discard(self, value: int) -> None:
        """Removes one address; one that is not there changes nothing."""
        index = bisect_right(self._starts, value) - 1
        if index < 0 or value >= self._ends[index]:
            return
        start, end = self._starts[index], self._ends[index]
        if start == value and end == value + 1:
            del self._starts[index], self._ends[index]
        elif start == value:
            self._starts[index] = value + 1
        elif end == value + 1:
            self._ends[index] = value
        else:
            self._ends[index] = value
            self._starts.insert(index + 1, value + 1)
            self._ends.insert(index + 1, end)

    def end_of_run(self, value: int) -> int:
        """The first address from `value` on that is not in the set."""
        index = bisect_right(self._starts, value) - 1
        if index >= 0 and value < self._ends[index]:
            return self._ends[index]
        return value

    def gaps(self, start: int, end: int) -> Iterator[tuple[int, int]]:
        """The runs inside [start, end) that are not in the set."""
        index = bisect_right(self._ends, start)
        position = start
        while position < end:
            if index >= len(self._starts) or self._starts[index] >= end:
                yield position, end
                return
            if self._starts[index] > position:
                yield position, self._starts[index]
            position = self._ends[index]
            index += 1

    def count(self, start: int, end: int) -> int:
        """How many members lie inside [start, end)."""
        first = bisect_right(self._ends, start)
        last = bisect_left(self._starts, end)
        return sum(
            min(end, self._ends[index]) - max(start, self._starts[index])
            for index in range(first, last)
        )
