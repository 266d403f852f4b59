"""The owner: durable before told, one commit for many, nothing left of a caller that has gone."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import random
import time
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest

from weave_ipam.core.allocator import Allocator
from weave_ipam.core.documents import TOPIC_PAXOS, TOPIC_RING
from weave_ipam.core.effects import Effect, Publish, ReadFence
from weave_ipam.core.options import DEFAULT_QUARANTINE_S, FamilyOptions, Options, Seeded
from weave_ipam.core.records import State
from weave_ipam.core.results import Allocated, PeerInfo, Released, Result
from weave_ipam.errors import StillWaiting
from weave_ipam.loop import Owner
from weave_ipam.records import STATE_FORMAT, state_of
from weave_ipam.testing.cluster import pod_key
from weave_model.attachment import Workload
from weave_model.errors import Invalid, NotReady
from weave_model.peer import PeerName
from weave_model.prefix import Family, Prefix
from weave_model.ring import Genesis
from weave_runtime.store import Store
from weave_runtime.store.memory import MemoryBackend

ME = PeerName(b"\x02\0\0\0\0\x01")
RANGE = Prefix.parse("10.32.0.0/24")
TIMEOUT_S = 10.0


class Alone:
    """A performer for a peer that is alone in the world: no fence, no other peers."""

    def __init__(self, owner: Owner) -> None:
        self._owner = owner
        self.performed: list[Effect] = []

    def perform(self, effect: Effect) -> None:
        self.performed.append(effect)
        if isinstance(effect, ReadFence):
            core = self._owner.allocator
            self._owner.post(lambda now: core.fence_read(effect.victim, 0, None, now))


class SlowBackend(MemoryBackend):
    """A memory whose writes take until they are let go, and can be counted and failed."""

    def __init__(self) -> None:
        super().__init__()
        self.gate = asyncio.Event()
        self.gate.set()

    async def write(self, batch: Any) -> None:
        await self.gate.wait()
        await super().write(batch)


class Bench:
    """An owner with its allocator, alone and ready to allocate."""

    def __init__(self, backend: SlowBackend, store: Store, performer: type[Alone] = Alone) -> None:
        self.backend = backend
        # Added to the wall clock.
        self.later_s = 0.0
        options = Options(
            name=ME,
            families=(FamilyOptions(RANGE, RANGE),),
            init=Seeded(Genesis((ME,))),
        )
        state = state_of(backend.entries, "memory")
        core = Allocator(options, state, random.Random(1), time.time())
        self.owner = Owner(core, store, lambda: time.time() + self.later_s)
        self.performer = performer(self.owner)
        self.task = asyncio.create_task(self.owner.run(self.performer))

    async def ready(self) -> None:
        core = self.owner.allocator
        self.owner.post(lambda now: core.peers_changed([PeerInfo(ME)], now))
        for topic in (TOPIC_RING, TOPIC_PAXOS):
            self.owner.post(functools.partial(core.documents_synced, topic))
        self.owner.post(lambda now: core.adopt([], now))
        await self.owner.call(core.prime, timeout_s=TIMEOUT_S)

    async def allocate(self, name: str, *, timeout_s: float = TIMEOUT_S) -> Allocated:
        core, key = self.owner.allocator, pod_key(name)
        allocated, _ = await self.owner.allocate(
            lambda id_, now: core.allocate(id_, key, Workload(), (), (), now),
            key,
            timeout_s=timeout_s,
        )
        return allocated

    async def release(self, name: str) -> Result:
        core, key = self.owner.allocator, pod_key(name)
        return await self.owner.call(
            lambda id_, now: core.release(id_, key, 0, now), timeout_s=TIMEOUT_S
        )

    async def held(self) -> set[str]:
        allocations = await self.owner.read(self.owner.allocator.allocations)
        return {allocation.key.container_id for allocation in allocations}

    def stored(self) -> set[str]:
        return {key.split("/")[2] for key in self.backend.entries if key.startswith("allocation/")}


@pytest.fixture
async def bench() -> AsyncIterator[Bench]:
    backend = SlowBackend()
    store = await Store.open(backend, STATE_FORMAT)
    made = Bench(backend, store)
    await made.ready()
    yield made
    backend.gate.set()
    backend.failure = None
    made.task.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await made.task
    await store.close()


async def steps(count: int) -> None:
    for _ in range(count):
        await asyncio.sleep(0)


async def test_an_answer_comes_after_its_record_is_durable(bench: Bench) -> None:
    bench.backend.gate.clear()
    call = asyncio.create_task(bench.allocate("a"))
    await steps(50)
    assert not call.done()
    assert bench.stored() == set()

    bench.backend.gate.set()

    await call
    assert bench.stored() == {"a"}


async def test_a_publication_comes_after_its_record_is_durable(bench: Bench) -> None:
    """The ring document that `ready` made was written first: both happened, in that order."""
    published = [e for e in bench.performer.performed if isinstance(e, Publish)]

    assert any(effect.topic == TOPIC_RING for effect in published)
    assert "ring/4" in bench.backend.entries


async def test_callers_at_the_same_time_share_commits(bench: Bench) -> None:
    before = bench.backend.writes
    outcomes = await asyncio.gather(*(bench.allocate(f"pod-{n}") for n in range(64)))

    assert len({outcome.addresses for outcome in outcomes}) == 64
    assert bench.backend.writes - before <= 3


async def test_a_read_shows_nothing_that_is_not_durable(bench: Bench) -> None:
    bench.backend.gate.clear()
    call = asyncio.create_task(bench.allocate("a"))
    await steps(50)
    read = asyncio.create_task(bench.held())
    await steps(50)
    assert not read.done()

    bench.backend.gate.set()

    assert await read == {"a"}
    await call


async def finished_before(bench: Bench, name: str, count: int) -> bool:
    """Cancels an allocation after `count` steps of the loop; says whether it was too late."""
    call = asyncio.create_task(bench.allocate(name))
    await steps(count)
    call.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await call
        return True
    return False


async def test_a_call_cancelled_at_any_point_leaves_nothing(bench: Bench) -> None:
    for count in range(200):
        if await finished_before(bench, "a", count):
            assert await bench.held() == {"a"}
            assert count > 3
            return
        # What is undone is undone by the turn after next.
        await bench.held()
        assert await bench.held() == set()
        assert bench.stored() == set()
    raise AssertionError("no call ever finished")


async def test_a_cancelled_call_leaves_what_was_held_before(bench: Bench) -> None:
    await bench.allocate("a")

    for count in range(30):
        await finished_before(bench, "a", count)
        await bench.held()

    assert await bench.held() == {"a"}


async def test_a_cancelled_call_leaves_what_another_caller_was_told(bench: Bench) -> None:
    bench.backend.gate.clear()
    lost, told = (asyncio.create_task(bench.allocate("a")) for _ in range(2))
    await steps(50)
    lost.cancel()
    bench.backend.gate.set()

    await told
    await bench.held()
    assert await bench.held() == {"a"}


async def test_a_caller_whose_time_is_over_leaves_nothing(bench: Bench) -> None:
    bench.backend.gate.clear()
    with pytest.raises(StillWaiting):
        await bench.allocate("a", timeout_s=0.1)
    bench.backend.gate.set()

    await bench.held()
    assert await bench.held() == set()


async def test_a_store_that_fails_is_told_at_once_and_nothing_is_lost(bench: Bench) -> None:
    await bench.allocate("before")
    bench.backend.failure = OSError("disk full")

    with pytest.raises(NotReady, match="disk full"):
        await bench.allocate("a")
    with pytest.raises(NotReady, match="disk full"):
        await bench.release("before")
    with pytest.raises(NotReady, match="disk full"):
        await bench.held()
    assert "disk full" in bench.owner.store_failure

    bench.backend.failure = None
    async with asyncio.timeout(TIMEOUT_S):
        while bench.owner.store_failure:  # noqa: ASYNC110 - its retry has a clock of its own
            await asyncio.sleep(0.01)
    await bench.held()
    assert await bench.held() == {"before"}
    await bench.allocate("b")
    assert bench.stored() == {"before", "b"}


async def test_what_is_stored_is_what_a_new_owner_knows(bench: Bench) -> None:
    await bench.allocate("a")
    await bench.allocate("b")
    assert isinstance(await bench.release("b"), Released)

    state: State = state_of(bench.backend.entries, "memory")

    assert [a.key for a in state.allocations.values()] == [pod_key("a")]
    assert len(state.quarantine) == 1
    assert state.documents[Family.IPV4].universe == RANGE


async def test_a_refusal_reaches_its_caller(bench: Bench) -> None:
    core = bench.owner.allocator
    outside = (Prefix.parse("192.168.0.0/24"),)

    with pytest.raises(Invalid, match=r"192\.168\.0\.0/24"):
        await bench.owner.call(
            lambda id_, now: core.allocate(id_, pod_key("a"), Workload(), outside, (), now),
            timeout_s=TIMEOUT_S,
        )


async def test_inputs_that_replace_each_other_are_done_once(bench: Bench) -> None:
    done: list[int] = []

    def note(number: int) -> Callable[[float], None]:
        return lambda _: done.append(number)

    for number in range(5):
        bench.owner.post(note(number), "same")
        bench.owner.post(note(10 + number))
    await bench.held()

    assert done == [4, 10, 11, 12, 13, 14]


async def test_an_entry_of_the_shell_is_written_by_itself(bench: Bench) -> None:
    bench.owner.remember("seen/4/x", b"payload")
    await bench.held()

    assert bench.backend.entries["seen/4/x"] == b"payload"


async def test_churn_returns_to_the_start_and_lets_every_address_rest(bench: Bench) -> None:
    await bench.allocate("stays")
    rested: dict[Prefix, float] = {}
    for number in range(10_000):
        # 0.5 s for each: within a quarantine 120 of 254 addresses come and go.
        bench.later_s += 0.5
        allocated = await bench.allocate(f"pod-{number}")
        address = allocated.addresses[0].address
        assert bench.later_s - rested.get(address, -1e9) >= DEFAULT_QUARANTINE_S
        await bench.release(f"pod-{number}")
        rested[address] = bench.later_s

    assert await bench.held() == {"stays"}
    assert bench.stored() == {"stays"}
    assert len(rested) == RANGE.size - 3
    resting = [key for key in bench.backend.entries if key.startswith("quarantine/")]
    assert len(resting) <= DEFAULT_QUARANTINE_S / 0.5 + 1
