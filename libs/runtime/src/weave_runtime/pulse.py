"""What several tasks do now and then, they do at the same moment: that wakes the process once."""

from __future__ import annotations

import asyncio


async def pulse(period_s: float) -> None:
    """Sleeps until the next multiple of `period_s` on the loop's clock; 0: gives way once."""
    now = asyncio.get_running_loop().time()
    await asyncio.sleep(period_s - now % period_s if period_s else 0)
