"""Accepting: at a bounded pace, so many handshakes at once, clear words when the port is taken."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest

from weave_gossip.errors import StartError
from weave_gossip.link.framing import PlainStream
from weave_gossip.link.listener import Listener, TokenBucket, bind


def test_a_full_bucket_lets_a_burst_through_then_one_per_refill() -> None:
    bucket = TokenBucket(size=3, refill_s=0.05, now=100.0)

    waits = [bucket.take(100.0) for _ in range(5)]

    assert waits == pytest.approx([0, 0, 0, 0.05, 0.1])


def test_a_bucket_fills_up_again_but_not_beyond_its_size() -> None:
    bucket = TokenBucket(size=2, refill_s=1.0, now=0.0)
    for _ in range(4):
        bucket.take(0.0)

    waits = [bucket.take(1000.0) for _ in range(3)]

    assert waits == pytest.approx([0, 0, 1])


def test_a_port_in_use_is_named() -> None:
    with contextlib.closing(bind("127.0.0.1", 0)[0]) as taken:
        port = taken.getsockname()[1]

        with pytest.raises(StartError, match=rf"127\.0\.0\.1:{port} is in use by another process"):
            bind("127.0.0.1", port)


def test_an_address_that_is_not_ours_is_named() -> None:
    with pytest.raises(StartError, match=r"cannot listen on 192\.0\.2\.1:6783"):
        bind("192.0.2.1", 6783)


def test_without_a_host_both_families_listen_on_one_port() -> None:
    sockets = bind("", 0)

    families = {each.family for each in sockets}
    ports = {each.getsockname()[1] for each in sockets}
    for each in sockets:
        each.close()

    assert socket.AF_INET in families
    assert len(ports) == 1


class Guests:
    """Serves connections by waiting, and counts them."""

    def __init__(self) -> None:
        self.came = 0
        self.leave = asyncio.Event()

    async def serve(self, plain: PlainStream, address: str) -> None:
        self.came += 1
        try:
            await self.leave.wait()
        finally:
            plain.abort()


@contextlib.asynccontextmanager
async def listening(listener: Listener) -> AsyncIterator[Callable[..., Any]]:
    sockets = bind("127.0.0.1", 0)
    accepting = asyncio.ensure_future(listener.run(sockets[0]))
    writers: list[asyncio.StreamWriter] = []

    async def connect(count: int, source: str = "127.0.0.1") -> None:
        for _ in range(count):
            _, writer = await asyncio.open_connection(
                *sockets[0].getsockname(), local_addr=(source, 0)
            )
            writers.append(writer)

    yield connect
    await listener.stop()
    assert accepting.cancelled()
    for writer in writers:
        writer.transport.abort()
    await asyncio.sleep(0.01)


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(5):
        while not condition():  # noqa: ASYNC110 - nothing signals an accept
            await asyncio.sleep(0.001)


async def test_a_burst_beyond_the_bucket_waits(clock: Any) -> None:
    guests = Guests()
    bucket = TokenBucket(size=3, refill_s=60, now=asyncio.get_running_loop().time())

    async with listening(Listener(guests.serve, bucket=bucket)) as connect:
        await connect(6)
        await until(lambda: guests.came == 4)
        await clock.advance(59)
        assert guests.came == 4
        await clock.advance(2)
        await until(lambda: guests.came == 5)


async def test_only_so_many_handshakes_run_at_once() -> None:
    guests = Guests()
    bucket = TokenBucket(size=100, refill_s=0.001, now=asyncio.get_running_loop().time())

    async with listening(Listener(guests.serve, bucket=bucket, max_handshakes=2)) as connect:
        await connect(5)
        await until(lambda: guests.came == 2)
        await asyncio.sleep(0.02)
        assert guests.came == 2
        guests.leave.set()
        await until(lambda: guests.came == 5)


async def test_one_address_does_not_take_all_the_room(caplog: pytest.LogCaptureFixture) -> None:
    """A stranger who connects and says nothing; the peers come from elsewhere."""
    guests = Guests()
    bucket = TokenBucket(size=100, refill_s=0.001, now=asyncio.get_running_loop().time())
    listener = Listener(guests.serve, bucket=bucket, max_handshakes=4, max_per_host=3)

    async with listening(listener) as connect:
        await connect(9)
        await until(lambda: guests.came == 3 and "too many connections" in caplog.text)
        await connect(1, "127.0.0.2")
        await until(lambda: guests.came == 4)
        guests.leave.set()
        await connect(1)
        await until(lambda: guests.came == 5)


async def test_a_handshake_that_fails_does_not_stop_the_listener(
    caplog: pytest.LogCaptureFixture,
) -> None:
    came = []

    async def serve(plain: PlainStream, address: str) -> None:
        came.append(address)
        plain.abort()
        raise RuntimeError("a bug")

    bucket = TokenBucket(size=9, refill_s=0.001, now=asyncio.get_running_loop().time())

    async with listening(Listener(serve, bucket=bucket)) as connect:
        await connect(2)
        await until(lambda: len(came) == 2)

    assert came[0].startswith("127.0.0.1:")
    assert "an inbound connection failed unexpectedly" in caplog.text
