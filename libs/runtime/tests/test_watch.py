"""The producer's side of watches."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from typing import Any

import pytest

from weave_runtime.watch import Removed, SnapshotStart, Synced, Table, Upsert


@pytest.fixture
def table() -> Table[str, int]:
    table: Table[str, int] = Table(log_limit=4, instance=b"instance")
    table.complete()
    return table


async def until_synced(events: AsyncGenerator[Any, None]) -> list[Any]:
    """Reads one consistent state, without its Synced."""
    seen: list[Any] = []
    async with asyncio.timeout(5):
        async for event in events:
            if isinstance(event, Synced):
                return seen
            seen.append(event)
    raise AssertionError("the subscription ended")


async def has_nothing(events: AsyncGenerator[Any, None]) -> bool:
    """Tells whether the next event is not there yet once everything else has run."""
    task = asyncio.ensure_future(anext(events))
    for _ in range(10):
        await asyncio.sleep(0)
    task.cancel()
    return not task.done()


async def test_subscriber_gets_snapshot_then_changes(table: Table[str, int]) -> None:
    table.update({"a": 1, "b": 2})
    events = table.subscribe()

    assert await until_synced(events) == [SnapshotStart(), Upsert("a", 1), Upsert("b", 2)]

    table.put("a", 3)
    table.remove("b")

    assert await until_synced(events) == [Upsert("a", 3), Removed("b")]


async def test_one_update_is_one_state(table: Table[str, int]) -> None:
    table.put("a", 1)
    events = table.subscribe()
    await until_synced(events)

    table.update({"b": 2, "c": 3}, removed=["a"])

    assert await until_synced(events) == [Upsert("b", 2), Upsert("c", 3), Removed("a")]


async def test_replace_sends_the_difference_only(table: Table[str, int]) -> None:
    table.update({"a": 1, "b": 2})
    events = table.subscribe()
    await until_synced(events)

    table.replace({"b": 2, "c": 3})

    assert await until_synced(events) == [Upsert("c", 3), Removed("a")]
    assert dict(table.items) == {"b": 2, "c": 3}


async def test_nothing_is_sent_before_the_table_is_complete() -> None:
    table: Table[str, int] = Table()
    table.put("a", 1)
    events = table.subscribe()
    waiting = asyncio.ensure_future(until_synced(events))
    await asyncio.sleep(0)

    table.put("b", 2)
    table.complete()

    assert await waiting == [SnapshotStart(), Upsert("a", 1), Upsert("b", 2)]


async def test_empty_complete_table_is_a_state(table: Table[str, int]) -> None:
    assert await until_synced(table.subscribe()) == [SnapshotStart()]


async def test_no_change_sends_nothing(table: Table[str, int]) -> None:
    table.put("a", 1)
    events = table.subscribe()
    await until_synced(events)

    table.put("a", 1)
    table.remove("unknown")
    table.complete()

    assert await has_nothing(events)


async def test_resume_token_gives_what_changed_since(table: Table[str, int]) -> None:
    table.update({"a": 1, "b": 2})
    token = table.token
    table.put("b", 3)
    table.remove("a")

    assert await until_synced(table.subscribe(token)) == [Upsert("b", 3), Removed("a")]


async def test_resume_without_changes_is_synced_at_once(table: Table[str, int]) -> None:
    table.put("a", 1)

    assert await until_synced(table.subscribe(table.token)) == []


@pytest.mark.parametrize(
    "token",
    [
        b"",
        b"x",
        b"otherone" + bytes(8),
        b"instance",
        b"instance" + bytes(7),
        b"instance" + b"\xff" * 8,
    ],
)
async def test_token_not_understood_gives_a_snapshot(table: Table[str, int], token: bytes) -> None:
    table.put("a", 1)

    assert await until_synced(table.subscribe(token)) == [SnapshotStart(), Upsert("a", 1)]


async def test_token_older_than_the_log_gives_a_snapshot(table: Table[str, int]) -> None:
    table.put("a", 1)
    token = table.token
    for n in range(5):
        table.put(str(n), n)

    events = await until_synced(table.subscribe(token))

    assert events[0] == SnapshotStart()
    assert len(events) == 7


async def test_token_as_old_as_the_log_gives_changes(table: Table[str, int]) -> None:
    table.put("a", 1)
    token = table.token
    for n in range(4):
        table.put(str(n), n)

    events = await until_synced(table.subscribe(token))

    assert events == [Upsert(str(n), n) for n in range(4)]


async def test_slow_subscriber_sees_changes_of_a_key_as_one(table: Table[str, int]) -> None:
    events = table.subscribe()
    await until_synced(events)

    for n in range(1000):
        table.put("a", n)

    assert await until_synced(events) == [Upsert("a", 999)]


async def test_subscriber_too_slow_for_the_log_gets_a_new_snapshot(table: Table[str, int]) -> None:
    events = table.subscribe()
    await until_synced(events)

    for n in range(5):
        table.put(str(n), n)

    assert (await until_synced(events))[0] == SnapshotStart()


async def test_change_while_a_state_is_read_belongs_to_the_next(table: Table[str, int]) -> None:
    table.update({"a": 1, "b": 2})
    events = table.subscribe()
    await anext(events)

    table.put("b", 3)

    assert await until_synced(events) == [Upsert("a", 1), Upsert("b", 2)]
    assert await until_synced(events) == [Upsert("b", 3)]


async def test_subscribers_do_not_disturb_each_other(table: Table[str, int]) -> None:
    first, second = table.subscribe(), table.subscribe()
    await until_synced(first)
    await until_synced(second)

    table.put("a", 1)

    assert await until_synced(first) == [Upsert("a", 1)]
    assert await until_synced(second) == [Upsert("a", 1)]


async def test_closed_subscription_is_forgotten(table: Table[str, int]) -> None:
    events = table.subscribe()
    await until_synced(events)

    await events.aclose()

    assert not table._wakers
