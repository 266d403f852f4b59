"""Connections of addresses that pods gave back end beside the DEL, before another pod's begin."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import threading
from collections.abc import AsyncIterator, Collection
from dataclasses import dataclass, field

import pytest

from weave_model.prefix import Prefix
from weave_router import sweeper as module
from weave_router.core.connections import Connection
from weave_router.kernel.fake import FakeKernel
from weave_router.sweeper import Sweeper

POD, OTHER_POD = Prefix.parse("10.32.0.2"), Prefix.parse("10.32.0.3")
PEER = Prefix.parse("192.0.2.1")
OURS = Connection(POD, PEER, PEER, POD)
OTHERS = Connection(OTHER_POD, PEER, PEER, OTHER_POD)


@dataclass
class SlowKernel(FakeKernel):
    """Notes each reading of the table; while `gate` is shut none ends."""

    sweeps: list[frozenset[Prefix]] = field(default_factory=list)
    gate: threading.Event = field(default_factory=threading.Event)

    def remove_connections(self, addresses: Collection[Prefix]) -> int:
        self.sweeps.append(frozenset(addresses))
        assert self.gate.wait(5)
        return super().remove_connections(addresses)


@pytest.fixture
def kernel() -> SlowKernel:
    kernel = SlowKernel(connections={OURS, OTHERS})
    kernel.gate.set()
    return kernel


@contextlib.asynccontextmanager
async def running(kernel: SlowKernel) -> AsyncIterator[Sweeper]:
    """A sweeper at work, closed in the end as the router closes it."""
    sweeper = Sweeper(kernel)
    task = asyncio.create_task(sweeper.run())
    try:
        yield sweeper
    finally:
        kernel.gate.set()
        await sweeper.close()
        task.cancel()
        await asyncio.wait([task])


async def until_swept(kernel: SlowKernel, count: int) -> None:
    """Waits until the table is read for the `count`th time."""
    while len(kernel.sweeps) < count:  # noqa: ASYNC110 - noted by another thread
        await asyncio.sleep(0.001)


async def test_connections_of_a_released_address_end_without_being_asked_for(
    kernel: SlowKernel, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "GATHER_S", 0.0)

    async with running(kernel) as sweeper:
        sweeper.release([POD])
        await until_swept(kernel, 1)
        await sweeper.settled([POD])

        assert kernel.connections == {OTHERS}


async def test_the_table_is_read_once_for_all_that_was_released_meanwhile(
    kernel: SlowKernel,
) -> None:
    async with running(kernel) as sweeper:
        sweeper.release([POD])
        sweeper.release([OTHER_POD])
        await sweeper.settled([OTHER_POD])

    assert kernel.sweeps == [{POD, OTHER_POD}]


async def test_who_needs_an_address_at_once_waits_for_no_other(kernel: SlowKernel) -> None:
    kernel.gate.clear()
    async with running(kernel) as sweeper:
        sweeper.release([POD])
        waits = asyncio.create_task(sweeper.settled([POD]))
        await until_swept(kernel, 1)

        async with asyncio.timeout(5):
            await sweeper.settled([OTHER_POD])

        assert not waits.done()
        assert OURS in kernel.connections


async def test_an_address_that_is_released_during_a_sweep_is_swept_again(
    kernel: SlowKernel,
) -> None:
    """What the pod after did until then is in no table that was read before."""
    kernel.gate.clear()
    async with running(kernel) as sweeper:
        sweeper.release([POD])
        first = asyncio.create_task(sweeper.settled([POD]))
        await until_swept(kernel, 1)
        sweeper.release([POD])
        kernel.gate.set()
        await first
        await sweeper.settled([POD])

    assert kernel.sweeps == [{POD}, {POD}]


async def test_what_is_left_is_swept_at_the_end(kernel: SlowKernel) -> None:
    async with running(kernel) as sweeper:
        sweeper.release([POD])

    assert kernel.connections == {OTHERS}


async def test_a_sweep_under_way_outlives_the_end(kernel: SlowKernel) -> None:
    kernel.gate.clear()
    sweeper = Sweeper(kernel)
    sweeper.release([POD])
    task = asyncio.create_task(sweeper.run())
    settled = asyncio.create_task(sweeper.settled([POD]))
    await until_swept(kernel, 1)

    task.cancel()
    await asyncio.wait([task])
    kernel.gate.set()
    await sweeper.close()

    assert settled.done()
    assert kernel.connections == {OTHERS}


async def test_a_failure_is_told_once_and_holds_nobody_up(
    kernel: SlowKernel, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING)
    kernel.tracking_fails = "Operation not permitted"
    async with running(kernel) as sweeper:
        for _ in range(3):
            sweeper.release([POD])
            await sweeper.settled([POD])
        assert [vars(record)["reason"] for record in caplog.records] == ["Operation not permitted"]

        kernel.tracking_fails = ""
        sweeper.release([POD])
        await sweeper.settled([POD])
        kernel.tracking_fails = "Invalid argument"
        sweeper.release([POD])
        await sweeper.settled([POD])

    assert [vars(record)["reason"] for record in caplog.records][1:] == ["Invalid argument"]
