"""Nodes that share one Redis: each router finds its own state there, and no other's."""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from weave_model.prefix import Prefix
from weave_router.config import Config
from weave_router.records import NodeFacts, Records
from weave_runtime.store import Store, open_store
from weave_runtime.testing import RedisServer


@pytest.fixture
def redis_url() -> Iterator[str]:
    # Not pytest's tmp_path: its names grow beyond what a socket path may have.
    with tempfile.TemporaryDirectory(prefix="wredis-") as directory:
        server = RedisServer(Path(directory))
        server.start()
        yield server.url
        server.kill()


async def store_of(node: str, url: str) -> Store:
    config = Config(store_url=url, nickname=node)
    return await open_store(config.store_url, config.state_dir, owner=config.store_owner)


async def test_routers_of_two_nodes_keep_apart_in_one_redis(redis_url: str) -> None:
    facts = NodeFacts(overlay=(Prefix.parse("10.32.0.1"),))
    async with await store_of("one", redis_url) as first:
        records = Records(first)
        writer = asyncio.create_task(records.run())
        records.put_facts(facts)
        await records.written()
        writer.cancel()

    async with await store_of("one", redis_url) as again, await store_of("two", redis_url) as other:
        assert await Records(again).load() == ([], facts)
        assert await Records(other).load() == ([], NodeFacts())
