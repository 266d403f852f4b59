"""Ends the connections of addresses that pods have given back.

Connection tracking remembers an address for up to five days, with its translations. A later pod of
the same address would inherit them: answers to another's questions, a masquerade that leads
nowhere. So they go before the address rests long enough to be given again, off the way of a DEL.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial

from weave_model.prefix import Prefix
from weave_router.errors import KernelRefused
from weave_router.kernel.api import Kernel

# What is released meanwhile is swept at once: the whole table is read, some 0.3 s of CPU time where
# it holds 100,000 entries. An address rests 60 s before it is given again.
GATHER_S = 5.0

log = logging.getLogger(__name__)


@dataclass(slots=True)
class _Batch:
    addresses: set[Prefix] = field(default_factory=set)
    is_over: asyncio.Event = field(default_factory=asyncio.Event)


class Sweeper:
    """Sweeps released addresses, many at once. Belongs to one event loop."""

    def __init__(self, kernel: Kernel) -> None:
        self._kernel = kernel
        # Of its own: a large table takes long to read, and no attach must wait for it.
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="sweep")
        self._gathered = _Batch()
        self._under_way = _Batch()
        self._lock = asyncio.Lock()
        self._has_some = asyncio.Event()
        self._is_urgent = asyncio.Event()
        self._is_failing = False

    def release(self, addresses: Iterable[Prefix]) -> None:
        """Notes that no pod has these addresses any more."""
        self._gathered.addresses.update(addresses)
        self._has_some.set()

    async def settled(self, addresses: Iterable[Prefix]) -> None:
        """Returns when none of these waits to be swept any more: what is tracked from now on stays.
        Only while `run` is at work."""
        wanted = set(addresses)
        if not wanted.isdisjoint(self._gathered.addresses):
            self._is_urgent.set()
        for batch in (self._under_way, self._gathered):
            if not wanted.isdisjoint(batch.addresses):
                await batch.is_over.wait()

    async def run(self) -> None:
        """Sweeps, for ever. What fails is not tried again: most of what is tracked ends by itself
        soon, and by then another pod may have the address."""
        while True:
            await self._has_some.wait()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(GATHER_S):
                    await self._is_urgent.wait()
            await self._sweep()

    async def close(self) -> None:
        """Sweeps what is left."""
        await self._sweep()
        self._thread.shutdown()

    async def _sweep(self) -> None:
        async with self._lock:
            batch = self._under_way = self._gathered
            self._gathered = _Batch()
            self._has_some.clear()
            self._is_urgent.clear()
            try:
                if batch.addresses:
                    await self._remove(frozenset(batch.addresses))
            finally:
                batch.is_over.set()

    async def _remove(self, addresses: frozenset[Prefix]) -> None:
        loop = asyncio.get_running_loop()
        work = partial(self._kernel.remove_connections, addresses)
        try:
            count = await loop.run_in_executor(self._thread, work)
        except KernelRefused as error:
            if not self._is_failing:
                log.warning(
                    "connections of released addresses stay; not told again until some could go",
                    extra={"reason": str(error)},
                )
            self._is_failing = True
            return
        self._is_failing = False
        log.debug("connections ended", extra={"addresses": len(addresses), "connections": count})
