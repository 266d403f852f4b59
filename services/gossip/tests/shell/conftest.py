"""Pairs of streams, sides of a handshake, and a clock that tests may push forward."""

from __future__ import annotations

import asyncio
import functools
import socket
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from services.gossip.tests.shell.cluster import Node, Wire, make_node
from weave_gossip.core.messages import Hello, Refusal
from weave_gossip.link.certificate import issue
from weave_gossip.link.credentials import Credentials
from weave_gossip.link.framing import PlainStream
from weave_gossip.link.greeting import Greeting
from weave_gossip.link.tls import TlsContexts, make_contexts
from weave_model.peer import PeerName


@dataclass
class FakeSide:
    """A peer that judges hellos by a given verdict and remembers them."""

    name: PeerName
    greeting: Greeting = field(default_factory=Greeting)
    contexts: Mapping[bytes, TlsContexts] = field(default_factory=dict)
    verdict: Refusal | None = None
    hello_name: PeerName | None = None
    judged: list[tuple[Hello, bool, int]] = field(default_factory=list)

    def own_hello(self, epoch: int) -> Hello:
        return Hello(
            name=self.hello_name or self.name,
            nickname=f"nick-{self.name[-1]}",
            incarnation=1,
            instance=bytes(8),
            listen_port=6783,
            link_epoch=epoch,
        )

    def judge_hello(self, hello: Hello, *, outbound: bool, epoch: int) -> Refusal | None:
        self.judged.append((hello, outbound, epoch))
        return self.verdict


@functools.cache
def credentials(secret: str, cluster_id: str = "", name: str = "") -> Credentials:
    """As the service has them made, but in this process; slow on purpose, so only once."""
    issued = issue({"secret": secret, "cluster_id": cluster_id, "name": name})
    return Credentials(bytes.fromhex(issued["key_id"]), issued["authority"], issued["chain"])


def peer_name(number: int) -> PeerName:
    return PeerName(b"\x02" + number.to_bytes(5, "big"))


@pytest.fixture(scope="session")
def make_side() -> Callable[..., FakeSide]:
    """`make_side(1, "secret", ...)`: a side with the secrets given, current first."""

    def make(number: int, *secrets: str, cluster_id: str = "", **settings: object) -> FakeSide:
        name = str(peer_name(number))
        issued = [credentials(secret, cluster_id, name) for secret in secrets]
        contexts = {each.key_id: make_contexts(each) for each in issued}
        greeting = Greeting(cluster_id=cluster_id, key_ids=tuple(contexts))
        return FakeSide(peer_name(number), greeting, contexts, **settings)  # type: ignore[arg-type]

    return make


StreamPair = tuple[PlainStream, PlainStream]


@pytest.fixture
async def make_streams() -> AsyncIterator[Callable[..., asyncio.Future[StreamPair]]]:
    """`await make_streams()`: two ends of one connection."""
    streams: list[PlainStream] = []

    async def make(send_buffer: int = 0) -> StreamPair:
        ends = socket.socketpair()
        if send_buffer:
            for end in ends:
                end.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, send_buffer)
        pair = [PlainStream(*await asyncio.open_connection(sock=end)) for end in ends]
        streams.extend(pair)
        return pair[0], pair[1]

    yield make  # type: ignore[misc]
    for stream in streams:
        stream.abort()
    await asyncio.sleep(0)


class Clock:
    """The event loop's clock, which a test may push forward."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._real = loop.time
        self._ahead_s = 0.0
        loop.time = self._now  # type: ignore[method-assign]

    async def advance(self, seconds: float) -> None:
        """Lets time pass; what is due by then has run when this returns."""
        self._ahead_s += seconds
        for _ in range(10):
            await asyncio.sleep(0)

    def _now(self) -> float:
        return self._real() + self._ahead_s


@pytest.fixture
async def clock() -> Clock:
    return Clock(asyncio.get_running_loop())


@pytest.fixture(autouse=True)
async def no_task_is_left() -> AsyncIterator[None]:
    """A task that outlives its test has no owner."""
    yield
    for _ in range(5):
        await asyncio.sleep(0)
    left = {task for task in asyncio.all_tasks() if task is not asyncio.current_task()}
    for task in left:
        task.cancel()
    assert not left, [task.get_name() for task in left]


@pytest.fixture
def free_port() -> Iterator[Callable[[], int]]:
    """`free_port()`: a TCP port nobody listens on, kept from others until the test ends."""
    held: list[socket.socket] = []

    def reserve() -> int:
        probe = socket.socket()
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        probe.bind(("127.0.0.1", 0))
        held.append(probe)
        return int(probe.getsockname()[1])

    yield reserve
    for probe in held:
        probe.close()


@pytest.fixture
async def nodes(free_port: Callable[[], int]) -> AsyncIterator[Callable[[int], list[Node]]]:
    """`nodes(3)`: that many peers, not started yet; stopped when the test ends."""
    made: list[Node] = []
    # Not pytest's tmp_path: its names grow beyond what a socket path may have.
    with tempfile.TemporaryDirectory(prefix="weave-") as folder:

        def make(count: int) -> list[Node]:
            fresh = [make_node(len(made) + n, Path(folder), free_port()) for n in range(count)]
            made.extend(fresh)
            return fresh

        yield make
        for node in made:
            await node.stop()


@pytest.fixture
async def wires() -> AsyncIterator[Callable[[Node], Awaitable[Wire]]]:
    """`await wires(node)`: a relay to a node that can be cut."""
    opened: list[Wire] = []

    async def lay(node: Node) -> Wire:
        wire = Wire(node.config.port)
        await wire.open()
        opened.append(wire)
        return wire

    yield lay
    for wire in opened:
        await wire.close()
