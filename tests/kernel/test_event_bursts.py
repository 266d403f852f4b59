"""A burst of other people's events hides no change of ours, not even when the kernel drops some."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from tests.kernel.namespaces import netns
from weave_router.core.state import ROUTE_PROTOCOL
from weave_router.kernel.api import Concern
from weave_router.kernel.events import ROUTE_GROUPS, RouteEvents
from weave_router.kernel.netlink.listener import Listener
from weave_router.kernel.netlink.socket import NETLINK_ROUTE
from weave_router.kernel.watch import Watch
from weave_router.router import EVENTS_SETTLE_S
from weave_router.settled import Settled

pytestmark = pytest.mark.kernel

# Drift is repaired within two seconds.
WITHIN_S = 1.5
FEW = 50


@pytest.mark.parametrize("routes", [5_000, 30_000])
async def test_a_change_right_after_a_burst_is_told(routes: int, tmp_path: Path) -> None:
    batch = tmp_path / "batch"
    batch.write_text(
        "".join(
            f"route add 172.{16 + (n >> 16)}.{n >> 8 & 255}.{n & 255} dev wide proto 188\n"
            for n in range(routes)
        )
    )
    with netns("burst") as place:
        place.run("ip", "link", "add", "wide", "type", "veth", "peer", "name", "far")
        for device in ("wide", "far"):
            place.bring_up(device)
        judges = RouteEvents(frozenset(), dict, lambda _: None)
        listener = place.call(lambda: Listener(NETLINK_ROUTE, ROUTE_GROUPS))
        told: list[Concern] = []
        events = Settled(Watch(listener, judges.judge), EVENTS_SETTLE_S, told.append, reads_on=True)
        try:
            burst = await asyncio.create_subprocess_exec(
                *place.command("ip", "-batch", str(batch)), stdout=asyncio.subprocess.DEVNULL
            )
            await burst.wait()
            told.clear()

            place.run(
                "ip", "route", "add", "10.99.0.0/16", "dev", "wide", "proto", str(ROUTE_PROTOCOL)
            )
            await asyncio.sleep(WITHIN_S)

            assert any(Concern.STATE in concern for concern in told)
            # Of the burst nothing; what the kernel says of a fresh device comes when it likes.
            assert len(listener.read()) < FEW
        finally:
            events.close()
