"""Coordination while the API server is away: what was last seen stands, also over a restart."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Mapping
from contextlib import aclosing
from pathlib import Path

import pytest

from services.gossip.tests.kubernetes.fake_api import FakeApiServer
from weave_gossip.coordination.backend import UNINSTALL_KEY, Entry
from weave_gossip.errors import CoordinationAwayError
from weave_gossip.kubernetes import configmap, mirror
from weave_gossip.kubernetes.configmap import ConfigMapCoordination
from weave_gossip.kubernetes.kept import KeptEntries
from weave_runtime.store import Store, StoreError, open_store
from weave_runtime.watch import Synced

RING = Entry(1, b"ring")


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mirror, "FIRST_RETRY_S", 0.01)
    monkeypatch.setattr(mirror, "LONGEST_RETRY_S", 0.05)


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[Store]:
    async with await open_store("", tmp_path / "state", owner="test") as opened:
        yield opened


@pytest.fixture
def boot_id(tmp_path: Path) -> Path:
    path = tmp_path / "boot_id"
    path.write_text("first boot")
    return path


@pytest.fixture
def other_boot_id(tmp_path: Path) -> Path:
    path = tmp_path / "other_boot_id"
    path.write_text("second boot")
    return path


class Agent:
    """One life of a process."""

    def __init__(self, server: FakeApiServer, kept: KeptEntries) -> None:
        self._kept = kept
        self.coordination = ConfigMapCoordination(
            server.client(), "ns", "weave-net", random.Random(1), kept
        )
        self._task = asyncio.ensure_future(self.coordination.follow())

    async def synced(self) -> dict[str, Entry]:
        """What a watcher is told first."""
        async with (
            asyncio.timeout(10),
            aclosing(self.coordination.entries.subscribe()) as events,
        ):
            async for event in events:
                if isinstance(event, Synced):
                    break
        return dict(self.coordination.entries.items)

    async def has_kept(self, entries: dict[str, Entry] | None) -> None:
        async with asyncio.timeout(10):
            while await self._kept.load() != entries:  # noqa: ASYNC110 - asks a store
                await asyncio.sleep(0.01)

    async def end(self) -> None:
        self._task.cancel()
        await asyncio.wait({self._task})


async def test_reads_are_answered_while_the_api_server_is_away(
    server: FakeApiServer, store: Store, boot_id: Path
) -> None:
    agent = Agent(server, KeptEntries(store, boot_id))
    await agent.coordination.compare_and_swap("ipam/ring", 0, b"ring")
    server.is_away = True
    server.cut()

    assert await agent.coordination.get("ipam/ring") == RING
    assert await agent.coordination.get("ipam/other") is None
    with pytest.raises(CoordinationAwayError):
        await agent.coordination.compare_and_swap("ipam/ring", 1, b"other")
    await agent.end()


async def test_a_restart_meanwhile_knows_as_much(
    server: FakeApiServer, store: Store, boot_id: Path
) -> None:
    before = Agent(server, KeptEntries(store, boot_id))
    await before.coordination.compare_and_swap("ipam/ring", 0, b"ring")
    await before.has_kept({"ipam/ring": RING})
    await before.end()
    server.is_away = True
    server.cut()

    after = Agent(server, KeptEntries(store, boot_id))

    assert await after.synced() == {"ipam/ring": RING}
    assert await after.coordination.get("ipam/ring") == RING
    server.is_away = False
    other = ConfigMapCoordination(server.client(), "ns", "weave-net", random.Random(2))
    await other.compare_and_swap("ipam/fence", 0, b"gone")
    async with asyncio.timeout(10):
        while "ipam/fence" not in after.coordination.entries.items:  # noqa: ASYNC110 - polls
            await asyncio.sleep(0.01)
    await after.end()


async def test_after_a_boot_nothing_is_taken_for_granted(
    server: FakeApiServer, store: Store, boot_id: Path, other_boot_id: Path
) -> None:
    before = Agent(server, KeptEntries(store, boot_id))
    await before.coordination.compare_and_swap("ipam/ring", 0, b"ring")
    await before.has_kept({"ipam/ring": RING})
    await before.end()
    server.is_away = True
    server.cut()
    after = Agent(server, KeptEntries(store, other_boot_id))

    with pytest.raises(CoordinationAwayError):
        await after.coordination.get("ipam/ring")
    await after.end()


async def test_a_store_that_fails_for_a_while_is_tried_again(
    server: FakeApiServer, store: Store, boot_id: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(configmap, "KEEP_AGAIN_S", 0.01)
    kept = KeptEntries(store, boot_id)
    save, failures = kept.save, [StoreError("the disk is full")] * 3

    async def fail_first(entries: Mapping[str, Entry]) -> None:
        if failures:
            raise failures.pop()
        await save(entries)

    monkeypatch.setattr(kept, "save", fail_first)
    agent = Agent(server, kept)
    await agent.coordination.compare_and_swap("ipam/ring", 0, b"ring")

    await agent.has_kept({"ipam/ring": RING})
    await agent.end()


async def test_nothing_outlives_an_uninstall(
    server: FakeApiServer, store: Store, boot_id: Path
) -> None:
    agent = Agent(server, KeptEntries(store, boot_id))
    await agent.coordination.compare_and_swap("ipam/ring", 0, b"ring")
    await agent.has_kept({"ipam/ring": RING})

    await agent.coordination.compare_and_swap(UNINSTALL_KEY, 0, b"requested")

    await agent.has_kept(None)
    await agent.end()
