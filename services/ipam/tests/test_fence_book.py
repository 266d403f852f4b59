"""Fences share a bounded number of keys: none is lost to another's, the oldest give way."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import replace
from typing import Any, cast

import pytest

from weave_ipam import fence_book
from weave_ipam.core.effects import WriteFence
from weave_ipam.core.fences import Fence
from weave_ipam.errands import Errands
from weave_ipam.gossip_client import GossipClient
from weave_ipam.loop import Owner
from weave_ipam.testing.mesh import Coordinated
from weave_model.errors import Aborted
from weave_model.peer import PeerName
from weave_model.prefix import Family
from weave_model.ring import RingView
from weave_runtime.watch import Table

# The limit of Coordination for one value, and what a ConfigMap holds of base 64 (1 MiB of etcd).
MAX_VALUE_BYTES = 64 << 10
MAX_CONFIG_MAP_BYTES = 1 << 20
HEIR = PeerName(b"\x02\0\0\0\xff\xff")


def victim(number: int) -> PeerName:
    return PeerName(b"\x02\0" + number.to_bytes(4, "big"))


def fence(number: int, incarnation: int = 1 << 40) -> Fence:
    uid = "0d61c6b4-9a4b-4d0a-8f3e-8c0f5b1c2d3e"
    return Fence(victim(number), incarnation, uid, HEIR, heir_revision=number)


def test_a_fence_is_found_with_its_revision_and_replaced_by_a_newer_one() -> None:
    value = fence_book.put(b"", fence(1), 1)
    value = fence_book.put(value, fence(2), 2)
    value = fence_book.put(value, fence(1, incarnation=9), 3)

    assert fence_book.find(value, victim(1)) == (3, fence(1, incarnation=9))
    assert fence_book.find(value, victim(2)) == (2, fence(2))
    assert fence_book.find(value, victim(3)) == (0, None)
    assert fence_book.find(b"", victim(1)) == (0, None)


def test_ten_thousand_removals_fit_and_the_newest_are_known() -> None:
    values: dict[str, bytes] = {}
    for number in range(10_000):
        key = fence_book.key_of(victim(number))
        values[key] = fence_book.put(values.get(key, b""), fence(number), number + 1)

    assert len(values) == fence_book.KEYS
    assert max(map(len, values.values())) < MAX_VALUE_BYTES
    assert sum(map(len, values.values())) * 4 / 3 < MAX_CONFIG_MAP_BYTES
    known = [
        number
        for number in range(10_000)
        if fence_book.find(values[fence_book.key_of(victim(number))], victim(number))[1]
    ]
    assert len(known) == fence_book.KEYS * fence_book.FENCES_PER_KEY
    assert set(range(9_000, 10_000)) < set(known)


def test_bytes_that_are_no_fences_are_told() -> None:
    with pytest.raises(ValueError, match="ReclaimFences"):
        fence_book.find(b"\xff\xff", victim(1))


def in_one_key() -> tuple[int, int]:
    """Two victims whose fences share a key."""
    first, *others = range(200)
    key = fence_book.key_of(victim(first))
    return first, next(n for n in others if fence_book.key_of(victim(n)) == key)


class Raced:
    """A gossip beside which another peer writes the fences given, one before each of our writes of
    a fence, and draws `tokens` before ours; each of ours is seen after it by `watch`."""

    def __init__(
        self, first: list[Fence], tokens: int = 0, watch: Callable[[Coordinated], object] = id
    ) -> None:
        self._shared = Coordinated()
        self._first = first
        self._tokens = tokens
        self._watch = watch

    async def get(self, key: str) -> tuple[int, bytes]:
        return self._shared.get(key)

    async def compare_and_swap(self, key: str, expected: int, value: bytes) -> int | None:
        if key == fence_book.TOKENS:
            return self._draw(expected, value)
        if self._first:
            revision, before = self._shared.get(key)
            other = fence_book.put(before, self._first.pop(0), revision + 1)
            self._shared.compare_and_swap(key, revision, other)
        try:
            return self._shared.compare_and_swap(key, expected, value)
        except Aborted:
            return None

    def _draw(self, expected: int, value: bytes) -> int | None:
        revision = self._shared.compare_and_swap(fence_book.TOKENS, expected, value)
        if self._tokens:
            # It was another who drew this one.
            self._tokens -= 1
            return None
        self._watch(self._shared)
        return revision


class Core:
    """Takes down what it is told."""

    def __init__(self) -> None:
        self.told: list[tuple[str, int]] = []
        self.done = asyncio.Event()

    def fence_read(self, victim: PeerName, revision: int, fence: Fence | None, now: float) -> None:
        self.told.append(("read", revision))

    def fence_written(self, revision: int, fence: Fence, now: float) -> None:
        self.told.append((f"written, token {fence.token}", revision))
        self.done.set()

    def fence_raced(self, victim: PeerName, now: float) -> None:
        self.told.append(("raced", 0))
        self.done.set()

    def fence_failed(self, victim: PeerName, reason: str, now: float) -> None:
        self.told.append((reason, 0))
        self.done.set()


class Posts:
    """An owner that does everything at once."""

    def __init__(self, core: Core) -> None:
        self.allocator = core

    def post(self, work: Any, replaces: object = None) -> None:
        work(0.0)


async def written(
    coordinated: Raced, wanted: Fence, expected: int, floor: int = 0
) -> list[tuple[str, int]]:
    core = Core()
    ring: Table[Family, RingView] = Table()
    errands = Errands(cast("Owner", Posts(core)), cast("GossipClient", coordinated), ring)
    errands.perform(WriteFence(wanted, expected, floor))
    async with asyncio.timeout(10.0):
        await core.done.wait()
    await errands.close()
    return core.told


async def test_a_fence_of_another_victim_that_comes_first_stays() -> None:
    ours, theirs = in_one_key()
    coordinated = Raced([fence(theirs)])

    assert await written(coordinated, fence(ours), 0) == [("read", 0), ("written, token 1", 2)]

    _, value = await coordinated.get(fence_book.key_of(victim(ours)))
    assert fence_book.find(value, victim(ours)) == (2, replace(fence(ours), token=1))
    assert fence_book.find(value, victim(theirs)) == (1, fence(theirs))


async def test_a_fence_of_the_same_victim_that_comes_first_wins() -> None:
    ours, _ = in_one_key()
    first = Fence(victim(ours), 1, "", PeerName(b"\x02\0\0\0\xff\xfe"))

    assert await written(Raced([first]), fence(ours), 0) == [("raced", 0)]


async def test_a_token_is_greater_than_all_that_others_have_drawn() -> None:
    told = await written(Raced([], tokens=3), fence(1), 0)

    assert told == [("read", 0), ("written, token 4", 1)]


async def test_a_token_is_beyond_the_generations_that_its_drawer_sees() -> None:
    told = await written(Raced([]), fence(1), 0, floor=41)

    assert told == [("read", 0), ("written, token 42", 1)]


async def test_whose_tokens_are_always_drawn_by_others_is_told() -> None:
    ((told, _),) = await written(Raced([], tokens=100), fence(1), 0)

    assert "tokens are being drawn all the time" in told


async def test_who_is_removed_before_it_has_its_token_hears_of_that_first() -> None:
    def remove(shared: Coordinated) -> None:
        key = fence_book.key_of(HEIR)
        revision, before = shared.get(key)
        other = Fence(HEIR, 1, "", victim(7))
        shared.compare_and_swap(key, revision, fence_book.put(before, other, revision + 1))

    told = await written(Raced([], watch=remove), fence(1), 0)

    assert told == [("read", 1), ("written, token 1", 1)]


async def test_who_is_always_too_late_says_so() -> None:
    ours, theirs = in_one_key()
    others = [fence(theirs, incarnation=n) for n in range(100)]

    ((told, _),) = await written(Raced(others), fence(ours), 0)

    assert "being written all the time" in told
