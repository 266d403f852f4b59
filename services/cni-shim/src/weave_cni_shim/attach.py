"""The order of an attach and its undo; docs/adr/0003-two-phase-attach.md.

Invariants:

- Steps of one key never run side by side; an undo belongs to its ADD.
- A DEL that comes while an ADD of its key is running ends it, waits for its undo, and then runs: so
  a client that timed out and cleans up finds nothing left.
- An ADD undoes what it made itself. An attachment that lived before it is never touched (S18).
- An address is released only after its interface and its policy are gone: the next owner of the
  address must inherit neither.
- What an undo cannot do now is owed: it is handed to `owe`, which sees to it later.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import TypeVar

from weave_cni_shim.addresses import AddressSource
from weave_cni_shim.backends import Npc, Router
from weave_cni_shim.core.frame import Request
from weave_cni_shim.core.port import Allocated, Port, PreparedPort
from weave_cni_shim.core.result import Attached
from weave_cni_shim.errors import AlreadyAttached, Superseded
from weave_model.attachment import AttachmentKey, Route, Workload
from weave_model.errors import Aborted, Absent, DomainError, TimedOut
from weave_runtime import telemetry

# What is kept of an ADD's time for the steps after the allocation, which may wait for space.
STEPS_S = 10.0

T = TypeVar("T")

log = logging.getLogger(__name__)
tracer = telemetry.tracer(__name__)


@dataclass(frozen=True, slots=True)
class Wanted:
    """What the caller of an attach asks for."""

    key: AttachmentKey
    netns: str
    # The DEL that takes it back.
    removal: Request
    source: AddressSource
    workload: Workload = field(default_factory=Workload)
    routes: tuple[Route, ...] | None = None
    mtu: int = 0
    mac: bytes = b""


class _Slot:
    """One key's lock, and the ADD that holds it."""

    def __init__(self) -> None:
        self.lock = asyncio.Lock()
        self.users = 0
        self.deadline: asyncio.Timeout | None = None
        self.is_superseded = False


