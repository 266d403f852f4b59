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

# How two peers open the same store.
OpenShared = Callable[[], Coordination]


@pytest.fixture(scope="module")
def redis_socket() -> Iterator[Path]:
    """A real Redis of this module's own, on a unix socket."""
    with tempfile.TemporaryDirectory(prefix="weave-") as folder:
        path = Path(folder) / "redis.sock"
        command = ["redis-server", "--port", "0", "--unixsocket", str(path), "--dir", folder]
        command += ["--save", "", "--appendonly", "no"]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as server:
            assert server.stdout is not None
            started = any("ready to accept connections" in line for line in server.stdout)
            assert started, "redis-server did not start"
            yield path
            server.terminate()


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
        path = request.getfixturevalue("redis_socket")
        return RedisCoordination(f"unix://{path}", cluster_id=request.node.name)

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


async def seen(coordination: Coordination, count: int) -> list[tuple[str, Entry]]:
    """The first `count` entries that a watcher is told of."""
    entries: list[tuple[str, Entry]] = []
    async with asyncio.timeout(5):
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


async def test_a_redis_that_may_lose_values_is_named(
    redis_socket: Path, caplog: pytest.LogCaptureFixture
) -> None:
    # Spelled unlike elsewhere: the same line about the same place is said once a minute only.
    place = f"unix://{redis_socket.parent}/./{redis_socket.name}"
    coordination = RedisCoordination(place, "durability")
    follower = asyncio.ensure_future(coordination.follow())

    await seen(coordination, 0)
    follower.cancel()
    await asyncio.wait({follower})
    await coordination.close()

    assert "may lose agreed values: set appendonly yes, appendfsync always" in caplog.text
