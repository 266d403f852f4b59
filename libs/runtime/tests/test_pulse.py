"""Tasks that wait for the same pulse wake together."""

from __future__ import annotations

import asyncio

from weave_runtime.pulse import pulse

PERIOD_S = 0.2


async def test_tasks_that_begin_at_different_times_wake_together() -> None:
    loop = asyncio.get_running_loop()
    woken: list[float] = []

    async def wait(delay_s: float) -> None:
        await asyncio.sleep(delay_s)
        await pulse(PERIOD_S)
        woken.append(loop.time())

    await pulse(PERIOD_S)
    begin = loop.time()
    await asyncio.gather(wait(0), wait(PERIOD_S / 4), wait(PERIOD_S / 3))

    assert max(woken) - min(woken) < PERIOD_S / 4
    assert min(woken) - begin > PERIOD_S / 2


async def test_no_period_is_no_wait() -> None:
    loop = asyncio.get_running_loop()
    begin = loop.time()

    await pulse(0)

    assert loop.time() - begin < 1
