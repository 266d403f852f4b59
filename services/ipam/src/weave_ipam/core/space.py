"""The addresses of one family on this peer: free, used, resting (in quarantine), conflicting.

Held are the blocks that our own document lists. An address is free when it is held, not used and
not resting. A used address that is not held is conflicting: it stays known until its attachment is
gone.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Iterator

from weave_ipam.core.intervals import IntervalSet
from weave_model.attachment import AttachmentKey
from weave_model.prefix import Family, Prefix, coalesce, cover

# Subnets whose place in the rotation is remembered; more begin at their start again.
MAX_CURSORS = 256


class Space:
    """See the module. Times are in the caller's clock."""

    def __init__(self, family: Family) -> None:
        self.family = family
        self.used: dict[int, AttachmentKey] = {}
        # In the order in which they may be given again.
        self.resting: dict[int, float] = {}
        self.conflicting: set[int] = set()
        # Grows whenever other addresses are free than before.
        self.changes = 0
        self._taken = IntervalSet()
        self._taken_in_held = 0
        self._held_starts: list[int] = []
        self._held_ends: list[int] = []
        self._cursors: dict[Prefix, int] = {}

    # What is held

    def set_held(self, prefixes: Iterable[Prefix]) -> None:
        """Replaces the blocks that may be allocated from."""
        self.changes += 1
        self._held_starts, self._held_ends = [], []
        for prefix in coalesce(prefixes):
            if self._held_ends and self._held_ends[-1] == prefix.address:
                self._held_ends[-1] = prefix.end
            else:
                self._held_starts.append(prefix.address)
                self._held_ends.append(prefix.end)
        self._taken_in_held = sum(
            self._taken.count(start, end)
            for start, end in zip(self._held_starts, self._held_ends, strict=True)
        )
        self.conflicting = {address for address in self.used if not self.is_held(address)}

    def is_held(self, address: int) -> bool:
        """Is it in one of our blocks?"""
        index = bisect_right(self._held_starts, address) - 1
        return index >= 0 and address < self._held_ends[index]

    def is_free(self, address: int) -> bool:
        """May it be given now?"""
        return address not in self.used and address not in self.resting and self.is_held(address)

    def free_count(self) -> int:
        """How many addresses may be given now."""
        return sum(self._held_ends) - sum(self._held_starts) - self._taken_in_held

    def usable_count(self, subnet: Prefix) -> int:
        """How many addresses `find` could give in `subnet`, one after the other."""
        first, end = allocatable(subnet)
        starts, ends = self._held_starts, self._held_ends
        if starts and starts[0] >= subnet.address and ends[-1] <= subnet.end:
            edges = (*range(subnet.address, first), *range(end, subnet.end))
            return self.free_count() - sum(map(self.is_free, edges))
        return sum(
            stop - start
            for low, high in self._held_in(first, end)
            for start, stop in self._taken.gaps(low, high)
        )

    def free_runs(self, within: Prefix) -> Iterator[tuple[int, int]]:
        """The runs of free addresses inside `within`, in order."""
        for start, end in self._held_in(within.address, within.end):
            yield from self._taken.gaps(start, end)

    # Change of hands

    def take(self, address: int, key: AttachmentKey) -> None:
        """The address is in use by `key` from now on, wherever it was before."""
        if address in self.resting:
            self.stop_resting(address)
        self.used[address] = key
        self._mark(address)
        if not self.is_held(address):
            self.conflicting.add(address)

    def release(self, address: int, until: float) -> None:
        """The address is in use no more and rests until then."""
        del self.used[address]
        self.conflicting.discard(address)
        self.resting[address] = until

    def rest(self, address: int, until: float) -> None:
        """The address, not in use, rests (again) until then."""
        self.resting[address] = until
        self._mark(address)

    def stop_resting(self, address: int) -> None:
        """The address, not in use, may be given again."""
        self.changes += 1
        del self.resting[address]
        self._taken.discard(address)
        if self.is_held(address):
            self._taken_in_held -= 1

    def rested(self, now: float) -> list[int]:
        """Those whose quarantine is over; they are free now."""
        over: list[int] = []
        for address, until in self.resting.items():
            if until > now:
                break
            over.append(address)
        for address in over:
            self.stop_resting(address)
        return over

    def is_resting_within(self, prefix: Prefix) -> bool:
        """Will an address of ours in there become free by waiting?"""
        return any(
            prefix.contains_address(address) and self.is_held(address) for address in self.resting
        )

    # Choice

    def find(self, subnet: Prefix) -> int | None:
        """The next free address of the rotation inside `subnet`, or None.

        Never its first nor, in IPv4, its last: network and broadcast address, and in IPv6 the
        subnet router's anycast address (RFC 4291, 2.6.1).
        """
        first, end = allocatable(subnet)
        begin = self._cursors.get(subnet, first)
        address = self._first_free(begin, end)
        if address is None:
            address = self._first_free(first, begin)
        return address

    def rotate(self, subnet: Prefix, address: int) -> None:
        """The address was given in `subnet`: the search goes on behind it."""
        if subnet not in self._cursors and len(self._cursors) >= MAX_CURSORS:
            del self._cursors[next(iter(self._cursors))]
        self._cursors[subnet] = address + 1

    def gift(self, within: Prefix) -> Prefix | None:
        """What to give to a peer that asks for space inside `within`: the largest aligned free
        block, the last of equals; its upper half if it is more than half of what is free there.

        Nothing that `find` could not give there: such addresses would go round among peers in need.
        """
        first, end_usable = allocatable(within)
        best: Prefix | None = None
        total = 0
        for start, end in self.free_runs(within):
            total += end - start
            for prefix in cover(self.family, start, end):
                usable = prefix.end > first and prefix.address < end_usable
                if usable and (best is None or prefix.length <= best.length):
                    best = prefix
        if best is not None and not best.is_host and best.size * 2 > total:
            lower, upper = best.halves()
            return upper if upper.address < end_usable else lower
        return best

    def _first_free(self, start: int, end: int) -> int | None:
        for held_start, held_end in self._held_in(start, end):
            address = self._taken.end_of_run(held_start)
            if address < held_end:
                return address
        return None

    def _held_in(self, start: int, end: int) -> Iterator[tuple[int, int]]:
        index = max(0, bisect_right(self._held_starts, start) - 1)
        while index < len(self._held_starts) and self._held_starts[index] < end:
            low, high = max(start, self._held_starts[index]), min(end, self._held_ends[index])
            if low < high:
                yield low, high
            index += 1

    def _mark(self, address: int) -> None:
        if self._taken.end_of_run(address) == address:
            self.changes += 1
            self._taken.add(address)
            if self.is_held(address):
                self._taken_in_held += 1


def allocatable(subnet: Prefix) -> tuple[int, int]:
    """The range [first, end) of a subnet that may be given; all of it when it has two or fewer
    (RFC 3021, RFC 6164)."""
    if subnet.size <= 2:
        return subnet.address, subnet.end
    return subnet.address + 1, subnet.end - (1 if subnet.family is Family.IPV4 else 0)
