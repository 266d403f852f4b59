"""Gossip services inside the test's process: real TCP, real gRPC, real state files."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from weave.gossip.v1 import gossip_pb2, gossip_pb2_grpc
from weave_gossip.config import Config
from weave_gossip.node import run
from weave_runtime.client import connect
from weave_runtime.process import Supervisor

# Longer than anything here takes on a busy machine; what is awaited comes as an event.
PATIENCE_S = 20


@dataclass
class Node:
    """One peer: start it, ask it through `gossip` and `coordination`, stop it, start it again."""

    config: Config
    supervisor: Supervisor = field(default_factory=Supervisor)
    task: asyncio.Task[None] | None = None
    channel: Any = None

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.config.port}"

    @property
    def gossip(self) -> Any:
        return gossip_pb2_grpc.GossipStub(self.channel)

    @property
    def coordination(self) -> Any:
        return gossip_pb2_grpc.CoordinationStub(self.channel)

    async def start(self, *peers: str, **changes: Any) -> None:
        """Returns when it answers. Raises what the service raises at its start."""
        self.config = replace(self.config, peers=peers, **changes)
        self.supervisor = Supervisor()
        self.task = asyncio.ensure_future(run(self.config, self.supervisor))
        self.channel = connect(self.config.socket_path)
        answer = asyncio.ensure_future(self._first_answer())
        await asyncio.wait({self.task, answer}, return_when=asyncio.FIRST_COMPLETED)
        if self.task.done():
            answer.cancel()
            await asyncio.wait({answer})
            await self.stop()
        assert not self.supervisor.has_failed

    async def stop(self) -> None:
        """Stops it in order. Raises what the service raised."""
        if self.channel is not None:
            await self.channel.close()
            self.channel = None
        self.supervisor.stop()
        task, self.task = self.task, None
        if task is not None:
            await asyncio.wait({task})
        await self.supervisor.close()
        if task is not None:
            task.result()

    async def status(self) -> gossip_pb2.GetStatusResponse:
        request = gossip_pb2.GetStatusRequest()
        status: gossip_pb2.GetStatusResponse
        status = await self.gossip.GetStatus(request, timeout=PATIENCE_S)
        return status

    async def name(self) -> str:
        return (await self.status()).name

    async def until(
        self, condition: Callable[[gossip_pb2.GetStatusResponse], object]
    ) -> gossip_pb2.GetStatusResponse:
        """Asks until the status is as wanted."""
        status = await self.status()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(PATIENCE_S):
                while not condition(status):
                    await asyncio.sleep(0.02)
                    status = await self.status()
        assert condition(status), status
        return status

    async def until_connected(self, count: int) -> gossip_pb2.GetStatusResponse:
        """Waits until `count` peers, itself included, are known and reachable."""
        return await self.until(lambda status: len(reachable(status)) == count)

    async def publish(self, topic: str, key: str, payload: bytes) -> gossip_pb2.PublishResponse:
        request = gossip_pb2.PublishRequest(topic=topic, key=key, payload=payload)
        response: gossip_pb2.PublishResponse
        response = await self.gossip.Publish(request, timeout=PATIENCE_S)
        return response

    @contextlib.asynccontextmanager
    async def watching(self, topic: str) -> AsyncIterator[Watch]:
        stream = self.gossip.WatchDocuments(gossip_pb2.WatchDocumentsRequest(topic=topic))
        try:
            yield Watch(stream)
        finally:
            stream.cancel()

    async def _first_answer(self) -> None:
        request = gossip_pb2.GetStatusRequest()
        await self.gossip.GetStatus(request, timeout=PATIENCE_S, wait_for_ready=True)


class Watch:
    """Follows a document watch as a consumer would."""

    def __init__(self, stream: Any) -> None:
        self._events = aiter(stream)
        self.documents: dict[tuple[str, str], bytes] = {}
        self.token = b""
        self.snapshots = 0

    async def until(self, condition: Callable[[dict[tuple[str, str], bytes]], object]) -> None:
        """Reads until a synced state is as wanted."""
        async with asyncio.timeout(PATIENCE_S):
            while True:
                event = await anext(self._events)
                match event.WhichOneof("event"):
                    case "snapshot_start":
                        self.documents.clear()
                        self.snapshots += 1
                    case "document":
                        document = event.document
                        self.documents[document.writer, document.key] = document.payload
                    case "removed":
                        del self.documents[event.removed.writer, event.removed.key]
                    case "synced":
                        self.token = event.synced.resume_token
                        if condition(self.documents):
                            return
                    case other:
                        raise AssertionError(other)


class Wire:
    """A TCP relay to a peer that can go silent as an unplugged cable does."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._server: asyncio.Server | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self._writers: list[asyncio.StreamWriter] = []
        self.is_cut = False
        # Set: on connections made meanwhile the dialler hears so many messages and no more, and
        # nobody hears that it hung up.
        self.messages_heard: int | None = None
        self.is_silent = asyncio.Event()
        # What diallers have said, in order.
        self.recorded = bytearray()

    @property
    def address(self) -> str:
        assert self._server is not None
        return f"127.0.0.1:{self._server.sockets[0].getsockname()[1]}"

    async def open(self) -> None:
        self._server = await asyncio.start_server(self._relay, "127.0.0.1", 0)

    async def close(self) -> None:
        assert self._server is not None
        self._server.close()
        for task in self._tasks:
            task.cancel()
        for writer in self._writers:
            writer.transport.abort()
        if self._tasks:
            await asyncio.wait(self._tasks)

    def reset(self) -> None:
        """Breaks all connections, as a router on the way does that lost its state."""
        writers, self._writers = self._writers, []
        for writer in writers:
            writer.transport.abort()
        self._tasks = {task for task in self._tasks if not task.done()}

    async def _relay(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._writers.append(writer)
        if self.is_cut:
            return
        try:
            far_reader, far_writer = await asyncio.open_connection("127.0.0.1", self._port)
        except OSError:
            writer.transport.abort()
            return
        self._writers.append(far_writer)
        heard = self.messages_heard
        copies = [self._copy(reader, far_writer, self.recorded, closes=heard is None)]
        if heard is None:
            copies.append(self._copy(far_reader, writer, bytearray()))
        else:
            copies.append(self._copy_messages(far_reader, writer, heard))
        self._tasks.update(map(asyncio.ensure_future, copies))

    async def _copy(
        self,
        source: asyncio.StreamReader,
        sink: asyncio.StreamWriter,
        record: bytearray,
        *,
        closes: bool = True,
    ) -> None:
        with contextlib.suppress(OSError):
            while data := await source.read(1 << 16):
                record += data
                if not self.is_cut:
                    sink.write(data)
            if closes and not self.is_cut:
                sink.close()

    async def _copy_messages(
        self, source: asyncio.StreamReader, sink: asyncio.StreamWriter, count: int
    ) -> None:
        with contextlib.suppress(OSError, asyncio.IncompleteReadError):
            for _ in range(count):
                length = await source.readexactly(4)
                sink.write(length + await source.readexactly(int.from_bytes(length, "big")))
            self.is_silent.set()
            await source.read()


def reachable(status: gossip_pb2.GetStatusResponse) -> set[str]:
    return {peer.name for peer in status.peers if peer.reachable}


def is_linked(status: gossip_pb2.GetStatusResponse) -> bool:
    return [each.state for each in status.connections] == [gossip_pb2.CONNECTION_STATE_ESTABLISHED]


def errors(status: gossip_pb2.GetStatusResponse) -> list[str]:
    return [each.last_error for each in status.connections if each.last_error]


def make_node(number: int, folder: Path, port: int) -> Node:
    config = Config(
        socket_path=folder / f"{number}.sock",
        state_dir=folder / f"state{number}",
        http_addr="",
        nickname=f"node{number}",
        host="127.0.0.1",
        port=port,
        underlay_address=(socket.inet_aton("127.0.0.1"),),
    )
    return Node(config)
