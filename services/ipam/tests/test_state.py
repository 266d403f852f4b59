"""What a restart and the loss of all state leave of an ipam, with each kind of store."""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import Callable
from dataclasses import replace

import grpc
import pytest

from weave.ipam.v1 import ipam_pb2
from weave_ipam.testing.cluster import TIMEOUT_S, IpamNode, cluster, code_of, seeded
from weave_ipam.testing.mesh import Mesh
from weave_model.prefix import Prefix
from weave_runtime.testing import RedisServer


class Stores:
    """Where nodes keep their state, and how it is lost."""

    def __init__(self, url: str, lose: Callable[[IpamNode], None]) -> None:
        self.url = url
        self._lose = lose

    def lose(self, node: IpamNode) -> None:
        """Takes all of a stopped node's state away."""
        shutil.rmtree(node.config.state_dir)
        self._lose(node)


@pytest.fixture(params=["sqlite", "redis"])
def stores(request: pytest.FixtureRequest) -> Stores:
    if request.param == "sqlite":
        return Stores("", lambda _: None)
    server: RedisServer = request.getfixturevalue("redis_server")
    return Stores(
        server.url, lambda node: print(server.ask("del", f"weave:ipam:{node.name}:state"))
    )


async def test_allocate_is_idempotent_until_release(stores: Stores) -> None:
    async with cluster(1, store_url=stores.url) as made:
        node = made.nodes[0]
        first = await node.allocate("a")
        again = await node.allocate("a")

        assert (first.existed, again.existed) == (False, True)
        assert (again.addresses, again.generation) == (first.addresses, first.generation)
        assert await node.lookup("a") == await node.release("a")
        assert await node.lookup("a") == []
        assert await node.release("a") == []
        assert (await node.allocate("a")).generation > first.generation


async def test_a_restart_keeps_allocations_ring_and_generations(stores: Stores) -> None:
    async with cluster(2, store_url=stores.url) as made:
        node = made.nodes[0]
        before = await node.allocate("a")
        ring = await node.ring()

        await node.restart()

        assert (await node.allocate("a")).addresses == before.addresses
        assert await node.ring() == ring
        assert (await node.allocate("b")).generation > before.generation


async def test_a_restarted_node_knows_what_it_gave_while_gossip_is_away(stores: Stores) -> None:
    """But gives nothing new: it may have been removed meanwhile, and only Coordination knows."""
    async with cluster(2, store_url=stores.url) as made:
        node = made.nodes[0]
        held = await node.address("a")
        await node.stop()
        await node.stop_gossip()

        await node.start()

        assert await node.address("a") == held
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await node.address("b", timeout_s=1.0)
        assert "gossip has not answered" in (caught.value.details() or "")
        await node.start_gossip()
        assert await node.address("b") != held


async def agreed_ring(nodes: list[IpamNode]) -> dict[str, str]:
    """The ring once the last donation has reached everybody."""
    async with asyncio.timeout(TIMEOUT_S):
        while True:
            rings = [await node.ring() for node in nodes]
            if all(ring == rings[0] for ring in rings):
                return rings[0]
            await asyncio.sleep(0.02)


async def test_the_ring_is_known_after_a_restart_before_the_mesh_is(stores: Stores) -> None:
    async with cluster(3, store_url=stores.url) as made:
        node = made.nodes[0]
        await asyncio.gather(*(each.address("a") for each in made.nodes))
        ring = await agreed_ring(made.nodes)
        await node.stop()
        await node.stop_gossip()

        # The new gossip knows nobody yet, and will not say that it does.
        node.gossip.peer = Mesh().add(node.name)
        await node.start_gossip()
        await node.start()

        assert await node.ring() == ring


async def test_lost_state_is_rebuilt_from_the_router_first(stores: Stores) -> None:
    async with cluster(1, store_url=stores.url) as made:
        node = made.nodes[0]
        pods = {f"pod-{n}": await node.address(f"pod-{n}") for n in range(20)}
        node.attach(pods)
        await node.stop()
        stores.lose(node)
        await node.stop_router()

        await node.start()
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await node.allocate("too-early", timeout_s=0.5)
        assert "router" in (caught.value.details() or "")
        assert "router" in (await node.status()).reason

        await node.start_router()
        fresh = await asyncio.gather(*(node.address(f"new-{n}") for n in range(1000)))

    assert len(set(fresh)) == 1000
    assert not set(fresh) & set(pods.values())


async def test_what_the_router_shows_is_allocated_after_state_loss(stores: Stores) -> None:
    async with cluster(1, store_url=stores.url) as made:
        node = made.nodes[0]
        address = await node.address("a")
        node.attach({"a": address})
        await node.stop()
        stores.lose(node)
        await node.start()

        assert await node.address("a") == address