class Attacher:
    """Carries attaches and detaches through address source, router and npc."""

    def __init__(
        self,
        router: Router,
        npc: Npc,
        *,
        timeout_s: float,
        owe: Callable[[Request], Awaitable[None]],
    ) -> None:
        self._router = router
        self._npc = npc
        self._timeout_s = timeout_s
        self._owe = owe
        self._slots: dict[AttachmentKey, _Slot] = {}

    def is_busy(self, key: AttachmentKey) -> bool:
        """Is an attach or detach of the key under way?"""
        return key in self._slots

    async def attach(self, wanted: Wanted) -> Attached:
        """Makes an attachment. Raises DomainError, or CniError of an IPAM plugin; that, or a
        cancellation, leaves nothing behind.

        AlreadyAttached: the attachment lives; it is as it was.
        """
        allocated: list[Allocated] = []
        async with self._slot(wanted.key) as slot:
            try:
                return await self._in_time(slot, wanted, allocated)
            except AlreadyAttached:
                raise
            except BaseException:
                # Also for CancelledError: whoever gave up, nothing may stay behind.
                await to_its_end(self._undo(wanted, allocated))
                raise

    async def detach(self, key: AttachmentKey, netns: str, source: AddressSource) -> None:
        """Removes an attachment in any state. Idempotent. Raises an error if some of it is left."""
        slot = self._slots.get(key)
        if slot and slot.deadline and not slot.deadline.expired():
            slot.is_superseded = True
            slot.deadline.reschedule(0.0)
        async with self._slot(key):
            await self._remove(key, netns, source)

    async def detach_dead(self, key: AttachmentKey, source: AddressSource) -> bool:
        """As `detach`, but False and nothing done when it lives: made anew since it was dead."""
        async with self._slot(key):
            if await self._is_attached(key):
                return False
            await self._remove(key, "", source)
            return True

    async def _in_time(self, slot: _Slot, wanted: Wanted, allocated: list[Allocated]) -> Attached:
        slot.is_superseded = False
        try:
            async with asyncio.timeout(self._timeout_s) as slot.deadline:
                return await self._steps(wanted, allocated)
        except TimeoutError as error:
            if slot.is_superseded:
                raise Superseded(f"attach: a DEL of {wanted.key} came meanwhile") from error
            raise TimedOut(f"attach: not done within {self._timeout_s:g} s") from error
        finally:
            slot.deadline = None

    async def _steps(self, wanted: Wanted, allocated: list[Allocated]) -> Attached:
        key = wanted.key
        with tracer.span("ipam.Allocate"):
            given = await _step("address", self._allocate(wanted))
        if given.existed:
            await self._clear_leftover(wanted)
        allocated.append(given)
        port = Port(
            key=key,
            netns=wanted.netns,
            addresses=tuple(address.host for address in given.addresses),
            generation=given.generation,
            workload=wanted.workload,
            routes=wanted.routes if given.routes is None else given.routes,
            mtu=wanted.mtu,
            mac=wanted.mac,
        )
        with tracer.span("router.Prepare"):
            opens = not self._npc.has_a_say
            prepared = await _step("interface", self._router.prepare(port, opens=opens))
        if len(prepared.gateways) != len(port.addresses):
            raise DomainError(f"interface: {len(prepared.gateways)} gateways came from the router")
        if not prepared.is_open:
            await self._open(port, prepared)
        return Attached(
            interface=key.interface,
            netns=wanted.netns,
            mac=prepared.mac,
            host_interface=prepared.host_interface,
            host_mac=prepared.host_mac,
            mtu=prepared.mtu,
            addresses=port.addresses,
            gateways=prepared.gateways,
            routes=prepared.routes,
            dns=given.dns,
        )

    async def _open(self, port: Port, prepared: PreparedPort) -> None:
        with tracer.span("npc.Admit"):
            await _step("policy", self._npc.admit(port, prepared.host_interface))
        with tracer.span("router.Activate"):
            try:
                await _step("activation", self._router.activate(port.key, port.generation))
            except Absent as error:
                raise Aborted(str(error)) from error

    async def _allocate(self, wanted: Wanted) -> Allocated:
        timeout_s = max(self._timeout_s - STEPS_S, self._timeout_s / 2)
        return await wanted.source.obtain(wanted.key, wanted.workload, timeout_s)

    async def _clear_leftover(self, wanted: Wanted) -> None:
        """Removes what an ADD that died half-way left. Raises AlreadyAttached if it did not die."""
        if await self._is_attached(wanted.key):
            raise AlreadyAttached(f"{wanted.key} is attached already")
        await _step("leftover", self._router.detach(wanted.key, wanted.netns))

    async def _is_attached(self, key: AttachmentKey) -> bool:
        live = await _step("interface", self._router.attachments(key.network))
        return any(item.key == key and item.sandbox_exists and item.is_open for item in live)

    async def _undo(self, wanted: Wanted, allocated: Sequence[Allocated]) -> None:
        key = wanted.key
        is_ours = bool(allocated)
        try:
            # Without an answer nobody knows whose the allocation is: one that was made but not
            # heard of must go, one that has lived before must stay.
            is_ours = is_ours or not await self._is_attached(key)
            if is_ours:
                generation = allocated[0].generation if allocated else 0
                await self._remove(key, wanted.netns, wanted.source, generation)
        except Exception as error:  # noqa: BLE001 - whatever stopped the undo, the rest is owed
            log.warning("undo of an attach failed: %s", error, extra={"attachment": str(key)})
            if is_ours:
                await self._keep(wanted)

    async def _keep(self, wanted: Wanted) -> None:
        try:
            await self._owe(wanted.removal)
        except OSError as error:
            log.error(  # noqa: TRY400 - the disk is full, not the program wrong
                "undo of an attach cannot be kept: %s", error, extra={"attachment": str(wanted.key)}
            )

    async def _remove(
        self, key: AttachmentKey, netns: str, source: AddressSource, generation: int = 0
    ) -> None:
        await _step("interface", self._router.detach(key, netns))
        await _step("policy", self._npc.retire(key))
        await _step("address", source.give_back(key, generation))

    @asynccontextmanager
    async def _slot(self, key: AttachmentKey) -> AsyncIterator[_Slot]:
        slot = self._slots.setdefault(key, _Slot())
        slot.users += 1
        try:
            async with slot.lock:
                yield slot
        finally:
            slot.users -= 1
            if not slot.users:
                del self._slots[key]


async def _step(name: str, call: Awaitable[T]) -> T:
    """Waits for a step; its failure says which step it was."""
    try:
        return await call
    except DomainError as error:
        raise type(error)(f"{name}: {error}") from error


async def to_its_end(work: Awaitable[None]) -> None:
    """Waits for `work` however often the waiter is cancelled; then the cancellation goes on."""
    task = asyncio.ensure_future(work)
    cancellation: asyncio.CancelledError | None = None
    while not task.done():
        try:
            await asyncio.wait({task})
        except asyncio.CancelledError as error:
            cancellation = error
    task.result()
    if cancellation:
        raise cancellation
