"""Between probes and paths: what is aimed at, what is published, what outlives a restart."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator, Callable, Iterable
from dataclasses import dataclass, field

import pytest

from services.router.tests.worlds import NAMES, SELF, V4
from weave_model.prefix import Prefix
from weave_router.core.inputs import Endpoint, Path, PathKind, Peer
from weave_router.core.path_choice import Reach
from weave_router.core.prober import Target
from weave_router.kernel.api import Uplink
from weave_router.node import Node
from weave_router.path_finder import PathFinder

_LIMIT_S = 20.0
B, C = NAMES[1], NAMES[2]


@dataclass
class PlayedEcho:
    """Answers at once what is not in `silent`."""

    silent: set[Prefix] = field(default_factory=set)
    sent: list[tuple[Target, int]] = field(default_factory=list)
    closed: bool = False

    def __post_init__(self) -> None:
        self._near, self._far = socket.socketpair()
        self._near.setblocking(False)
        self._tokens: list[int] = []

    def fileno(self) -> int:
        return self._near.fileno()

    def send(self, target: Target, size: int, token: int) -> None:
        self.sent.append((target, size))
        if target.address not in self.silent:
            self._tokens.append(token)
            self._far.send(b"x")

    def received(self) -> Iterable[int]:
        with contextlib.suppress(BlockingIOError):
            self._near.recv(4096)
        tokens, self._tokens = self._tokens, []
        return tokens

    def close(self) -> None:
        self.closed = True
        self._near.close()
        self._far.close()


@dataclass
class Rig:
    """A finder that runs."""

    node: Node
    finder: PathFinder
    tunnel: PlayedEcho
    direct: PlayedEcho
    now: float = 0.0

    async def until(self, holds: Callable[[], bool]) -> None:
        """Waits for what the finder does in its own time."""
        async with asyncio.timeout(_LIMIT_S):
            while not holds():  # noqa: ASYNC110 - it is the loop's own time
                await asyncio.sleep(0.01)

    def tell(self, **facts: object) -> None:
        """Changes facts of the node."""
        for name, value in facts.items():
            setattr(self.node, name, value)
        self.finder.refresh()


@pytest.fixture
async def rig() -> AsyncIterator[Rig]:
    underlay = [Prefix.parse(f"10.99.0.{number}") for number in (1, 2, 3)]
    node = Node((V4,), direct=True, name=SELF, underlay=(underlay[0],))
    node.uplinks = (Uplink(underlay[0], "eth0", 1500, 24),)
    node.overlay = (Prefix.parse("10.32.0.1"),)
    node.peers = tuple(Peer(n, (a,)) for n, a in zip((SELF, B, C), underlay, strict=True))
    node.present = frozenset({SELF, B, C})
    tunnel, direct = PlayedEcho(), PlayedEcho()
    made: list[Rig] = []
    finder = PathFinder(node, tunnel, direct, lambda: None, clock=lambda: made[0].now)
    made.append(Rig(node, finder, tunnel, direct))
    task = asyncio.create_task(finder.run())
    yield made[0]
    task.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await task
    assert tunnel.closed
    assert direct.closed


def address(number: int) -> Prefix:
    """The end of a peer's tunnel."""
    return Prefix.parse(f"fe80::200:0:{number}")


async def test_everything_in_order_is_an_empty_document(rig: Rig) -> None:
    assert rig.finder.reach() is None
    await rig.until(lambda: rig.finder.reach() == Reach())
    await rig.until(lambda: all(v.mtu == 1450 for v in rig.node.verdicts.values()))

    assert rig.node.paths == {B: Path(), C: Path()}
    assert {(t.address, t.ceiling) for t, _ in rig.tunnel.sent} == {
        (address(2), 1450),
        (address(3), 1450),
    }
    assert rig.direct.sent == []


async def test_a_silent_peer_stays_published_while_gossip_restarts(rig: Rig) -> None:
    rig.tunnel.silent.add(address(3))
    await rig.until(lambda: rig.finder.reach() == Reach({C: 0}))

    rig.tell(present=frozenset())
    rig.now += 20
    await rig.until(lambda: rig.finder.reach() is not None)
    assert rig.finder.reach() == Reach({C: 0})

    rig.now += 20
    assert rig.finder.reach() == Reach()


async def test_a_peer_that_relays_is_used(rig: Rig) -> None:
    rig.tunnel.silent.add(address(3))
    rig.tell(reaches={B: Reach()})

    await rig.until(lambda: rig.node.paths.get(C) == Path(PathKind.RELAY, via=B))
    rig.tunnel.silent.clear()
    await rig.until(lambda: rig.node.paths.get(C) == Path())


async def test_peers_on_our_link_that_allow_it_are_reached_directly(rig: Rig) -> None:
    overlay = Prefix.parse("10.40.0.1")
    rig.tell(
        endpoints={B: Endpoint((overlay,), 1450, is_direct=True), C: Endpoint((overlay,), 1450)}
    )

    await rig.until(lambda: rig.node.paths.get(B) == Path(PathKind.DIRECT, link="eth0"))
    assert rig.node.paths[C].kind is PathKind.VXLAN
    assert {t.address for t, _ in rig.direct.sent} == {overlay}


async def test_an_endpoint_below_what_the_overlay_needs_is_not_believed(rig: Rig) -> None:
    rig.tell(endpoints={B: Endpoint((), 100), C: Endpoint((), 1400)})
    await rig.until(lambda: {t.ceiling for t, _ in rig.tunnel.sent} >= {576, 1400})

    assert {t.ceiling for t, _ in rig.tunnel.sent if t.address == address(3)} <= {1400, 1450}
