"""Events are read once they have settled: one wake-up for a burst, and none that is lost."""

from __future__ import annotations

import asyncio

import pytest

from weave_router.kernel.api import Concern
from weave_router.kernel.fake import FakeEvents
from weave_router.settled import Settled

SETTLE_S = 0.05


class World:
    """A source, and what was told of it."""

    def __init__(self) -> None:
        self.source = FakeEvents()
        self.told: list[Concern] = []
        self.settled = Settled(self.source, SETTLE_S, self.told.append)


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


@pytest.mark.parametrize("happens", [False, True])
async def test_nothing_is_told_after_the_end(happens: bool) -> None:
    world = World()
    if happens:
        world.source.happen()
        await asyncio.sleep(SETTLE_S / 5)

    world.settled.close()
    await asyncio.sleep(3 * SETTLE_S)

    assert world.told == []
