"""Channels, deadlines and the consumer's side of watches."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from pathlib import Path
from typing import Any

import grpc
import pytest

from weave.gossip.v1.gossip_pb2 import Peer, WatchPeersResponse, WatchResponse
from weave.types.v1.types_pb2 import SnapshotStart as SnapshotStartMessage
from weave.types.v1.types_pb2 import Synced as SyncedMessage
from weave_runtime.client import State, connect, event_decoder, follow, time_left
from weave_runtime.server import Server
from weave_runtime.watch import Event, Removed, SnapshotStart, Synced, Table, Upsert

START = SnapshotStart()
TOKEN = Synced(b"t")


class Script:
    """A producer that plays one list of events per call, then dies."""

    def __init__(self, *lives: list[Event[str, int]]) -> None:
        self.lives = list(lives)
        self.tokens: list[bytes] = []
        self.sleeps: list[float] = []
        self.cancelled = 0

    def open(self, token: bytes) -> Script:
        self.tokens.append(token)
        return self

    async def __aiter__(self) -> AsyncIterator[Event[str, int]]:
        if not self.lives:
            await asyncio.Event().wait()
        for event in self.lives.pop(0):
            yield event
        raise grpc.aio.AioRpcError(
            grpc.StatusCode.UNAVAILABLE, grpc.aio.Metadata(), grpc.aio.Metadata(), "gone"
        )

    def cancel(self) -> None:
        self.cancelled += 1

    async def sleep(self, seconds: float) -> None:
        self.sleeps.append(seconds)

    def follow(self) -> AsyncGenerator[State[str, int], None]:
        return follow("toys", self.open, lambda event: event, sleep=self.sleep)


async def states_of(script: Script, count: int) -> list[State[str, int]]:
    async with asyncio.timeout(5), contextlib.aclosing(script.follow()) as states:
        return [await anext(states) for _ in range(count)]


def state(
    items: dict[str, int], changed: set[str] | None = None, removed: set[str] | None = None
) -> State[str, int]:
    return State(items, frozenset(changed or ()), frozenset(removed or ()))


async def test_snapshot_is_one_state() -> None:
    script = Script([START, Upsert("a", 1), Upsert("b", 2), TOKEN])

    assert await states_of(script, 1) == [state({"a": 1, "b": 2}, {"a", "b"})]


async def test_empty_snapshot_is_a_state() -> None:
    assert await states_of(Script([START, TOKEN]), 1) == [state({})]


async def test_changes_up_to_synced_are_one_state() -> None:
    changes: list[Event[str, int]] = [
        Upsert("a", 3),
        Removed("b"),
        Removed("unknown"),
        Upsert("c", 4),
        TOKEN,
    ]
    script = Script([START, Upsert("a", 1), Upsert("b", 2), TOKEN, *changes])

    _, second = await states_of(script, 2)

    assert second == state({"a": 3, "c": 4}, {"a", "c"}, {"b"})


async def test_half_a_snapshot_is_not_delivered() -> None:
    script = Script([START, Upsert("a", 1)], [START, Upsert("b", 2), TOKEN])

    assert await states_of(script, 1) == [state({"b": 2}, {"b"})]


async def test_half_a_change_is_forgotten_with_its_stream() -> None:
    script = Script([START, Upsert("a", 1), TOKEN, Upsert("x", 9)], [Upsert("b", 2), TOKEN])

    _, second = await states_of(script, 2)

    assert second == state({"a": 1, "b": 2}, {"b"})


async def test_resume_token_of_the_last_whole_state_is_handed_back() -> None:
    script = Script([START, Synced(b"1"), Upsert("a", 1), Synced(b"2"), Upsert("b", 1)], [], [])

    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(0.05):
            await states_of(script, 3)

    assert script.tokens == [b"", b"2", b"2", b"2"]


async def test_snapshot_of_a_new_producer_shows_the_difference_only() -> None:
    script = Script(
        [START, Upsert("a", 1), Upsert("b", 2), TOKEN],
        [START, Upsert("b", 2), Upsert("c", 3), TOKEN],
    )

    _, second = await states_of(script, 2)

    assert second == state({"b": 2, "c": 3}, {"c"}, {"a"})


async def test_unchanged_state_after_an_outage_is_not_delivered_again() -> None:
    same: list[Event[str, int]] = [START, Upsert("a", 1), TOKEN]
    script = Script(same, same, [START, Upsert("a", 2), TOKEN])

    assert await states_of(script, 2) == [state({"a": 1}, {"a"}), state({"a": 2}, {"a"})]


async def test_delivered_state_does_not_change_later() -> None:
    script = Script([START, Upsert("a", 1), TOKEN, Upsert("a", 2), TOKEN])

    first, _ = await states_of(script, 2)

    assert first.items == {"a": 1}


async def test_waits_grow_to_a_second_and_start_anew_after_a_success() -> None:
    script = Script(*[[]] * 7, [START, TOKEN], [], [START, Upsert("a", 1), TOKEN])

    await states_of(script, 2)

    assert script.sleeps == [0.05, 0.1, 0.2, 0.4, 0.8, 1.0, 1.0, 0.05, 0.1]


async def test_outage_is_told_once_and_its_end_too(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    script = Script([START, TOKEN], [], [], [START, Upsert("a", 1), TOKEN])

    await states_of(script, 2)

    assert [record.message for record in caplog.records] == ["watch lost", "watch resumed"]
    assert vars(caplog.records[0])["reason"] == "gone"


async def test_event_of_a_newer_producer_is_passed_over() -> None:
    script = Script([START, None, TOKEN])  # type: ignore[list-item]

    assert await states_of(script, 1) == [state({})]


async def test_error_of_the_decoder_is_the_consumers() -> None:
    script = Script([START, TOKEN])

    def decode(event: Event[str, int]) -> Event[str, int]:
        raise ValueError("bad item")

    with pytest.raises(ValueError, match="bad item"):
        await anext(follow("toys", script.open, decode))
    assert script.cancelled == 1


async def test_closing_ends_the_call() -> None:
    script = Script([START, TOKEN])

    await states_of(script, 1)

    assert script.cancelled == 1


def test_messages_are_decoded_by_their_common_parts() -> None:
    decode: Callable[[Any], Event[str, int] | None] = event_decoder(
        lambda peer: (peer.name, peer.incarnation), lambda removed: str(removed.name)
    )

    decoded = [
        decode(WatchPeersResponse(snapshot_start=SnapshotStartMessage())),
        decode(WatchPeersResponse(peer=Peer(name="a", incarnation=7))),
        decode(WatchPeersResponse(removed=WatchPeersResponse.Removed(name="b"))),
        decode(WatchPeersResponse(synced=SyncedMessage(resume_token=b"t"))),
        decode(WatchPeersResponse()),
    ]

    assert decoded == [START, Upsert("a", 7), Removed("b"), TOKEN, None]


def test_watch_without_removals_is_decoded_too() -> None:
    decode: Callable[[Any], Event[str, bytes] | None] = event_decoder(
        lambda entry: (entry.key, entry.value)
    )

    decoded = decode(WatchResponse(entry=WatchResponse.Entry(key="k", value=b"v")))

    assert decoded == Upsert("k", b"v")


def encode(event: Event[str, int]) -> bytes:
    return repr(event).encode()


def decode_toy(message: bytes) -> Event[str, int]:
    names = {"SnapshotStart": SnapshotStart, "Upsert": Upsert, "Removed": Removed, "Synced": Synced}
    event: Event[str, int] = eval(message, names)
    return event


async def test_state_survives_a_restart_of_the_producer(toy: Any, socket_path: Path) -> None:
    """Table, server, channel and follower together, over a real socket."""

    def life(items: dict[str, int]) -> Server:
        table: Table[str, int] = Table()
        table.replace(items)
        table.complete()

        async def stream(request: bytes, context: Any) -> AsyncIterator[bytes]:
            async for event in table.subscribe(request):
                yield encode(event)

        toy.stream = stream
        server = Server(socket_path, ready=str, grace_s=0)
        server.add(toy.register, toy)
        return server

    async with asyncio.timeout(20), connect(socket_path) as channel:
        states = follow("toys", lambda token: toy.watch(channel, token, timeout=None), decode_toy)
        first = asyncio.ensure_future(anext(states))
        await asyncio.sleep(0)
        async with life({"a": 1}):
            assert (await first).items == {"a": 1}
        async with life({"a": 1, "b": 2}):
            assert await anext(states) == state({"a": 1, "b": 2}, {"b"})
        await states.aclose()


async def test_channel_finds_a_service_that_starts_later(toy: Any, socket_path: Path) -> None:
    async with connect(socket_path) as channel:
        call = toy.call(channel, b"hello", timeout=20, wait_for_ready=True)
        server = Server(socket_path, ready=str)
        server.add(toy.register, toy)
        async with server:
            assert await call == b"hello"


class Context:
    def __init__(self, left: float | None) -> None:
        self._left = left

    def time_remaining(self) -> float | None:
        return self._left


@pytest.mark.parametrize(
    ("left", "limit", "margin", "expected"),
    [(None, 5, 1, 5), (3, 5, 0, 3), (3, 5, 1, 2), (9, 5, 1, 5), (0.5, 5, 1, 0)],
)
def test_call_on_behalf_of_another_has_its_time_left(
    left: float | None, limit: float, margin: float, expected: float
) -> None:
    context: Any = Context(left)

    assert time_left(context, limit, margin_s=margin) == expected


def test_call_on_nobodys_behalf_has_the_limit() -> None:
    assert time_left(None, 5) == 5


async def test_channel_waits_for_a_service_that_is_slow_to_answer(
    toy: Any, socket_path: Path
) -> None:
    """As every service is on a starved machine: one that exists is not reported as away."""
    slow_path = socket_path.with_name("slow.sock")
    tasks: list[asyncio.Task[None]] = []

    async def copy(source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
        # Whoever closes first may reset the other side.
        with contextlib.suppress(ConnectionError):
            while data := await source.read(1 << 16):
                sink.write(data)
        sink.close()

    async def relay(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await asyncio.sleep(0.3)
        far_reader, far_writer = await asyncio.open_unix_connection(socket_path)
        tasks.append(asyncio.create_task(copy(reader, far_writer)))
        tasks.append(asyncio.create_task(copy(far_reader, writer)))

    server = Server(socket_path, ready=str)
    server.add(toy.register, toy)
    async with server, await asyncio.start_unix_server(relay, slow_path):
        async with connect(slow_path) as channel:
            assert await toy.call(channel, b"patience") == b"patience"
        async with asyncio.timeout(5):
            await asyncio.gather(*tasks)
