"""Which attachment holds which addresses, in all families and outside them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from weave_ipam.core.records import (
    Allocation,
    AllocationGone,
    AllocationRecord,
    CounterRecord,
    Record,
)
from weave_model.attachment import AttachmentKey, Workload
from weave_model.prefix import Prefix

# Generations reserved by one write: a restart skips what is left of them.
RESERVED_GENERATIONS = 1024


class Ledger:
    """The allocations. Every change gives the records that make it durable."""

    def __init__(self, allocations: Mapping[AttachmentKey, Allocation], generation: int) -> None:
        self._allocations = dict(allocations)
        # Two holders of one address can only come from a broken store: the newer one has it.
        self._holders = {
            address: allocation.key
            for allocation in sorted(allocations.values(), key=lambda one: one.generation)
            for address in allocation.addresses
        }
        self._next = max(
            [generation, *(allocation.generation + 1 for allocation in allocations.values())]
        )
        self._reserved = self._next

    def __len__(self) -> int:
        return len(self._allocations)

    def get(self, key: AttachmentKey) -> Allocation | None:
        """What an attachment holds."""
        return self._allocations.get(key)

    def all(self) -> tuple[Allocation, ...]:
        """Sorted by key."""
        return tuple(self._allocations[key] for key in sorted(self._allocations))

    def holder(self, address: Prefix) -> AttachmentKey | None:
        """Who holds an address here."""
        return self._holders.get(address)

    def add(
        self,
        key: AttachmentKey,
        addresses: Iterable[Prefix],
        workload: Workload,
        now: float,
        *,
        adopted: bool,
    ) -> tuple[Allocation, list[Record]]:
        """The attachment holds `addresses`, held by nobody, on top of what it has."""
        before = self._allocations.get(key)
        records: list[Record] = []
        if self._next >= self._reserved:
            self._reserved = self._next + RESERVED_GENERATIONS
            records.append(CounterRecord(self._reserved))
        more = tuple(addresses)
        if before is None:
            allocation = Allocation(key, tuple(sorted(more)), workload, self._next, now, adopted)
        else:
            both = tuple(sorted({*before.addresses, *more}))
            allocation = Allocation(
                key, both, before.workload, self._next, before.since, before.adopted or adopted
            )
        self._next += 1
        self._allocations[key] = allocation
        self._holders.update(dict.fromkeys(more, key))
        records.append(AllocationRecord(allocation))
        return allocation, records

    def remove(self, key: AttachmentKey) -> tuple[Allocation, list[Record]]:
        """The attachment, which holds something, holds nothing any more."""
        allocation = self._allocations.pop(key)
        for address in allocation.addresses:
            if self._holders.get(address) == key:
                del self._holders[address]
        return allocation, [AllocationGone(key)]
