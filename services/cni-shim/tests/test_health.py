"""What a service says of its health, and its coming and going, is heard."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from weave_cni_shim.health import follow
from weave_runtime.client import connect
from weave_runtime.server import Server

# A server's own service of health is one of its services.
NAME = "grpc.health.v1.Health"


@pytest.fixture
def heard() -> asyncio.Semaphore:
    """One for each change that was heard."""
    return asyncio.Semaphore(0)


@pytest.fixture
async def socket_path(tmp_path: Path, heard: asyncio.Semaphore) -> AsyncIterator[Path]:
    """Whose service is followed; nobody listens yet."""
    path = tmp_path / "api.sock"
    async with connect(path) as channel:
        following = asyncio.create_task(follow(channel, NAME, heard.release))
        yield path
        following.cancel()


async def test_a_service_that_comes_changes_and_goes_is_heard_each_time(
    socket_path: Path, heard: asyncio.Semaphore
) -> None:
    reason = ["no ring yet"]

    async with asyncio.timeout(20):
        async with Server(socket_path, ready=lambda: reason[-1], grace_s=0):
            await heard.acquire()
            reason.append("")
            await heard.acquire()
            assert heard.locked()
        await heard.acquire()
        async with Server(socket_path, ready=str, grace_s=0):
            await heard.acquire()


async def test_nothing_is_heard_while_nothing_changes(
    socket_path: Path, heard: asyncio.Semaphore
) -> None:
    async with Server(socket_path, ready=str, grace_s=0):
        async with asyncio.timeout(20):
            await heard.acquire()

        with pytest.raises(TimeoutError):
            async with asyncio.timeout(2.5):
                await heard.acquire()
