"""The contract of every store, against memory, SQLite and a real Redis."""

from __future__ import annotations

import asyncio
import contextlib
import resource
import signal
import sys
from asyncio.subprocess import PIPE
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Protocol

import pytest

from weave_runtime.store import Format, Store, StoreError, open_store
from weave_runtime.store.memory import FakeStore, MemoryBackend

FIRST = Format()
NO_LIMIT = resource.getrlimit(resource.RLIMIT_FSIZE)


class Place(Protocol):
    """Where entries stay while no store is open."""

    async def open(self, own_format: Format = FIRST) -> Store: ...

    def full(self) -> contextlib.AbstractContextManager[None]:
        """There is no room while inside."""
        ...


class MemoryPlace:
    def __init__(self) -> None:
        self.backend = MemoryBackend()

    async def open(self, own_format: Format = FIRST) -> Store:
        return await Store.open(self.backend, own_format)

    @contextlib.contextmanager
    def full(self) -> Iterator[None]:
        self.backend.failure = OSError("no room")
        yield
        self.backend.failure = None


class SqlitePlace:
    def __init__(self, directory: Path) -> None:
        self.directory = directory

    async def open(self, own_format: Format = FIRST) -> Store:
        return await open_store("", self.directory, owner="toy", own_format=own_format)

    @contextlib.contextmanager
    def full(self) -> Iterator[None]:
        largest = max(file.stat().st_size for file in self.directory.iterdir())
        resource.setrlimit(resource.RLIMIT_FSIZE, (largest, NO_LIMIT[1]))
        try:
            yield
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, NO_LIMIT)


class RedisPlace:
    def __init__(self, server: Any, directory: Path) -> None:
        self.server = server
        self.directory = directory

    async def open(self, own_format: Format = FIRST) -> Store:
        return await open_store(self.server.url, self.directory, owner="toy", own_format=own_format)

    @contextlib.contextmanager
    def full(self) -> Iterator[None]:
        self.server.configure("maxmemory", "1")
        try:
            yield
        finally:
            self.server.configure("maxmemory", "0")


