"""One contract for every back-end of Coordination."""

from __future__ import annotations

import asyncio
import contextlib
import subprocess
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from services.gossip.tests.kubernetes.fake_api import FakeApiServer
from weave_gossip.coordination.backend import MAX_KEY_BYTES, MAX_VALUE_BYTES, Coordination, Entry
from weave_gossip.coordination.file import FileCoordination
from weave_gossip.coordination.redis import RedisCoordination
from weave_gossip.errors import CoordinationAwayError, RevisionConflictError
from weave_gossip.kubernetes.configmap import ConfigMapCoordination
from weave_model.errors import Invalid
from weave_runtime.watch import Synced, Upsert

# Longer than the retries of any back-end on a busy machine.
PATIENCE_S = 30

# How two peers open the same store.
OpenShared = Callable[[], Coordination]


class RedisServer:
    """A real Redis on a unix socket, which keeps what it has answered when it is restarted."""

    def __init__(self, folder: Path, *options: str) -> None:
        self.path = folder / "redis.sock"
        self._command = ["redis-server", "--port", "0", "--unixsocket", str(self.path)]
        self._command += ["--dir", str(folder), "--save", "", *options]
        self._process: subprocess.Popen[str] | None = None

    def start(self) -> None:
        self._process = subprocess.Popen(self._command, stdout=subprocess.PIPE, text=True)
        assert self._process.stdout is not None
        started = any("ready to accept connections" in line for line in self._process.stdout)
        assert started, "redis-server did not start"

    def stop(self) -> None:
        assert self._process is not None
        self._process.kill()
        self._process.communicate()


@contextlib.contextmanager
def running_redis(*options: str) -> Iterator[RedisServer]:
    with tempfile.TemporaryDirectory(prefix="weave-") as folder:
        server = RedisServer(Path(folder), *options)
        server.start()
        try:
            yield server
        finally:
            server.stop()


@pytest.fixture(scope="module")
def redis_server() -> Iterator[RedisServer]:
    """One for this module; who stops it starts it again."""
    with running_redis("--appendonly", "yes", "--appendfsync", "always") as server:
        yield server


@pytest.fixture
async def api_server(tmp_path: Path) -> AsyncIterator[FakeApiServer]:
    async with FakeApiServer(tmp_path).running() as running:
        yield running


@pytest.fixture(params=["file", "redis", "configmap"])
async def open_shared(
    request: pytest.FixtureRequest, tmp_path: Path, api_server: FakeApiServer
) -> AsyncIterator[Callable[[], Awaitable[Coordination]]]:
    opened: list[Coordination] = []
    followers: list[asyncio.Task[None]] = []

    def make() -> Coordination:
        if request.param == "file":
            return FileCoordination(tmp_path / "coordination.json", poll_s=0.01)
        if request.param == "configmap":
            return ConfigMapCoordination(api_server.client(), "kube-system", "weave-net")
        server = request.getfixturevalue("redis_server")
        return RedisCoordination(f"unix://{server.path}", cluster_id=request.node.name)

    async def open_one() -> Coordination:
        coordination = make()
        opened.append(coordination)
        followers.append(asyncio.ensure_future(coordination.follow()))
        return coordination

    yield open_one
    for follower in followers:
        follower.cancel()
    await asyncio.wait(followers)
    for coordination in opened:
        await coordination.close()


@pytest.fixture
def outage(
    request: pytest.FixtureRequest, tmp_path: Path, api_server: FakeApiServer
) -> Callable[[], contextlib.AbstractContextManager[None]]:
    """`with outage():` the store of `open_shared` is away."""
    kind = request.node.callspec.params["open_shared"]

    @contextlib.contextmanager
    def file_is_away() -> Iterator[None]:
        path, aside = tmp_path / "coordination.json", tmp_path / "aside"
        path.rename(aside)
        # A file system that is mounted late shows the folder below.
        path.mkdir()
        yield
        path.rmdir()
        aside.rename(path)

    @contextlib.contextmanager
    def redis_is_away() -> Iterator[None]:
        server: RedisServer = request.getfixturevalue("redis_server")
        server.stop()
        yield
        server.start()

    @contextlib.contextmanager
    def api_server_is_away() -> Iterator[None]:
        api_server.is_away = True
        api_server.cut()
        yield
        api_server.is_away = False

    return {"file": file_is_away, "redis": redis_is_away, "configmap": api_server_is_away}[kind]


async def seen(coordination: Coordination, count: int) -> list[tuple[str, Entry]]:
    """The first `count` entries that a watcher is told of."""
    entries: list[tuple[str, Entry]] = []
    async with asyncio.timeout(PATIENCE_S):
        async with contextlib.aclosing(coordination.entries.subscribe()) as events:
            async for event in events:
                if isinstance(event, Upsert):
                    entries.append((event.key, event.item))
                if len(entries) == count and isinstance(event, Synced):
                    return entries
    raise AssertionError("the stream ended")


async def test_absent_is_a_value(open_shared: Any) -> None:
    coordination = await open_shared()

    assert await coordination.get("ring/4") is None


async def test_the_first_writer_wins(open_shared: Any) -> None:
    one, other = await open_shared(), await open_shared()

    revision = await one.compare_and_swap("ring/4", 0, b"mine")

    with pytest.raises(RevisionConflictError, match="'ring/4' is at revision 1, not 0"):
        await other.compare_and_swap("ring/4", 0, b"theirs")
    assert revision == 1
    assert await other.get("ring/4") == Entry(1, b"mine")


