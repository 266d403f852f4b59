"""What several tests of the runtime share: a socket path and a service without meaning."""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import grpc
import pytest

from weave_runtime.testing import RedisServer


class Toy:
    """A service that takes and gives bytes. Tests replace its two methods."""

    NAME = "toy.Toy"

    def __init__(self) -> None:
        self.answer: Callable[[bytes, Any], Awaitable[bytes]] = self._echo
        self.stream: Callable[[bytes, Any], AsyncIterator[bytes]] = self._repeat
        self.was_ended = asyncio.Event()

    def register(self, _servicer: object, server: Any) -> None:
        """Does what generated code does."""
        handlers: dict[str, Any] = {
            "Answer": grpc.unary_unary_rpc_method_handler(self._answer),
            "Stream": grpc.unary_stream_rpc_method_handler(self._stream),
        }
        server.add_generic_rpc_handlers([grpc.method_handlers_generic_handler(self.NAME, handlers)])

    @classmethod
    def call(cls, channel: grpc.aio.Channel, request: bytes = b"", **options: Any) -> Any:
        """Starts Answer."""
        method: Any = channel.unary_unary(f"/{cls.NAME}/Answer")
        return method(request, **{"timeout": 5} | options)

    @classmethod
    def watch(cls, channel: grpc.aio.Channel, request: bytes = b"", **options: Any) -> Any:
        """Starts Stream."""
        method: Any = channel.unary_stream(f"/{cls.NAME}/Stream")
        return method(request, **{"timeout": 5} | options)

    async def _echo(self, request: bytes, _context: Any) -> bytes:
        return request

    async def _repeat(self, request: bytes, _context: Any) -> AsyncIterator[bytes]:
        yield request
        await asyncio.Event().wait()

    async def _answer(self, request: bytes, context: Any) -> bytes:
        return await self.answer(request, context)

    async def _stream(self, request: bytes, context: Any) -> AsyncIterator[bytes]:
        try:
            async for message in self.stream(request, context):
                yield message
        finally:
            self.was_ended.set()


@pytest.fixture
async def toy() -> Toy:
    """A service to serve and to break."""
    return Toy()


@pytest.fixture
def socket_path() -> Iterator[Path]:
    """A path short enough for a socket, in a directory that does not exist yet."""
    with tempfile.TemporaryDirectory(prefix="weave-") as directory:
        yield Path(directory) / "service" / "api.sock"


@pytest.fixture
def redis_server() -> Iterator[RedisServer]:
    """An empty Redis that is durable as we ask it to be."""
    with tempfile.TemporaryDirectory(prefix="weave-") as directory:
        server = RedisServer(Path(directory))
        server.start()
        yield server
        server.kill()