@pytest.fixture(params=["memory", "sqlite", "redis"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Place:
    match request.param:
        case "memory":
            return MemoryPlace()
        case "sqlite":
            return SqlitePlace(tmp_path / "state")
        case _:
            return RedisPlace(request.getfixturevalue("redis_server"), tmp_path)


async def committed(place: Place, *batches: dict[str, bytes | None]) -> dict[str, bytes]:
    """Commits one after the other, and gives what another opening finds."""
    async with await place.open() as store:
        for batch in batches:
            await store.commit(batch)
    async with await place.open() as store:
        return await store.load()


def writes_of(store: Store, monkeypatch: pytest.MonkeyPatch) -> tuple[list[Any], asyncio.Event]:
    """Collects what reaches the backend from now on; the event is set by the first."""
    begun = asyncio.Event()
    writes: list[Any] = []
    write = store._backend.write

    async def counted(batch: Any) -> None:
        writes.append(batch)
        begun.set()
        await write(batch)

    monkeypatch.setattr(store._backend, "write", counted)
    return writes, begun


async def test_committed_entries_are_there_after_reopening(place: Place) -> None:
    batch: dict[str, bytes | None] = {"a": b"1", "b": b"\x00\xff", "empty": b""}

    assert await committed(place, batch) == batch


async def test_none_removes_an_entry(place: Place) -> None:
    found = await committed(place, {"a": b"1", "b": b"2"}, {"a": None, "unknown": None, "c": b"3"})

    assert found == {"b": b"2", "c": b"3"}


async def test_later_commit_wins(place: Place) -> None:
    assert await committed(place, {"a": b"1"}, {"a": b"2"}) == {"a": b"2"}


async def test_new_store_is_empty(place: Place) -> None:
    async with await place.open() as store:
        assert await store.load() == {}


async def test_empty_commit_is_no_error(place: Place) -> None:
    assert await committed(place, {}) == {}


async def test_large_value_is_kept(place: Place) -> None:
    value = bytes(range(256)) * 4096

    assert await committed(place, {"a": value}) == {"a": value}


@pytest.mark.parametrize("prefix", ["a/", "a%", "a_", "a*", "a[", "é", "a\x00", "\U0010ffff"])
async def test_prefix_is_taken_literally(place: Place, prefix: str) -> None:
    others = {"a": b"", "ab": b"", "b": b"", "A/": b""}
    mine = {prefix: b"1", prefix + "x": b"2", prefix + "\U0010ffff": b"3"}

    async with await place.open() as store:
        await store.commit(others | mine)

        assert await store.load(prefix) == mine


async def test_concurrent_commits_share_a_write(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with await place.open() as store:
        writes, _ = writes_of(store, monkeypatch)
        async with asyncio.TaskGroup() as group:
            for n in range(100):
                group.create_task(store.commit({str(n): b"x"}))

        assert len(await store.load()) == 100
        assert len(writes) == 1


async def test_commits_made_during_a_write_share_the_next(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with await place.open() as store:
        writes, begun = writes_of(store, monkeypatch)
        first = asyncio.ensure_future(store.commit({"first": b"x"}))
        await begun.wait()
        async with asyncio.TaskGroup() as group:
            for n in range(100):
                group.create_task(store.commit({str(n): b"x"}))
        await first

        assert len(writes) == 2


async def test_order_of_concurrent_commits_is_that_of_the_calls(place: Place) -> None:
    async with await place.open() as store:
        async with asyncio.TaskGroup() as group:
            group.create_task(store.commit({"a": b"1", "b": b"1"}))
            group.create_task(store.commit({"a": None}))
            group.create_task(store.commit({"b": b"3"}))

        assert await store.load() == {"b": b"3"}


async def test_cancelled_commit_does_not_disturb_others(place: Place) -> None:
    async with await place.open() as store:
        cancelled = asyncio.ensure_future(store.commit({"a": b"1"}))
        other = asyncio.ensure_future(store.commit({"b": b"2"}))
        await asyncio.sleep(0)
        cancelled.cancel()
        await other

        assert (await store.load("b")) == {"b": b"2"}
        with pytest.raises(asyncio.CancelledError):
            await cancelled


async def test_lack_of_room_is_told_to_everyone_and_passes(place: Place) -> None:
    async with await place.open() as store:
        await store.commit({"before": b"1"})

        with place.full():
            failures = await asyncio.gather(
                *(store.commit({"before": None, str(n): bytes(100_000)}) for n in range(3)),
                return_exceptions=True,
            )

        assert [type(failure) for failure in failures] == [StoreError] * 3
        assert "cannot be written" in str(failures[0])
        assert await store.load() == {"before": b"1"}
        await store.commit({"after": b"2"})
        assert await store.load() == {"before": b"1", "after": b"2"}
    async with await place.open() as store:
        assert await store.load() == {"before": b"1", "after": b"2"}


async def test_close_waits_for_commits_under_way(place: Place) -> None:
    store = await place.open()
    commit = asyncio.ensure_future(store.commit({"a": b"1"}))
    await asyncio.sleep(0)

    await store.close()

    await commit
    async with await place.open() as store:
        assert await store.load() == {"a": b"1"}


async def test_closed_store_refuses_commits(place: Place) -> None:
    store = await place.open()
    await store.close()
    await store.close()

    with pytest.raises(StoreError, match="is closed"):
        await store.commit({"a": b"1"})


async def test_newer_format_is_refused_and_kept(place: Place) -> None:
    async with await place.open(Format(3, 2)) as store:
        await store.commit({"a": b"1"})

    with pytest.raises(StoreError, match=r"written by a newer version \(format 3, needs 2 to read"):
        await place.open(Format(1, 1))

    async with await place.open(Format(3, 2)) as store:
        assert await store.load() == {"a": b"1"}


async def test_newer_format_that_can_be_read_stays(place: Place) -> None:
    async with await place.open(Format(3, 2)) as store:
        await store.commit({"a": b"1"})

    async with await place.open(Format(2, 1)) as store:
        await store.commit({"b": b"2"})

    async with await place.open(Format(3, 2)) as store:
        assert store.found == Format(3, 2)
        assert await store.load() == {"a": b"1", "b": b"2"}


async def test_older_format_is_found_until_the_first_commit(place: Place) -> None:
    async with await place.open(Format(1, 1)) as store:
        await store.commit({"a": b"1"})

    async with await place.open(Format(2, 2)):
        pass
    async with await place.open(Format(2, 2)) as store:
        before = store.found
        await store.commit({"a": b"2"})
    async with await place.open(Format(2, 2)) as store:
        after = store.found

    assert (before, after) == (Format(1, 1), Format(2, 2))


async def test_unused_store_has_no_format(place: Place) -> None:
    async with await place.open(Format(2, 2)):
        pass

    async with await place.open(Format(1, 1)) as store:
        assert store.found == Format(0, 0)


async def test_unreadable_format_is_an_error(place: Place) -> None:
    async with await place.open() as store:
        await store.commit({"\x01format": b"later"})

    with pytest.raises(StoreError, match="unreadable format"):
        await place.open()


WRITER = """
import asyncio, sys
from pathlib import Path
from weave_runtime.store import open_store

async def main(url, directory):
    store = await open_store(url, Path(directory), owner="toy")
    n = 0
    while True:
        await asyncio.gather(*(store.commit({f"{n + i}": b"x" * 100}) for i in range(3)))
        n += 3
        print(n, flush=True)

asyncio.run(main(*sys.argv[1:]))
"""


async def write_until_killed(url: str, directory: Path) -> int:
    """Runs a writer, kills it while it writes, and gives how many entries it was promised."""
    writer = await asyncio.create_subprocess_exec(
        *(sys.executable, "-c", WRITER, url, str(directory)), stdout=PIPE
    )
    assert writer.stdout
    async with asyncio.timeout(30):
        for _ in range(50):
            await writer.stdout.readline()
        writer.send_signal(signal.SIGKILL)
        rest = await writer.stdout.read()
        await writer.wait()
    return int(rest.split()[-1]) if rest else 150


async def test_sqlite_keeps_what_it_promised_when_killed(tmp_path: Path) -> None:
    promised = await write_until_killed("", tmp_path)

    async with await open_store("", tmp_path, owner="toy") as store:
        assert {str(n) for n in range(promised)} <= (await store.load()).keys()


async def test_redis_keeps_what_it_promised_when_killed(redis_server: Any, tmp_path: Path) -> None:
    """The writer is killed first, then Redis."""
    promised = await write_until_killed(redis_server.url, tmp_path)
    redis_server.kill()
    redis_server.start()

    async with await open_store(redis_server.url, tmp_path, owner="toy") as store:
        assert {str(n) for n in range(promised)} <= (await store.load()).keys()


async def test_fake_store_survives_a_restart_of_its_service() -> None:
    store = FakeStore()
    await store.commit({"a": b"1"})

    assert await FakeStore(store.backend.entries).load() == {"a": b"1"}
