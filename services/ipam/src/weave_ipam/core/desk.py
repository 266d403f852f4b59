"""The requests of callers for addresses: tried in order, answered once, forgotten when
cancelled."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from weave_ipam.core.effects import Answer, Effect, Note, Persist, RequestId, Severity
from weave_ipam.core.ledger import Ledger
from weave_ipam.core.pool import Pool
from weave_ipam.core.records import Allocation, QuarantineGone, QuarantineRecord, Record
from weave_ipam.core.requests import (
    AllocateRequest,
    ClaimRequest,
    Waiting,
    allocated,
    check_claim,
    check_unheld,
    find_address,
    held_already,
    subnet_of,
)
from weave_ipam.core.results import Claimed, InUse, Released, Result
from weave_model.attachment import AttachmentKey, Workload
from weave_model.errors import DomainError, NotReady
from weave_model.prefix import Family, Prefix

# More callers than a node has pods are a fault of the caller; each costs a try at every change.
MAX_WAITING = 4096


class Desk:
    """Ledger and requests. `obstacle` is why no new address can be given now, or None."""

    def __init__(self, ledger: Ledger, pools: dict[Family, Pool], effects: list[Effect]) -> None:
        self.ledger = ledger
        self.obstacle: str | None = None
        # Why no new address is given any more; empty while they are.
        self._closed = ""
        self._pools = pools
        self._effects = effects
        self._waiting: dict[RequestId, tuple[AllocateRequest | ClaimRequest, Waiting]] = {}
        self._fresh: list[AllocateRequest | ClaimRequest] = []

    def load(self, quarantine: Mapping[Prefix, float], now: float, longest: float) -> None:
        """Puts what was stored back in its place. Times are wall times; steady time is 0.

        A quarantine never lasts longer than a whole one, whatever the clock did meanwhile.
        """
        for allocation in self.ledger.all():
            for address in allocation.addresses:
                pool = self._pool_of(address)
                if pool is not None:
                    pool.space.take(address.address, allocation.key)
        for address, until in sorted(quarantine.items(), key=lambda item: item[1]):
            pool = self._pool_of(address)
            if pool is not None and self.ledger.holder(address) is None:
                pool.space.rest(address.address, min(max(until - now, 0.0), longest))

    # Requests

    def submit(self, wanted: AllocateRequest | ClaimRequest) -> None:
        """Tried at the next `serve`."""
        if len(self._waiting) + len(self._fresh) >= MAX_WAITING:
            text = f"{MAX_WAITING} requests are waiting already"
            self._effects.append(Answer(wanted.request, NotReady(text)))
        else:
            self._fresh.append(wanted)

    def serve(self, now: float, *, retry: bool) -> None:
        """Tries what is new, and with `retry` what waits as well: claims first. `now` is wall
        time."""
        due = self._fresh
        if retry and self._waiting:
            due = [wanted for wanted, _ in self._waiting.values()] + due
        if not due:
            return
        self._fresh = []
        for wanted in sorted(due, key=lambda wanted: isinstance(wanted, AllocateRequest)):
            waiting = Waiting()
            outcome = self._try(wanted, waiting, now)
            if outcome is None:
                self._waiting[wanted.request] = wanted, waiting
            else:
                self._waiting.pop(wanted.request, None)
                self._effects.append(Answer(wanted.request, outcome))

    def cancel(self, request: RequestId) -> bool:
        """Forgets a request that is not answered yet."""
        fresh = len(self._fresh)
        self._fresh = [wanted for wanted in self._fresh if wanted.request != request]
        return self._waiting.pop(request, None) is not None or len(self._fresh) < fresh

    def close(self, reason: str) -> None:
        """Refuses everything that waits, and all new addresses from now on."""
        self._closed = reason
        requests = [*self._waiting, *(wanted.request for wanted in self._fresh)]
        self._waiting, self._fresh = {}, []
        self._effects.extend(Answer(request, NotReady(reason)) for request in requests)

    def waits_for(self, request: RequestId) -> str:
        """Why a request is not answered yet; empty when it is not here."""
        _, waiting = self._waiting.get(request, (None, Waiting()))
        return ", ".join(waiting.reasons)

    def wants(self, family: Family) -> list[Prefix]:
        """Inside what space is needed."""
        return [
            prefix
            for _, waiting in self._waiting.values()
            for prefix in waiting.wants
            if prefix.family is family
        ]

    def waiting(self, kind: type[AllocateRequest | ClaimRequest]) -> list[str]:
        """One text for each request of a kind that waits."""
        return [
            f"{wanted} ({', '.join(waiting.reasons)})"
            for wanted, waiting in self._waiting.values()
            if isinstance(wanted, kind)
        ]

    @property
    def allocates_waiting(self) -> int:
        """How many callers wait for addresses."""
        requests = (wanted for wanted, _ in self._waiting.values())
        return sum(isinstance(wanted, AllocateRequest) for wanted in requests)

    @property
    def is_idle(self) -> bool:
        """Does nobody wait?"""
        return not self._waiting and not self._fresh

    # Immediate changes

    def release(
        self,
        request: RequestId,
        key: AttachmentKey,
        generation: int,
        until: float,
        until_wall: float,
    ) -> None:
        """Frees what an attachment holds; each address rests until then (steady and wall time)."""
        allocation = self.ledger.get(key)
        if allocation is None or generation not in (0, allocation.generation):
            self._effects.append(Answer(request, Released(())))
            return
        allocation, records = self.ledger.remove(key)
        for address in allocation.addresses:
            pool = self._pool_of(address)
            if pool is not None:
                pool.space.release(address.address, until)
                records.append(QuarantineRecord(address, until_wall))
        self._effects.append(Persist(tuple(records)))
        self._effects.append(Answer(request, Released(allocation.addresses)))

    def adopt(self, in_use: Iterable[InUse], now: float) -> None:
        """Records what the kernel says is in use."""
        for found in in_use:
            new = [a for a in found.addresses if self.ledger.holder(a) != found.key]
            for address in new:
                holder = self.ledger.holder(address)
                if holder is not None:
                    text = f"address {address} is in use by {found.key} and by {holder}"
                    self._effects.append(Note(Severity.ERROR, text))
            free = [address for address in new if self.ledger.holder(address) is None]
            if free:
                self._record(found.key, free, found.workload, now, adopted=True)

    # One try

    def _try(
        self, wanted: AllocateRequest | ClaimRequest, waiting: Waiting, now: float
    ) -> Result | DomainError | None:
        try:
            if isinstance(wanted, AllocateRequest):
                return self._try_allocate(wanted, waiting, now)
            return self._try_claim(wanted, waiting, now)
        except DomainError as error:
            return error

    def _try_allocate(
        self, wanted: AllocateRequest, waiting: Waiting, now: float
    ) -> Result | DomainError | None:
        allocation = self.ledger.get(wanted.key)
        missing = [
            pool
            for pool in self._pools.values()
            if held_already(wanted, pool.options, allocation) is None
        ]
        if missing:
            self._check_open()
            check_unheld(self.ledger, wanted.key, wanted.requested.values())
            if self.obstacle is not None:
                waiting.reasons.append(self.obstacle)
                return None
            found = [find_address(wanted, pool, waiting) for pool in missing]
            if waiting.reasons:
                return None
            addresses = [address for address in found if address is not None]
            for pool, address in zip(missing, addresses, strict=True):
                pool.space.rotate(subnet_of(wanted, pool.options), address.address)
            allocation = self._record(wanted.key, addresses, wanted.workload, now, adopted=False)
        assert allocation is not None
        return allocated(wanted, self._pools.values(), allocation)

    def _try_claim(
        self, wanted: ClaimRequest, waiting: Waiting, now: float
    ) -> Result | DomainError | None:
        check_unheld(self.ledger, wanted.key, wanted.addresses)
        new = [a for a in wanted.addresses if self.ledger.holder(a) is None]
        allocation = self.ledger.get(wanted.key)
        if new or allocation is None:
            self._check_open()
            if self.obstacle is not None:
                waiting.reasons.append(self.obstacle)
                return None
            for address in new:
                pool = self._pool_of(address)
                if pool is not None:
                    check_claim(pool, address, waiting)
            if waiting.reasons:
                return None
            allocation = self._record(wanted.key, new, wanted.workload, now, adopted=True)
        return Claimed(allocation.generation)

    def _check_open(self) -> None:
        if self._closed:
            raise NotReady(self._closed)

    def _record(
        self,
        key: AttachmentKey,
        addresses: list[Prefix],
        workload: Workload,
        now: float,
        *,
        adopted: bool,
    ) -> Allocation:
        allocation, changes = self.ledger.add(key, addresses, workload, now, adopted=adopted)
        records: list[Record] = list(changes)
        for address in addresses:
            pool = self._pool_of(address)
            if pool is not None:
                if address.address in pool.space.resting:
                    records.append(QuarantineGone(address))
                pool.space.take(address.address, key)
        self._effects.append(Persist(tuple(records)))
        return allocation

    def _pool_of(self, address: Prefix) -> Pool | None:
        """None for an address outside all ranges, which is only remembered."""
        pool = self._pools.get(address.family)
        if pool is not None and pool.options.universe.contains(address):
            return pool
        return None
