"""Every call cancelled at every await point on its way through service and owner: nothing leaks, no
half of it stays, and whoever calls again gets all of it."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, replace

import pytest

import weave_ipam.core.reclaims
from services.ipam.tests.test_loop import ME, Alone, Bench, SlowBackend, steps
from weave.ipam.v1 import ipam_pb2
from weave_ipam.codec import key_to_proto, prefix_to_proto
from weave_ipam.config import Config
from weave_ipam.core.effects import Effect, WriteFence
from weave_ipam.core.results import PeerInfo
from weave_ipam.loop import Owner
from weave_ipam.node import Node
from weave_ipam.records import STATE_FORMAT
from weave_ipam.router_client import Attachment, RouterClient
from weave_ipam.service import IpamService
from weave_ipam.testing.cluster import pod_key
from weave_model.attachment import Workload
from weave_model.peer import PeerName
from weave_model.prefix import Prefix
from weave_runtime.process import Supervisor
from weave_runtime.store import Store

DEAD = PeerName(b"\x02\0\0\0\0\x02")
# More turns of the loop than any call takes.
MOST_STEPS = 400
# Far more than it takes until it waits for an heir.
POINTS_OF_A_LEAVE = 60
ADDRESS = "10.32.0.77"


class Fenced(Alone):
    """Coordination lets this peer write every fence."""

    def perform(self, effect: Effect) -> None:
        super().perform(effect)
        if isinstance(effect, WriteFence):
            core, fence = self._owner.allocator, effect.fence
            self._owner.post(lambda now: core.fence_written(1, replace(fence, token=1), now))


class Context:
    """What the service asks of gRPC: how long the caller waits."""

    def time_remaining(self) -> float:
        return 30.0


class Router(RouterClient):
    """Sees that the sandbox of pod a is gone, and a pod b that nobody allocated for."""

    def __init__(self) -> None:
        pass

    async def attachments(self) -> list[Attachment]:
        await asyncio.sleep(0)
        dead, stranger = (Prefix.parse(address) for address in ("10.32.0.5", ADDRESS))
        return [
            Attachment(pod_key("a"), (dead,), Workload(), sandbox_exists=False),
            Attachment(pod_key("b"), (stranger,), Workload(), sandbox_exists=True),
        ]


class OneNode(Node):
    """A node that runs, without the tasks of its process."""

    def __init__(self, owner: Owner) -> None:
        super().__init__(Config(), Supervisor())
        self.name = ME
        self._router = Router()
        self._owner = owner
        self._has_owner.set()

    async def owner(self, timeout_s: float) -> Owner:
        await asyncio.sleep(0)
        return await super().owner(timeout_s)


@dataclass(frozen=True)
class World:
    """A service alone with its store, beside a dead peer."""

    bench: Bench
    service: IpamService

    async def allocate(self) -> object:
        request = ipam_pb2.AllocateRequest(key=key_to_proto(pod_key("a")))
        return await self.service.Allocate(request, Context())

    async def claim(self) -> object:
        address = prefix_to_proto(Prefix.parse(ADDRESS))
        request = ipam_pb2.ClaimRequest(key=key_to_proto(pod_key("a")), addresses=[address])
        return await self.service.Claim(request, Context())

    async def release(self, name: str = "a") -> object:
        request = ipam_pb2.ReleaseRequest(key=key_to_proto(pod_key(name)))
        return await self.service.Release(request, Context())

    async def reclaim(self) -> object:
        return await self.service.Reclaim(ipam_pb2.ReclaimRequest(peer=str(DEAD)), Context())

    async def prime(self) -> object:
        return await self.service.Prime(ipam_pb2.PrimeRequest(), Context())

    async def leave(self) -> object:
        return await self.service.Leave(ipam_pb2.LeaveRequest(), Context())

    async def lookup(self) -> object:
        request = ipam_pb2.LookupRequest(key=key_to_proto(pod_key("a")))
        return await self.service.Lookup(request, Context())

    async def check(self) -> object:
        return await self.service.Check(ipam_pb2.CheckRequest(), Context())

    async def repair(self) -> ipam_pb2.CheckResponse:
        return await self.service.Check(ipam_pb2.CheckRequest(repair=True), Context())

    async def list(self) -> object:
        return await self.service.List(ipam_pb2.ListRequest(), Context())

    async def rest(self) -> None:
        """Returns when all that has begun is done and durable."""
        for _ in range(3):
            await self.bench.held()

    async def cancelled_after(self, call: Callable[[], Awaitable[object]], count: int) -> bool:
        """Cancels a call after `count` turns of the loop; says whether it was too late."""
        task = asyncio.ensure_future(call())
        await steps(count)
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task
            return True
        return False

    def check_books(self) -> None:
        """Nobody waits, nothing is half done: what is known is what is stored."""
        owner = self.bench.owner
        assert owner.waiting == 0
        assert not owner._requests._interests
        (family,) = owner.status().families
        assert family.pending == ()
        allocations = owner.allocator.allocations()
        assert {one.key.container_id for one in allocations} == self.bench.stored()
        assert family.active == sum(len(one.addresses) for one in allocations)
        resting = [key for key in self.bench.backend.entries if key.startswith("quarantine/")]
        assert family.quarantined == len(resting)
        # The peers' own addresses are the ring's; what is not free is used or rests.
        assert family.free + family.active + family.quarantined == family.universe.size


@pytest.fixture
async def world(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[World]:
    monkeypatch.setattr(weave_ipam.core.reclaims, "SETTLE_S", 0.0)
    backend = SlowBackend()
    store = await Store.open(backend, STATE_FORMAT)
    bench = Bench(backend, store, Fenced)
    await bench.ready()
    peers = [PeerInfo(ME), PeerInfo(DEAD, reachable=False)]
    bench.owner.post(lambda now: bench.owner.allocator.peers_changed(peers, now))
    node = OneNode(bench.owner)
    yield World(bench, IpamService(node, time.monotonic))
    bench.task.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await bench.task
    await node.close()
    await store.close()


async def at_every_point(
    world: World, call: Callable[[], Awaitable[object]], before: Callable[[], Awaitable[object]]
) -> int:
    """Cancels later and later, until a call ends first. Gives the number of points."""
    for count in range(MOST_STEPS):
        await before()
        await world.rest()
        too_late = await world.cancelled_after(call, count)
        await world.rest()
        world.check_books()
        if too_late:
            return count
        # Whatever was left of the call, who calls again is answered.
        await call()
        await world.rest()
        world.check_books()
    raise AssertionError("no call ever ended")


async def test_allocate_is_undone(world: World) -> None:
    async def nothing_is_held() -> None:
        await world.release()

    for count in range(MOST_STEPS):
        await nothing_is_held()
        await world.rest()
        too_late = await world.cancelled_after(world.allocate, count)
        await world.rest()
        world.check_books()
        assert world.bench.stored() == ({"a"} if too_late else set())
        if too_late:
            assert count > 3
            return
    raise AssertionError("no call ever ended")


async def test_claim_is_whole_or_not_there(world: World) -> None:
    """What a claim has recorded stays: the address is in use, whoever waits."""
    assert await at_every_point(world, world.claim, world.release) > 3

    (held,) = await world.bench.owner.read(world.bench.owner.allocator.allocations)
    assert [str(address) for address in held.addresses] == [f"{ADDRESS}/32"]


async def test_release_is_whole_or_not_there(world: World) -> None:
    assert await at_every_point(world, world.release, world.allocate) > 3

    assert await world.bench.held() == set()


async def test_reclaim_leaves_no_takeover_behind(world: World) -> None:
    async def nothing() -> None:
        pass

    assert await at_every_point(world, world.reclaim, nothing) > 3

    assert not world.bench.owner.allocator._reclaims._takeovers


async def test_prime_leaves_nobody_waiting(world: World) -> None:
    async def nothing() -> None:
        pass

    assert await at_every_point(world, world.prime, nothing) > 1

    assert not world.bench.owner.allocator._progress.primes


async def test_leave_leaves_nobody_waiting(world: World) -> None:
    """There is nobody to leave to, so it never ends."""
    await world.allocate()
    for count in range(POINTS_OF_A_LEAVE):
        assert not await world.cancelled_after(world.leave, count)
        await world.rest()
        world.check_books()
        assert not world.bench.owner.allocator._leaving._requests


async def test_what_a_repair_begins_is_whole_or_not_there(world: World) -> None:
    """It frees what is dead and records what lives, one by one."""

    async def one_is_dead_and_one_unknown() -> None:
        await world.release("b")
        await world.allocate()

    assert await at_every_point(world, world.repair, one_is_dead_and_one_unknown) > 6

    assert await world.bench.held() == {"b"}
    (held,) = world.bench.owner.allocator.allocations()
    assert [str(address) for address in held.addresses] == [f"{ADDRESS}/32"]


async def test_a_cancelled_repair_is_made_up_for_by_the_next(world: World) -> None:
    for count in range(MOST_STEPS):
        await world.release("b")
        await world.allocate()
        too_late = await world.cancelled_after(world.repair, count)
        await world.repair()

        assert await world.bench.held() == {"b"}
        left = await world.repair()
        assert not left.findings
        if too_late:
            return
    raise AssertionError("no repair ever ended")


@pytest.mark.parametrize("read", [World.lookup, World.list, World.check])
async def test_a_read_leaves_everything_as_it_was(
    world: World, read: Callable[[World], Awaitable[object]]
) -> None:
    assert await at_every_point(world, lambda: read(world), world.allocate) > 1

    assert await world.bench.held() == {"a"}
    assert not world.bench.owner._readers