async def test_a_wrong_range_for_a_while_costs_nothing(stores: Stores) -> None:
    async with cluster(2, init=seeded(1, 2), store_url=stores.url) as made:
        node = made.nodes[0]
        held = await node.address("a")
        ring = await node.ring()
        right = node.config
        await node.stop()

        node.config = replace(right, ipalloc_range=(Prefix.parse("10.48.0.0/12"),))
        await node.start()
        assert await node.lookup("a") == [held]
        assert (await node.status()).families[0].universe.address == bytes([10, 48, 0, 0])
        await node.stop()

        node.config = right
        await node.start()
        assert await node.address("a") == held
        assert await node.address("b") != held
        assert await node.ring() == ring


async def test_a_new_name_keeps_what_pods_hold_and_tells_whose_it_was() -> None:
    """The gossip has lost its state: this node is another peer now, its pods are the same."""
    async with cluster(2, init=seeded(1, 2), ipalloc_range=(Prefix.parse("10.32.0.0/24"),)) as made:
        node, other = made.nodes
        held = await node.address("a")
        await node.stop()
        await node.stop_gossip()
        made.mesh.take_down(node.name)

        renamed = made.add(9, ipalloc_init=seeded(1, 2), state_dir=node.config.state_dir)
        renamed.config = replace(renamed.config, ipalloc_range=node.config.ipalloc_range)
        await renamed.start_gossip()
        await renamed.start_router()
        await renamed.start()

        assert await renamed.address("a") == held
        fresh = await renamed.address("b")
        assert fresh not in (held, await other.address("b"))
        status = await renamed.status_when(lambda s: s.families[0].conflicting == 1)
        assert held in status.families[0].conflicts[0]
        assert str(node.name) in status.families[0].conflicts[0]


async def test_a_removed_peer_that_comes_back_gives_nothing_it_no_longer_owns() -> None:
    async with cluster(3, init=seeded(1, 2, 3)) as made:
        heir, _, victim = made.nodes
        held = await victim.address("a")
        await victim.stop()
        await victim.stop_gossip()
        made.mesh.take_down(victim.name)
        await heir.status_when(lambda s: not all(share.reachable for share in s.families[0].shares))
        taken = await heir.stub.Reclaim(ipam_pb2.ReclaimRequest(peer="node-3"), timeout=TIMEOUT_S)

        made.mesh.bring_up(victim.name)
        await victim.start_gossip()
        await victim.start()

        assert int(taken.addresses) > 0
        assert await victim.address("a") == held
        fresh = await victim.address("b")
        ring = await victim.ring_when(lambda ring: str(victim.name) in ring.values())
        assert owner_in(ring, fresh) == str(victim.name)
        await heir.ring_when(lambda other: owner_in(other, fresh) == str(victim.name))


async def test_a_peer_that_lives_behind_a_cut_hears_from_coordination_that_it_was_removed() -> None:
    async with cluster(2, init=seeded(1, 2)) as made:
        heir, victim = made.nodes
        await asyncio.gather(heir.until_ready(), victim.until_ready())
        made.mesh.cut(heir.name, victim.name)
        await heir.status_when(lambda s: not all(share.reachable for share in s.families[0].shares))

        await heir.stub.Reclaim(ipam_pb2.ReclaimRequest(peer="node-2"), timeout=TIMEOUT_S)

        ring = await victim.ring_when(lambda ring: str(victim.name) not in ring.values())
        assert set(ring.values()) == {str(heir.name)}
        with pytest.raises(grpc.aio.AioRpcError):
            await victim.allocate("late", timeout_s=1.0)


async def test_nobody_is_removed_while_coordination_is_away() -> None:
    async with cluster(2, init=seeded(1, 2)) as made:
        node, dead = made.nodes
        await asyncio.gather(node.until_ready(), dead.until_ready())
        await dead.stop()
        await dead.stop_gossip()
        made.mesh.take_down(dead.name)
        await node.status_when(lambda s: not all(share.reachable for share in s.families[0].shares))
        node.gossip.coordination.is_away = True

        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await node.stub.Reclaim(ipam_pb2.ReclaimRequest(peer="node-2"), timeout=TIMEOUT_S)

    assert code_of(caught.value) == "UNAVAILABLE"
    assert "Coordination" in (caught.value.details() or "")


def owner_in(ring: dict[str, str], address: str) -> str:
    host = Prefix.parse(address)
    return next((o for block, o in ring.items() if Prefix.parse(block).contains(host)), "")
