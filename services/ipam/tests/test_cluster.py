"""Real ipam services on unix sockets and a fake mesh: one ring, no address twice, nothing lost;
with each kind of store."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import logging
import random
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import grpc
import pytest

import weave_ipam.node
from weave.ipam.v1 import ipam_pb2
from weave_ipam.codec import key_to_proto, prefix_to_proto
from weave_ipam.config import GuessedConsensus
from weave_ipam.core.options import Agreed, Observer, Seeded
from weave_ipam.testing import cluster as testing
from weave_ipam.testing.cluster import (
    TIMEOUT_S,
    Cluster,
    IpamNode,
    code_of,
    pod_key,
    seeded,
    text_of,
)
from weave_ipam.testing.mesh import Mesh
from weave_model.peer import PeerName
from weave_model.prefix import Prefix
from weave_runtime.testing import RedisServer

# Long enough to be seen, short enough to wait for.
QUARANTINE = timedelta(seconds=0.5)


MakeCluster = Callable[..., contextlib.AbstractAsyncContextManager[Cluster]]


@pytest.fixture(params=["sqlite", "redis"])
def cluster(request: pytest.FixtureRequest) -> MakeCluster:
    """Makes clusters whose nodes keep their state in a store of this kind."""
    if request.param == "sqlite":
        return testing.cluster
    server: RedisServer = request.getfixturevalue("redis_server")
    return functools.partial(testing.cluster, store_url=server.url)


def small(text: str) -> tuple[Prefix, ...]:
    return (Prefix.parse(text),)


async def test_three_nodes_form_one_ring_and_give_distinct_addresses(cluster: MakeCluster) -> None:
    async with cluster(3) as made:
        addresses = await asyncio.gather(
            *(node.address(f"pod-{n}") for node in made.nodes for n in range(5))
        )
        names = {str(node.name) for node in made.nodes}
        ring = await made.nodes[0].ring_when(lambda ring: set(ring.values()) == names)
        for node in made.nodes:
            await node.ring_when(lambda other: other == ring)

    assert len(set(addresses)) == 15


@pytest.mark.parametrize("init", [Agreed(), seeded(1)])
async def test_other_ways_to_the_first_ring(cluster: MakeCluster, init: Agreed | Seeded) -> None:
    async with cluster(2, init=init) as made:
        addresses = [await node.address("a") for node in made.nodes]

    assert len(set(addresses)) == 2


async def test_an_observer_takes_the_ring_that_others_make(cluster: MakeCluster) -> None:
    async with cluster(1) as made:
        observer = made.add(2, ipalloc_init=Observer())
        await observer.start_gossip()
        await observer.start_router()
        await observer.start()

        assert await observer.address("a") != await made.nodes[0].address("a")


async def test_an_address_carries_the_length_of_its_subnet(cluster: MakeCluster) -> None:
    async with cluster(1) as made:
        answer = await made.nodes[0].allocate("a")
        subnet = prefix_to_proto(Prefix.parse("10.32.5.0/24"))
        inside = await made.nodes[0].allocate("b", subnets=[subnet])

    assert answer.addresses[0].length == 12
    assert inside.addresses[0].length == 24
    assert inside.addresses[0].address[:3] == bytes([10, 32, 5])


async def test_dual_stack_gives_one_address_per_family(cluster: MakeCluster) -> None:
    ranges = (Prefix.parse("10.32.0.0/16"), Prefix.parse("fd00:32::/64"))
    async with cluster(2, ipalloc_range=ranges) as made:
        answers = [await node.allocate("a") for node in made.nodes]

    assert [[len(a.address) for a in answer.addresses] for answer in answers] == [[4, 16]] * 2
    assert answers[0].addresses[0] != answers[1].addresses[0]
    assert answers[0].addresses[1] != answers[1].addresses[1]


async def test_a_node_without_space_gets_some_from_others(cluster: MakeCluster) -> None:
    async with cluster(3, ipalloc_range=small("10.32.0.0/26")) as made:
        # More than any node's share at the start, less than all.
        addresses = [await made.nodes[2].address(f"pod-{n}") for n in range(40)]

    assert len(set(addresses)) == 40


async def test_a_full_universe_is_told_and_a_release_helps(cluster: MakeCluster) -> None:
    async with cluster(1, ipalloc_range=small("10.32.0.0/29")) as made:
        node = made.nodes[0]
        for n in range(6):
            await node.address(f"pod-{n}")

        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await node.allocate("one-too-many", timeout_s=1.0)

        assert code_of(caught.value) in ("UNAVAILABLE", "RESOURCE_EXHAUSTED")
        assert "10.32.0.0/29" in (caught.value.details() or "")
        assert "one-too-many" not in await node.allocations()


async def test_a_full_universe_is_told_before_anybody_asks_in_vain(cluster: MakeCluster) -> None:
    async with cluster(2, ipalloc_range=small("10.32.0.0/29"), quarantine=QUARANTINE) as made:
        one, other = made.nodes
        for n in range(6):
            await one.address(f"pod-{n}")

        for node in (one, other):
            status = await node.status_when(lambda status: status.exhausted != "")
            assert status.families[0].exhausted
            assert not status.ready
            assert status.reason == status.exhausted
            assert status.exhausted == "no free address is left in 10.32.0.0/29"

        await one.release("pod-0")
        for node in (one, other):
            status = await node.status_when(lambda status: status.ready)
            assert not status.exhausted
            assert not status.families[0].exhausted


async def test_allocation_goes_on_while_gossip_restarts(cluster: MakeCluster) -> None:
    async with cluster(2) as made:
        node = made.nodes[0]
        await node.address("a")
        await node.stop_gossip()
        await node.address("b")
        await node.start_gossip()

        assert len(set((await node.allocations()).values())) == 2


async def test_a_claim_takes_an_address_from_its_owner(cluster: MakeCluster) -> None:
    async with cluster(2, init=seeded(1, 2), ipalloc_range=small("10.32.0.0/24")) as made:
        one, other = made.nodes
        await asyncio.gather(one.until_ready(), other.until_ready())
        ring = await one.ring()
        block = next(p for p, owner in ring.items() if owner == str(other.name))
        wanted = str(Prefix.host(Prefix.parse(block).family, Prefix.parse(block).address + 5))

        await one.claim("a", wanted)

        assert await one.lookup("a") == [wanted.partition("/")[0]]


async def test_a_claim_of_a_held_address_says_who_holds_it(cluster: MakeCluster) -> None:
    async with cluster(1) as made:
        node = made.nodes[0]
        held = await node.address("holder")

        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await node.claim("a", held)

    assert code_of(caught.value) == "FAILED_PRECONDITION"
    assert "holder" in (caught.value.details() or "")


async def test_a_dead_peer_is_reclaimed_once(cluster: MakeCluster) -> None:
    async with cluster(3, init=seeded(1, 2, 3), ipalloc_range=small("10.32.0.0/24")) as made:
        one, other, dead = made.nodes
        await asyncio.gather(*(node.until_ready() for node in made.nodes))
        await dead.stop()
        await dead.stop_gossip()
        made.mesh.take_down(dead.name)
        for node in (one, other):
            await node.status_when(lambda status: not all_reachable(status))

        answers = await asyncio.gather(
            reclaim(one, "node-3"), reclaim(other, "node-3"), return_exceptions=True
        )

        taken = [a for a in answers if isinstance(a, ipam_pb2.ReclaimResponse)]
        assert sum(int(a.addresses) > 0 for a in taken) == 1
        await one.ring_when(lambda ring: str(dead.name) not in ring.values())


async def test_a_reachable_peer_is_not_reclaimed(cluster: MakeCluster) -> None:
    async with cluster(2) as made:
        await asyncio.gather(*(node.until_ready() for node in made.nodes))

        for peer, code in (("node-2", "FAILED_PRECONDITION"), ("nobody", "NOT_FOUND")):
            with pytest.raises(grpc.aio.AioRpcError) as caught:
                await reclaim(made.nodes[0], peer)
            assert code_of(caught.value) == code


async def test_leaving_hands_everything_over(cluster: MakeCluster) -> None:
    async with cluster(2, init=seeded(1, 2), ipalloc_range=small("10.32.0.0/24")) as made:
        stays, leaves = made.nodes
        await asyncio.gather(stays.until_ready(), leaves.until_ready())

        answer = await leaves.stub.Leave(ipam_pb2.LeaveRequest(), timeout=TIMEOUT_S)

        assert int(answer.addresses) > 0
        await stays.ring_when(lambda ring: set(ring.values()) == {str(stays.name)})


async def test_a_watch_of_the_ring_resumes(cluster: MakeCluster) -> None:
    async with cluster(1) as made:
        node = made.nodes[0]
        await node.until_ready()
        stream = node.stub.WatchRing(ipam_pb2.WatchRingRequest(), timeout=TIMEOUT_S)
        messages = aiter(stream)
        seen = [await anext(messages) for _ in range(3)]
        token = seen[-1].synced.resume_token
        again = node.stub.WatchRing(
            ipam_pb2.WatchRingRequest(resume_token=token), timeout=TIMEOUT_S
        )
        first = await anext(aiter(again))
        stream.cancel()
        again.cancel()

    assert [m.WhichOneof("event") for m in seen] == ["snapshot_start", "ring", "synced"]
    assert first.WhichOneof("event") == "synced"


async def test_a_check_finds_and_repairs(cluster: MakeCluster) -> None:
    async with cluster(1) as made:
        node = made.nodes[0]
        dead, alive = await node.address("dead"), await node.address("alive")
        node.attach({"alive": alive, "stranger": "10.32.77.77"})
        node.attach({"dead": dead}, sandbox_exists=False)

        found = await check(node)
        repaired = await check(node, repair=True)

        assert {f.key.container_id: f.kind for f in found} == {
            "dead": "leak",
            "stranger": "unknown",
        }
        assert all(finding.repaired for finding in repaired)
        assert set(await node.allocations()) == {"alive", "stranger"}


async def test_bad_requests_are_refused_with_the_reason(cluster: MakeCluster) -> None:
    async with cluster(1) as made:
        node = made.nodes[0]
        outside = prefix_to_proto(Prefix.parse("192.168.0.0/24"))
        cases: tuple[tuple[dict[str, Any], str], ...] = (
            ({"subnets": [outside]}, "192.168.0.0/24"),
            ({"subnets": [prefix_to_proto(Prefix.parse("10.32.0.0/31"))]}, "10.32.0.0/31"),
            ({"requested": [outside]}, "192.168.0.0/24"),
        )
        for fields, named in cases:
            with pytest.raises(grpc.aio.AioRpcError) as caught:
                await node.allocate("a", **fields)
            assert code_of(caught.value) == "INVALID_ARGUMENT"
            assert named in (caught.value.details() or "")

        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await node.stub.Allocate(ipam_pb2.AllocateRequest(), timeout=TIMEOUT_S)
        assert code_of(caught.value) == "INVALID_ARGUMENT"


async def test_another_range_on_a_peer_is_told_on_both_sides(cluster: MakeCluster) -> None:
    async with cluster(1, ipalloc_range=small("10.32.0.0/16")) as made:
        stranger = made.add(2, ipalloc_range=small("10.40.0.0/16"), ipalloc_init=seeded(2))
        await stranger.start_gossip()
        await stranger.start_router()
        await stranger.start()
        await made.nodes[0].address("a")
        await stranger.address("a")

        for node, ours, theirs in (
            (made.nodes[0], "10.32.0.0/16", "10.40.0.0/16"),
            (stranger, "10.40.0.0/16", "10.32.0.0/16"),
        ):
            status = await node.status_when(lambda status: bool(status.families[0].conflicts))
            text = " ".join(status.families[0].conflicts)
            assert ours in text
            assert theirs in text


async def test_status_before_gossip_is_there_says_what_is_missing(cluster: MakeCluster) -> None:
    async with cluster(0) as made:
        node = made.add(1)
        await node.start()

        await node.status_when(lambda status: "gossip" in status.reason)
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await node.allocate("a", timeout_s=0.3)

    assert code_of(caught.value) == "UNAVAILABLE"
    assert "gossip" in (caught.value.details() or "")


async def test_a_gossip_with_another_name_ends_the_process(cluster: MakeCluster) -> None:
    async with cluster(1) as made:
        node = made.nodes[0]
        await node.address("a")
        await node.stop_gossip()
        node.gossip.peer = Mesh().add(PeerName(b"\x02\0\0\0\0\x99"))
        await node.start_gossip()

        async with asyncio.timeout(TIMEOUT_S):
            await node.ended()
        assert not await node.stop()


async def test_a_damaged_entry_ends_the_process_and_stays(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async with testing.cluster(1) as made:
        node = made.nodes[0]
        await node.address("a")
        await node.stop()
        database = node.config.state_dir / "state.db"
        database.write_bytes(b"not a database" * 100)

        await node.start()
        async with asyncio.timeout(TIMEOUT_S):
            await node.ended()

        assert not await node.stop()
        assert str(database) in caplog.text
        assert database.read_bytes().startswith(b"not a database")


def all_reachable(status: ipam_pb2.GetStatusResponse) -> bool:
    return all(share.reachable for share in status.families[0].shares)


async def reclaim(node: IpamNode, peer: str) -> ipam_pb2.ReclaimResponse:
    return await node.stub.Reclaim(ipam_pb2.ReclaimRequest(peer=peer), timeout=TIMEOUT_S)


async def check(node: IpamNode, *, repair: bool = False) -> list[ipam_pb2.CheckResponse.Finding]:
    answer = await node.stub.Check(ipam_pb2.CheckRequest(repair=repair), timeout=TIMEOUT_S)
    return list(answer.findings)


async def test_callers_that_hang_up_at_any_moment_and_release_leave_nothing(
    cluster: MakeCluster,
) -> None:
    """An answer may be on its way when its caller gives up: so who gives up releases."""
    rng = random.Random(7)
    async with cluster(1) as made:
        node = made.nodes[0]
        told = {"first": await node.address("first")}
        for number in range(200):
            pod = f"pod-{number}"
            call = node.stub.Allocate(ipam_pb2.AllocateRequest(key=key_to_proto(pod_key(pod))))
            await asyncio.sleep(rng.uniform(0, 0.006))
            call.cancel()
            try:
                told[pod] = text_of((await call).addresses[0].address)
            except asyncio.CancelledError:
                await node.release(pod)

        listed = {pod: addresses[0] for pod, addresses in (await node.allocations()).items()}
        assert listed == told
        assert len(set(told.values())) == len(told) > 1


async def test_without_a_mode_the_quorum_is_guessed_from_the_targets(
    cluster: MakeCluster,
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.INFO)
    async with cluster(0) as made:
        nodes = [made.add(number, ipalloc_init=GuessedConsensus()) for number in (1, 2)]
        for node in nodes:
            node.gossip.peer.targets = ["other:6783"]
            await node.start_gossip()
            await node.start_router()
            await node.start()
        addresses = [await node.address("a") for node in nodes]

    assert len(set(addresses)) == 2
    assert "Assuming quorum size of 2" in caplog.text


async def test_what_is_dead_is_freed_by_itself(
    cluster: MakeCluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(weave_ipam.node, "FIRST_AUDIT_S", 0.0)
    monkeypatch.setattr(weave_ipam.node, "AUDIT_PERIOD_S", 0.05)
    async with cluster(1) as made:
        node = made.nodes[0]
        node.attach({"alive": await node.address("alive")})
        node.attach({"dead": await node.address("dead")}, sandbox_exists=False)

        await node.status_when(lambda status: status.families[0].quarantined == 1)

        assert set(await node.allocations()) == {"alive"}
