"""What ipam relies on in gossip, shown of the fake that its tests use and of the real service.

The fake leaves out TCP, discovery and time; whatever both do is tested here, once.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import socket
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path

import grpc
import pytest

from weave.gossip.v1 import gossip_pb2, gossip_pb2_grpc
from weave_gossip.config import Config
from weave_gossip.node import run
from weave_ipam.gossip_client import GossipClient
from weave_ipam.testing.gossip import FakeGossip
from weave_ipam.testing.mesh import Coordinated, Mesh
from weave_model.errors import Absent, Conflict, Invalid
from weave_model.peer import PeerName
from weave_runtime.client import connect
from weave_runtime.process import Supervisor

# The real service needs about a second to link two peers.
TIMEOUT_S = 15.0


@dataclass
class Side:
    """One of two linked gossips."""

    name: PeerName
    stub: gossip_pb2_grpc.GossipAsyncStub
    coordination: gossip_pb2_grpc.CoordinationAsyncStub
    client: GossipClient


@dataclass
class Pair:
    """Two linked gossips, one of which can be taken down."""

    one: Side
    other: Side
    take_other_down: Callable[[], Awaitable[None]]


@contextlib.asynccontextmanager
async def fake_pair() -> AsyncIterator[Pair]:
    """Two peers of a fake mesh."""
    mesh, coordinated = Mesh(), Coordinated()
    async with contextlib.AsyncExitStack() as stack:
        directory = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="wgossip-")))
        sides = []
        for number in (1, 2):
            peer = mesh.add(PeerName(bytes([2, 0, 0, 0, 0, number])))
            path = directory / f"{number}.sock"
            await stack.enter_async_context(FakeGossip(path, peer, coordinated))
            sides.append(await side(stack, path))
        one, other = sides

        async def take_down() -> None:
            mesh.take_down(other.name)

        yield Pair(one, other, take_down)


@contextlib.asynccontextmanager
async def real_pair() -> AsyncIterator[Pair]:
    """Two services in this process, linked over TCP on the loopback interface."""
    async with contextlib.AsyncExitStack() as stack:
        directory = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="wgossip-")))
        ports = free_ports(2)
        sides, stops = [], []
        for number, port in enumerate(ports):
            config = Config(
                socket_path=directory / f"{number}.sock",
                state_dir=directory / str(number),
                http_addr="",
                host="127.0.0.1",
                port=port,
                nickname=f"node-{number}",
                underlay_address=(bytes([127, 0, 0, 1]),),
                peers=tuple(f"127.0.0.1:{p}" for p in ports if p != port),
                coordination=f"file:{directory}/coordination.json",
            )
            supervisor = Supervisor()
            task = asyncio.create_task(run(config, supervisor))
            stops.append(functools.partial(stop, supervisor, task))
            stack.push_async_callback(stops[-1])
            sides.append(await side(stack, config.socket_path))
        pair = Pair(sides[0], sides[1], stops[1])
        await peer_at(pair.one, pair.other.name, reachable=True)
        await peer_at(pair.other, pair.one.name, reachable=True)
        yield pair


async def stop(supervisor: Supervisor, task: asyncio.Task[None]) -> None:
    supervisor.stop()
    await task
    await supervisor.close()


def free_ports(count: int) -> list[int]:
    """Ports of the loopback interface that nobody uses at this moment."""
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for each in sockets:
            each.bind(("127.0.0.1", 0))
        return [each.getsockname()[1] for each in sockets]


async def side(stack: contextlib.AsyncExitStack, path: Path) -> Side:
    channel = await stack.enter_async_context(connect(path))
    stub = gossip_pb2_grpc.GossipStub(channel)
    await stub.GetStatus(gossip_pb2.GetStatusRequest(), wait_for_ready=True, timeout=TIMEOUT_S)
    client = GossipClient(channel)
    return Side(
        (await client.identity()).name, stub, gossip_pb2_grpc.CoordinationStub(channel), client
    )


@pytest.fixture(params=[fake_pair, real_pair])
async def pair(request: pytest.FixtureRequest) -> AsyncIterator[Pair]:
    async with request.param() as made:
        yield made


async def document_at(side: Side, topic: str, key: str, payload: bytes) -> gossip_pb2.Document:
    """Returns when a side holds a document with this payload."""
    stream = side.stub.WatchDocuments(gossip_pb2.WatchDocumentsRequest(topic=topic))
    async with asyncio.timeout(TIMEOUT_S):
        async for message in stream:
            document = message.document
            if message.WhichOneof("event") == "document" and (document.key, document.payload) == (
                key,
                payload,
            ):
                stream.cancel()
                return document
    raise AssertionError("the watch ended")


async def peer_at(side: Side, name: PeerName, *, reachable: bool) -> gossip_pb2.Peer:
    """Returns when a side sees a peer in this condition."""
    stream = side.stub.WatchPeers(gossip_pb2.WatchPeersRequest())
    async with asyncio.timeout(TIMEOUT_S):
        async for message in stream:
            if message.peer.name == str(name) and message.peer.reachable == reachable:
                stream.cancel()
                return message.peer
    raise AssertionError("the watch ended")


async def publish(side: Side, topic: str, key: str, payload: bytes) -> gossip_pb2.PublishResponse:
    request = gossip_pb2.PublishRequest(topic=topic, key=key, payload=payload)
    return await side.stub.Publish(request, timeout=TIMEOUT_S)


async def test_each_side_knows_itself_and_the_other(pair: Pair) -> None:
    own = await peer_at(pair.one, pair.one.name, reachable=True)
    other = await peer_at(pair.one, pair.other.name, reachable=True)

    assert own.self
    assert not other.self
    assert other.incarnation > 0


async def test_a_document_reaches_the_other_side_unchanged(pair: Pair) -> None:
    await publish(pair.one, "ring", "4", b"\x00payload\xff")

    document = await document_at(pair.other, "ring", "4", b"\x00payload\xff")

    assert document.writer == str(pair.one.name)


async def test_the_writer_sees_its_own_document(pair: Pair) -> None:
    answer = await publish(pair.one, "ring", "4", b"mine")

    document = await document_at(pair.one, "ring", "4", b"mine")

    assert (document.incarnation, document.version) == (answer.incarnation, answer.version)


async def test_the_same_payload_again_changes_nothing(pair: Pair) -> None:
    first = await publish(pair.one, "ring", "4", b"a")

    assert await publish(pair.one, "ring", "4", b"a") == first


async def test_another_payload_is_a_greater_version(pair: Pair) -> None:
    first = await publish(pair.one, "ring", "4", b"a")
    second = await publish(pair.one, "ring", "4", b"b")

    assert (second.incarnation, second.version) > (first.incarnation, first.version)
    await document_at(pair.other, "ring", "4", b"b")


@pytest.mark.parametrize(
    ("topic", "key", "size"),
    [("peers", "", 1), ("links", "", 1), ("t" * 129, "", 1), ("t", "k" * 129, 1)],
)
async def test_what_may_not_be_published_is_refused(
    pair: Pair, topic: str, key: str, size: int
) -> None:
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await publish(pair.one, topic, key, b"x" * size)

    assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT


async def test_a_withdrawn_document_is_reported_as_removed(pair: Pair) -> None:
    await publish(pair.one, "ring", "4", b"a")
    await document_at(pair.other, "ring", "4", b"a")
    stream = pair.other.stub.WatchDocuments(gossip_pb2.WatchDocumentsRequest(topic="ring"))
    messages = aiter(stream)
    async with asyncio.timeout(TIMEOUT_S):
        while (await anext(messages)).WhichOneof("event") != "synced":
            pass
        request = gossip_pb2.WithdrawRequest(topic="ring", key="4")
        await pair.one.stub.Withdraw(request, timeout=TIMEOUT_S)
        removed = (await anext(messages)).removed
    stream.cancel()

    assert (removed.writer, removed.key) == (str(pair.one.name), "4")


async def test_a_message_arrives_with_its_source(pair: Pair) -> None:
    stream = pair.other.stub.Receive(gossip_pb2.ReceiveRequest(topic="ipam"))
    messages = aiter(stream)
    await stream.initial_metadata()
    await peer_at(pair.one, pair.other.name, reachable=True)

    await pair.one.client.send(pair.other.name, "ipam", b"hello")
    async with asyncio.timeout(TIMEOUT_S):
        message = await anext(messages)
    stream.cancel()

    assert (message.source, message.payload) == (str(pair.one.name), b"hello")


async def test_a_message_to_nobody_is_refused(pair: Pair) -> None:
    with pytest.raises(Absent):
        await pair.one.client.send(PeerName(b"\x02\xff\xff\xff\xff\xff"), "ipam", b"hello")


async def test_a_message_over_64_kib_is_refused(pair: Pair) -> None:
    await peer_at(pair.one, pair.other.name, reachable=True)

    with pytest.raises(Invalid):
        await pair.one.client.send(pair.other.name, "ipam", b"x" * ((64 << 10) + 1))


async def test_a_quarantined_version_is_shown_with_its_reason(pair: Pair) -> None:
    await publish(pair.one, "ring", "4", b"a")
    document = await document_at(pair.other, "ring", "4", b"a")

    version = (document.incarnation, document.version)
    await pair.other.client.quarantine("ring", pair.one.name, "4", version, "other range")
    status = await pair.other.stub.GetStatus(gossip_pb2.GetStatusRequest(), timeout=TIMEOUT_S)

    assert [(q.writer, q.reason) for q in status.quarantined] == [
        (str(pair.one.name), "other range")
    ]


async def test_quarantine_of_a_version_no_longer_held_is_success(pair: Pair) -> None:
    await pair.one.client.quarantine("ring", pair.other.name, "4", (1, 999), "gone")


async def test_a_reachable_peer_or_self_is_not_removed(pair: Pair) -> None:
    await peer_at(pair.one, pair.other.name, reachable=True)

    for name in (pair.one.name, pair.other.name):
        with pytest.raises(Conflict):
            await pair.one.client.remove_peer(name)


async def test_a_departed_peer_stays_known_until_it_is_removed(pair: Pair) -> None:
    await publish(pair.other, "ring", "4", b"theirs")
    await document_at(pair.one, "ring", "4", b"theirs")

    await pair.take_other_down()
    await peer_at(pair.one, pair.other.name, reachable=False)
    await document_at(pair.one, "ring", "4", b"theirs")
    await pair.one.client.remove_peer(pair.other.name)
    await pair.one.client.remove_peer(pair.other.name)

    stream = pair.one.stub.WatchDocuments(gossip_pb2.WatchDocumentsRequest(topic="ring"))
    events = []
    async for message in stream:
        events.append(message.WhichOneof("event"))
        if events[-1] == "synced":
            break
    stream.cancel()
    assert "document" not in events


async def test_an_absent_key_of_coordination_is_a_value(pair: Pair) -> None:
    assert await pair.one.client.get("ipam/test/absent") == (0, b"")


async def test_of_two_first_writers_one_wins(pair: Pair) -> None:
    written = await asyncio.gather(
        pair.one.client.compare_and_swap("ipam/test/first", 0, b"one"),
        pair.other.client.compare_and_swap("ipam/test/first", 0, b"other"),
    )

    revision, value = await pair.one.client.get("ipam/test/first")
    assert sorted(revision is None for revision in written) == [False, True]
    assert value == (b"other" if written[0] is None else b"one")
    assert revision in written
