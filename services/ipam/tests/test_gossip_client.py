"""The client keeps what it was told and what it wants published, whatever happens to gossip."""

from __future__ import annotations

import asyncio
import contextlib
import tempfile
from collections.abc import AsyncIterator, Callable, Collection, Mapping
from pathlib import Path

import pytest

from weave_ipam.gossip_client import Document, DocumentKey, GossipClient, Peer
from weave_ipam.testing.gossip import FakeGossip
from weave_ipam.testing.mesh import Coordinated, Mesh, MeshPeer
from weave_model.errors import NotReady
from weave_model.peer import PeerName
from weave_runtime.client import connect

ONE, OTHER = PeerName(b"\x02\0\0\0\0\x01"), PeerName(b"\x02\0\0\0\0\x02")
TIMEOUT_S = 10.0


class Heard:
    """A listener that remembers; `until` waits for a condition on it."""

    def __init__(self) -> None:
        self.peers: Mapping[PeerName, Peer] = {}
        self.documents: dict[DocumentKey, bytes] = {}
        self.removed: list[DocumentKey] = []
        self.messages: list[tuple[PeerName, bytes]] = []
        self.entries: dict[str, bytes] = {}
        self._changed = asyncio.Event()

    def on_peers(self, peers: Mapping[PeerName, Peer]) -> None:
        self.peers = peers
        self._changed.set()

    def on_documents(
        self,
        topic: str,
        items: Mapping[DocumentKey, Document],
        changed: Collection[DocumentKey],
        removed: Collection[DocumentKey],
    ) -> None:
        self.documents |= {key: items[key].payload for key in changed}
        self.removed += removed
        self._changed.set()

    def on_message(self, source: PeerName, payload: bytes) -> None:
        self.messages.append((source, payload))
        self._changed.set()

    def on_entry(self, key: str, revision: int, value: bytes) -> None:
        self.entries[key] = value
        self._changed.set()

    async def until(self, condition: Callable[[], bool]) -> None:
        async with asyncio.timeout(TIMEOUT_S):
            while not condition():
                self._changed.clear()
                await self._changed.wait()


class Bench:
    """A client of one gossip of a mesh of two; the gossip can be restarted."""

    def __init__(self, directory: Path) -> None:
        self.mesh, self.coordinated = Mesh(), Coordinated()
        self.one, self.other = self.mesh.add(ONE), self.mesh.add(OTHER)
        self.heard = Heard()
        self._path = directory / "api.sock"
        self._gossip: FakeGossip | None = None
        self.client: GossipClient

    async def start(self, peer: MeshPeer) -> None:
        self._gossip = FakeGossip(self._path, peer, self.coordinated)
        await self._gossip.__aenter__()

    async def stop(self) -> None:
        if self._gossip:
            await self._gossip.__aexit__()
        self._gossip = None

    def forgetful(self) -> MeshPeer:
        """The first peer as it is after the loss of all its state, not linked to anybody yet."""
        return Mesh().add(ONE)


@pytest.fixture
async def bench() -> AsyncIterator[Bench]:
    with tempfile.TemporaryDirectory(prefix="wgossip-") as directory:
        made = Bench(Path(directory))
        async with connect(Path(directory) / "api.sock") as channel:
            made.client = GossipClient(channel)
            jobs = made.client.jobs(made.heard, ["ring"], "ipam", "ipam/").values()
            tasks = [asyncio.create_task(job) for job in jobs]
            yield made
            for task in tasks:
                task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await asyncio.gather(*tasks)
            await made.stop()


async def test_nothing_is_heard_until_gossip_is_there(bench: Bench) -> None:
    bench.client.publish("ring", "4", b"early")
    await asyncio.sleep(0)
    assert not bench.heard.peers

    await bench.start(bench.one)

    await bench.heard.until(lambda: bench.heard.documents.get((ONE, "4")) == b"early")
    await bench.heard.until(lambda: bool(bench.heard.peers))
    assert bench.heard.peers[ONE].is_self
    assert bench.heard.peers[OTHER].reachable


async def test_only_the_newest_of_a_document_is_published(bench: Bench) -> None:
    for number in range(5):
        bench.client.publish("ring", "4", b"%d" % number)
    await bench.start(bench.one)

    await bench.heard.until(lambda: bench.heard.documents.get((ONE, "4")) == b"4")

    assert bench.one.documents("ring").items[ONE, "4"].version == 1


async def test_a_gossip_that_lost_our_document_gets_it_again(bench: Bench) -> None:
    await bench.start(bench.one)
    bench.client.publish("ring", "4", b"ours")
    await bench.heard.until(lambda: (ONE, "4") in bench.heard.documents)

    await bench.stop()
    forgetful = bench.forgetful()
    await bench.start(forgetful)

    async with asyncio.timeout(TIMEOUT_S):
        async for _ in forgetful.documents("ring").subscribe():
            if (ONE, "4") in forgetful.documents("ring").items:
                break


async def test_what_a_restarted_gossip_does_not_know_yet_is_not_removed(bench: Bench) -> None:
    bench.other.publish("ring", "4", b"theirs")
    await bench.start(bench.one)
    await bench.heard.until(lambda: (OTHER, "4") in bench.heard.documents)

    await bench.stop()
    restarted = bench.forgetful()
    restarted.publish("ring", "6", b"sign of life")
    await bench.start(restarted)
    await bench.heard.until(lambda: (ONE, "6") in bench.heard.documents)

    assert bench.heard.removed == []


async def test_what_is_taken_back_is_removed(bench: Bench) -> None:
    bench.other.publish("ring", "4", b"theirs")
    await bench.start(bench.one)
    await bench.heard.until(lambda: (OTHER, "4") in bench.heard.documents)

    bench.other.withdraw("ring", "4")

    await bench.heard.until(lambda: bench.heard.removed == [(OTHER, "4")])


async def test_messages_arrive_again_after_a_restart(bench: Bench) -> None:
    await bench.start(bench.one)
    await bench.stop()
    await bench.start(bench.one)

    # Unacknowledged: sent until one arrives, as the core does.
    async with asyncio.timeout(TIMEOUT_S):
        while not bench.heard.messages:
            bench.other.send(ONE, "ipam", b"hello")
            await asyncio.sleep(0.02)

    assert bench.heard.messages[0] == (OTHER, b"hello")


async def test_keys_of_coordination_are_heard(bench: Bench) -> None:
    await bench.start(bench.one)
    await bench.heard.until(lambda: bool(bench.heard.peers))
    revision = await bench.client.compare_and_swap("ipam/x", 0, b"first")
    assert revision is not None
    assert await bench.client.compare_and_swap("ipam/x", 0, b"late") is None
    assert await bench.client.compare_and_swap("ipam/x", revision, b"second") is not None
    await bench.client.compare_and_swap("other/x", 0, b"not ours")

    await bench.heard.until(lambda: bench.heard.entries == {"ipam/x": b"second"})


async def test_without_gossip_calls_say_that_it_is_away(bench: Bench) -> None:
    with pytest.raises(NotReady):
        await bench.client.get("ipam/x")
