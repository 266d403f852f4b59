"""Operators' mistakes: each is told in the status and in the logs, and costs no address."""

from __future__ import annotations

import asyncio
import logging
from typing import Any

import grpc
import pytest

from weave_ipam.codec import prefix_to_proto
from weave_ipam.core.options import Consensus
from weave_ipam.testing.cluster import IpamNode, cluster, code_of, seeded
from weave_model.prefix import Prefix
from weave_runtime.testing import RedisServer

# Much longer than it takes, on a busy machine too.
TOLD_S = 10.0


async def start(node: IpamNode) -> None:
    await node.start_gossip()
    await node.start_router()
    await node.start()


async def told(node: IpamNode, *parts: str) -> None:
    """Returns when the status names a conflict with all these parts."""
    await node.status_when(
        lambda status: any(
            all(part in text for part in parts)
            for family in status.families
            for text in family.conflicts
        )
    )


async def logged(caplog: pytest.LogCaptureFixture, *parts: str, times: int = 1) -> None:
    """Returns when warnings have said it so often; a status may tell it before the log does."""

    def count() -> int:
        warnings = [one.getMessage() for one in caplog.records if one.levelno >= logging.WARNING]
        return sum(all(part in text for part in parts) for text in warnings)

    async with asyncio.timeout(TOLD_S):
        while count() < times:  # noqa: ASYNC110 - a log announces nothing
            await asyncio.sleep(0.01)
    assert count() == times


async def test_another_range_on_a_peer(caplog: pytest.LogCaptureFixture) -> None:
    ours, theirs = Prefix.parse("10.32.0.0/16"), Prefix.parse("10.40.0.0/16")
    async with cluster(1, ipalloc_range=(ours,)) as made:
        (node,) = made.nodes
        held = await node.address("before")
        stranger = made.add(2, ipalloc_range=(theirs,), ipalloc_init=seeded(2))
        await start(stranger)
        kept = await stranger.address("a")
        words = "Incompatible IP allocation ranges"

        await told(node, "node-2", f"{words} (received: {theirs}, ours: {ours})")
        await told(stranger, "node-1", f"{words} (received: {ours}, ours: {theirs})")

        await logged(caplog, f"(received: {theirs}, ours: {ours})")
        await logged(caplog, f"(received: {ours}, ours: {theirs})")
        assert await node.allocations() == {"before": (held,)}
        assert await stranger.allocations() == {"a": (kept,)}
        assert await node.address("after") != held


async def test_another_range_among_those_who_vote(caplog: pytest.LogCaptureFixture) -> None:
    ours, theirs = Prefix.parse("10.32.0.0/16"), Prefix.parse("10.40.0.0/16")
    async with cluster(0) as made:
        for number, universe in ((1, ours), (2, theirs)):
            node = made.add(number, ipalloc_range=(universe,), ipalloc_init=Consensus(2))
            await start(node)
        one, other = made.nodes
        for node in made.nodes:
            with pytest.raises(grpc.aio.AioRpcError) as caught:
                await node.allocate("a", timeout_s=1.0)
            assert caught.value.details() == "awaiting consensus (quorum: 2, known: 1)"

        await told(one, "node-2", f"(received: {theirs}, ours: {ours})")
        await told(other, "node-1", f"(received: {ours}, ours: {theirs})")

    await logged(caplog, "Incompatible IP allocation ranges", times=2)


async def test_seed_lists_that_differ(caplog: pytest.LogCaptureFixture) -> None:
    """The ring that is there stands; who was given other seeds says so, and takes part in it."""
    async with cluster(0) as made:
        made.add(1, ipalloc_init=seeded(1, 2))
        made.add(2, ipalloc_init=seeded(2))
        one, other = made.nodes
        await start(other)
        held = await other.address("before")
        await start(one)
        words = "IP allocation was seeded by different peers"

        await told(one, words, f"received: [{other.name}], ours: [{one.name} {other.name}]")
        given = [await node.address("after") for node in made.nodes]

        await logged(caplog, words, f"ours: [{one.name} {other.name}]")
        assert (await other.allocations())["before"] == (held,)
        assert len({held, *given}) == 3
        for node in made.nodes:
            ring = await node.ring_when(lambda ring: len(set(ring.values())) == 2)
            assert set(ring.values()) == {str(one.name), str(other.name)}


@pytest.mark.parametrize(
    ("what", "outside"), [("subnets", "10.99.0.0/24"), ("requested", "10.99.0.1/32")]
)
async def test_an_address_outside_the_universe(what: str, outside: str) -> None:
    async with cluster(1, ipalloc_range=(Prefix.parse("10.32.0.0/16"),)) as made:
        (node,) = made.nodes
        fields: dict[str, Any] = {what: [prefix_to_proto(Prefix.parse(outside))]}
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await node.allocate("a", **fields)

        assert code_of(caught.value) == "INVALID_ARGUMENT"
        assert caught.value.details() == f"range {outside} out of bounds: 10.32.0.0/16"
        assert await node.allocations() == {}


async def test_a_claim_outside_the_universe_is_remembered_and_harms_nobody() -> None:
    """The address is in use whatever the range is; so Weave Net did, too."""
    async with cluster(1, ipalloc_range=(Prefix.parse("10.32.0.0/16"),)) as made:
        (node,) = made.nodes
        await node.claim("foreign", "10.99.0.1/32")

        assert await node.allocations() == {"foreign": ("10.99.0.1",)}
        status = await node.status()
        assert status.families[0].active == status.families[0].conflicting == 0


async def test_a_damaged_entry_in_redis_ends_the_process_and_stays(
    redis_server: RedisServer, caplog: pytest.LogCaptureFixture
) -> None:
    async with cluster(1, store_url=redis_server.url) as made:
        (node,) = made.nodes
        await node.address("a")
        await node.stop()
        key = f"weave:ipam:{node.name}:state"
        redis_server.ask("hset", key, "generation", "rubbish")

        await node.start()
        await node.ended()

        assert not await node.stop()
        assert "generation" in caplog.text
        assert redis_server.ask("hget", key, "generation").strip() == "rubbish"