async def test_each_write_raises_the_revision(open_shared: Any) -> None:
    one, other = await open_shared(), await open_shared()

    revisions = [
        await one.compare_and_swap("fence", 0, b"a"),
        await other.compare_and_swap("fence", 1, b"b"),
        await one.compare_and_swap("fence", 2, b"c"),
    ]

    assert revisions == [1, 2, 3]
    assert await other.get("fence") == Entry(3, b"c")


async def test_of_many_that_swap_at_once_one_succeeds(open_shared: Any) -> None:
    peers = [await open_shared() for _ in range(4)]

    outcomes = await asyncio.gather(
        *(peer.compare_and_swap("ring", 0, bytes([n])) for n, peer in enumerate(peers)),
        return_exceptions=True,
    )

    assert sorted(map(str, outcomes)) == ["'ring' is at revision 1, not 0"] * 3 + ["1"]


async def test_values_are_bytes_of_any_kind(open_shared: Any) -> None:
    coordination = await open_shared()
    value = bytes(range(256)) + b":1:\r\n"

    await coordination.compare_and_swap("key with: odd/characters\n", 0, value)

    assert await coordination.get("key with: odd/characters\n") == Entry(1, value)


async def test_watchers_see_what_others_write(open_shared: Any) -> None:
    one, other = await open_shared(), await open_shared()
    await one.compare_and_swap("a", 0, b"1")
    watching = asyncio.ensure_future(seen(other, 2))

    await one.compare_and_swap("b", 0, b"2")

    assert sorted(await watching) == [("a", Entry(1, b"1")), ("b", Entry(1, b"2"))]


async def test_writers_see_their_own_write_at_once(open_shared: Any) -> None:
    coordination = await open_shared()

    await coordination.compare_and_swap("a", 0, b"1")

    assert coordination.entries.items["a"] == Entry(1, b"1")


async def test_a_watch_goes_on_after_the_store_was_away(open_shared: Any, outage: Any) -> None:
    """What watchers hold stays while nobody answers; what is written afterwards reaches them."""
    one, other = await open_shared(), await open_shared()
    await one.compare_and_swap("a", 0, b"1")
    await seen(other, 1)
    watching = asyncio.ensure_future(seen(other, 3))

    with outage():
        with pytest.raises(CoordinationAwayError):
            await one.compare_and_swap("a", 1, b"lost")
        assert other.entries.items["a"] == Entry(1, b"1")
    # An answered write is there again, one that was refused is not.
    assert await one.get("a") == Entry(1, b"1")
    await one.compare_and_swap("a", 1, b"2")
    await one.compare_and_swap("b", 0, b"3")

    entries = await watching
    assert entries[0] == ("a", Entry(1, b"1"))
    assert dict(entries) == {"a": Entry(2, b"2"), "b": Entry(1, b"3")}


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("", b"", "may not be empty"),
        ("k" * (MAX_KEY_BYTES + 1), b"", "over the limit of 256 bytes"),
        ("k", bytes(MAX_VALUE_BYTES + 1), "65537 bytes, over the limit of 65536"),
    ],
    ids=["no key", "long key", "large value"],
)
async def test_what_is_too_large_is_refused(
    open_shared: Any, key: str, value: bytes, message: str
) -> None:
    coordination = await open_shared()

    with pytest.raises(Invalid, match=message):
        await coordination.compare_and_swap(key, 0, value)


async def test_entries_outlive_the_process_that_wrote_them(open_shared: Any) -> None:
    one = await open_shared()
    await one.compare_and_swap("ring", 0, b"x")
    await one.close()

    later = await open_shared()

    assert await later.get("ring") == Entry(1, b"x")


@pytest.mark.parametrize(
    "content",
    [b"no json", b"[]", b'{"oldest_reader":1}', b'{"schema":9,"oldest_reader":9,"entries":{}}'],
)
async def test_a_file_that_is_not_ours_is_named_and_left_alone(
    tmp_path: Path, content: bytes
) -> None:
    path = tmp_path / "coordination.json"
    path.write_bytes(content)
    coordination = FileCoordination(path)

    with pytest.raises(CoordinationAwayError, match=str(path)):
        await coordination.get("a")
    with pytest.raises(CoordinationAwayError, match=str(path)):
        await coordination.compare_and_swap("a", 0, b"")

    assert path.read_bytes() == content


async def test_a_missing_folder_is_named(tmp_path: Path) -> None:
    coordination = FileCoordination(tmp_path / "missing" / "coordination.json")

    with pytest.raises(CoordinationAwayError, match="missing"):
        await coordination.compare_and_swap("a", 0, b"")


async def test_a_redis_that_is_away_is_named_without_its_password(tmp_path: Path) -> None:
    coordination = RedisCoordination(f"unix://u:s3cret@{tmp_path}/none.sock", "")

    with pytest.raises(CoordinationAwayError, match=r"none\.sock") as caught:
        await coordination.get("a")
    await coordination.close()

    assert "s3cret" not in str(caught.value)


async def test_a_redis_that_may_lose_values_is_named(caplog: pytest.LogCaptureFixture) -> None:
    with running_redis("--appendonly", "no") as server:
        coordination = RedisCoordination(f"unix://{server.path}", "durability")
        follower = asyncio.ensure_future(coordination.follow())

        await seen(coordination, 0)
        follower.cancel()
        await asyncio.wait({follower})
        await coordination.close()

    assert "may lose agreed values: set appendonly yes, appendfsync always" in caplog.text


async def test_a_redis_that_refuses_connections_is_named_in_words() -> None:
    coordination = RedisCoordination("redis://:s3cret@127.0.0.1:1/0", "")

    with pytest.raises(CoordinationAwayError) as caught:
        await coordination.get("a")
    await coordination.close()

    assert str(caught.value) == "redis at 127.0.0.1:1: connection refused"
