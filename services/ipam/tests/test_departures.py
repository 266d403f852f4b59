"""Space of peers whose machines are gone."""

from __future__ import annotations

import asyncio
import random
from typing import Any

from weave_ipam.core.results import Reclaimed
from weave_ipam.departures import Departures
from weave_ipam.gossip_client import Peer
from weave_model.errors import NotReady
from weave_model.peer import PeerName

GONE, HERE, BACK = (PeerName(bytes([0, 0, 0, 0, 0, n])) for n in (1, 2, 3))


class FakeOwner:
    """Fails once, as when Coordination is away, then succeeds."""

    def __init__(self) -> None:
        self.allocator = self
        self.victims: list[PeerName] = []
        self.succeeded = asyncio.Event()

    async def call(self, submit: Any, *, timeout_s: float) -> Reclaimed:
        submit(1, 0.0)
        if len(self.victims) == 1:
            raise NotReady("Coordination is away")
        self.succeeded.set()
        return Reclaimed(self.victims[-1], 256)

    def reclaim(self, request: int, victim: PeerName, now: float) -> None:
        self.victims.append(victim)


async def test_only_departed_peers_are_taken_over_and_failures_repeated() -> None:
    owner = FakeOwner()
    peers = {
        GONE: Peer(GONE, "a", False, False, 1, "u", departed=True),
        HERE: Peer(HERE, "b", False, False, 1, "u"),
        BACK: Peer(BACK, "c", False, True, 1, "u", departed=True),
    }
    departures = Departures(owner, lambda: peers, random.Random(1), period_s=0.01)  # type: ignore[arg-type]

    task = asyncio.ensure_future(departures.run())
    async with asyncio.timeout(5):
        await owner.succeeded.wait()
    task.cancel()
    await asyncio.wait({task})

    assert set(owner.victims) == {GONE}
