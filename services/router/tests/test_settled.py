"""Events are read once they have settled: one wake-up for a burst, and none that is lost."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from weave_router.kernel.api import Concern
from weave_router.kernel.fake import FakeEvents
from weave_router.settled import Settled

SETTLE_S = 0.05


class Crowded(FakeEvents):
    """One event at a time is taken off; the first reads may fail."""

    def __init__(self, *, failures: int = 0) -> None:
        super().__init__()
        self.left = 0
        self.reads = 0
        self.failures = failures

    def happen(self) -> None:
        self.left += 1
        super().happen()

    def read(self) -> Concern:
        self.reads += 1
        if self.failures:
            self.failures -= 1
            raise RuntimeError("read failed")
        self.left -= 1
        if self.left:
            return Concern.STATE | Concern.MORE
        super().read()
        return Concern.STATE


class World:
    """A source, and what was told of it."""

    def __init__(self, source: FakeEvents | None = None, *, reads_on: bool = True) -> None:
        self.source = source or FakeEvents()
        self.told: list[Concern] = []
        self.settled = Settled(self.source, SETTLE_S, self.told.append, reads_on=reads_on)


@contextmanager
def heard() -> Iterator[list[dict[str, Any]]]:
    """What the loop is told of errors that nobody caught."""
    loop = asyncio.get_running_loop()
    errors: list[dict[str, Any]] = []
    loop.set_exception_handler(lambda _, context: errors.append(context))
    yield errors
    loop.set_exception_handler(None)


async def test_a_burst_is_told_once() -> None:
    world = World()
    for _ in range(10):
        world.source.happen()
        await asyncio.sleep(0)
    assert world.told == []

    await asyncio.sleep(3 * SETTLE_S)

    assert world.told == [Concern.STATE]
    world.settled.close()


async def test_what_comes_after_a_burst_is_told_too() -> None:
    world = World()
    for _ in range(3):
        world.source.happen()
        await asyncio.sleep(3 * SETTLE_S)

    assert world.told == [Concern.STATE] * 3
    world.settled.close()


async def test_what_happens_without_end_is_told_now_and_then() -> None:
    world = World()
    loop = asyncio.get_running_loop()
    begin = loop.time()
    while loop.time() < begin + 10 * SETTLE_S:
        world.source.happen()
        await asyncio.sleep(0.001)

    assert 2 <= len(world.told) <= 10
    world.settled.close()


async def test_what_is_too_much_for_one_turn_is_read_in_the_next() -> None:
    source = Crowded()
    world = World(source)
    for _ in range(50):
        source.happen()

    await asyncio.sleep(3 * SETTLE_S)

    assert source.left == 0
    assert len(world.told) == 50
    world.settled.close()


async def test_who_keeps_a_source_full_keeps_nobody_busy() -> None:
    source = Crowded()
    world = World(source, reads_on=False)
    for _ in range(50):
        source.happen()

    await asyncio.sleep(5 * SETTLE_S)

    assert 1 <= source.reads <= 6
    world.settled.close()


async def test_a_read_that_fails_is_not_the_last() -> None:
    source = Crowded(failures=1)
    world = World(source)
    source.happen()
    with heard() as errors:
        await asyncio.sleep(5 * SETTLE_S)

    assert [str(error["exception"]) for error in errors] == ["read failed"]
    assert world.told == [Concern.STATE]
    world.settled.close()


@pytest.mark.parametrize("happens", [False, True])
async def test_nothing_is_read_after_the_end(*, happens: bool) -> None:
    source = Crowded()
    world = World(source)
    if happens:
        source.happen()
        await asyncio.sleep(SETTLE_S / 5)

    with heard() as errors:
        world.settled.close()
        await asyncio.sleep(3 * SETTLE_S)

    assert (source.reads, world.told, errors) == (0, [], [])
