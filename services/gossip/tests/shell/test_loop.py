"""The driver of the core: durable before spread, pings in any case, a store that fails."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from random import Random
from typing import Any

import pytest

from services.gossip.tests.shell.conftest import peer_name
from weave_gossip.codec.facts import FactsCodec
from weave_gossip.core.documents import DocumentId
from weave_gossip.core.effects import LinkId
from weave_gossip.core.errors import InvalidDocument
from weave_gossip.core.facts import PeerFacts
from weave_gossip.core.mesh import Mesh
from weave_gossip.core.messages import Documents, Hello, Message, Ping, Pong, Refusal
from weave_gossip.core.options import MeshOptions
from weave_gossip.loop import COMMIT_RETRY_S, Driver
from weave_gossip.state import SeenDocuments
from weave_gossip.views import Views
from weave_runtime.store import StoreError

LINK = LinkId(1)


class SlowStore:
    """A store whose commits wait until the test lets them through, or fails them."""

    def __init__(self) -> None:
        self.entries: dict[str, bytes | None] = {}
        self.open = asyncio.Event()
        self.open.set()
        self.error: StoreError | None = None

    async def commit(self, batch: Mapping[str, bytes | None]) -> None:
        await self.open.wait()
        if self.error is not None:
            raise self.error
        self.entries |= batch


class Wire:
    """Records what the driver sends, closes and dials."""

    def __init__(self) -> None:
        self.sent: list[Message] = []
        self.accepts = True

    def send(self, link: LinkId, message: Message) -> bool:
        self.sent.append(message)
        return self.accepts

    def close(self, link: LinkId, refusal: Refusal | None) -> None:
        raise AssertionError(refusal)

    def dial(self, address: str, epoch: int) -> None:
        raise AssertionError(address)

    def topics(self) -> list[str]:
        documents = [each for each in self.sent if isinstance(each, Documents)]
        return [document.id.topic for each in documents for document in each.documents]


class Rig:
    """A driver with one link, its first documents spread."""

    def __init__(self) -> None:
        self.store = SlowStore()
        self.wire = Wire()
        self.views = Views()
        mesh = Mesh(
            name=peer_name(1),
            incarnation=1,
            facts=PeerFacts(nickname="node1", instance=b"11111111", listen_port=6783),
            codec=FactsCodec(),
            options=MeshOptions(),
            rng=Random(1),
            now=asyncio.get_running_loop().time(),
        )
        store: Any = self.store
        self.driver = Driver(mesh, store, self.views, SeenDocuments(store, peer_name(1)))

    async def start(self, clock: Any) -> None:
        self.driver.start(self.wire)
        hello = Hello(peer_name(2), "node2", 1, b"22222222", 6783)
        self.driver.call(
            lambda mesh, now: mesh.link_established(
                LINK, hello, outbound=False, address="10.0.0.2:1", epoch=1, now=now
            )
        )
        for _ in range(10):
            await clock.advance(0.2)

    async def publish(self, payload: bytes) -> Any:
        return await self.driver.call_durably(
            lambda mesh, now: mesh.publish("ring", "4", payload, now)
        )


@pytest.fixture
async def rig(clock: Any) -> AsyncIterator[Rig]:
    rig = Rig()
    await rig.start(clock)
    yield rig
    rig.store.open.set()
    await rig.driver.close()


async def test_a_document_is_spread_when_it_is_durable(rig: Rig, clock: Any) -> None:
    rig.store.open.clear()
    publishing = asyncio.ensure_future(rig.publish(b"payload"))
    await clock.advance(0)

    assert "ring" not in rig.wire.topics()
    assert not publishing.done()
    rig.store.open.set()
    document = await publishing

    assert "ring" in rig.wire.topics()
    assert "own/ring\0004" in rig.store.entries
    assert document.payload == b"payload"


async def test_a_slow_store_does_not_hold_pings_back(rig: Rig, clock: Any) -> None:
    rig.store.open.clear()
    publishing = asyncio.ensure_future(rig.publish(b"payload"))
    await clock.advance(0)
    rig.wire.sent.clear()

    rig.driver.link_received(LINK, Ping(7, 0))
    for _ in range(8):
        await clock.advance(0.5)

    assert any(isinstance(each, Pong) and each.nonce == 7 for each in rig.wire.sent)
    assert any(isinstance(each, Ping) for each in rig.wire.sent)
    rig.store.open.set()
    await publishing


async def test_questions_are_answered_while_the_store_hangs(rig: Rig, clock: Any) -> None:
    """One actor did everything, so that whoever asked how it was never got an answer."""
    rig.store.open.clear()
    publishing = asyncio.ensure_future(rig.publish(b"payload"))
    await clock.advance(0)

    status = rig.driver.ask(lambda mesh: mesh.status())

    assert not publishing.done()
    assert status.links == 1
    rig.store.open.set()
    await publishing


async def test_a_store_that_fails_is_tried_again_and_named(rig: Rig, clock: Any) -> None:
    rig.store.error = StoreError("disk full")
    publishing = asyncio.ensure_future(rig.publish(b"payload"))
    await clock.advance(COMMIT_RETRY_S + 0.1)
    while_failing = rig.driver.store_error

    rig.store.error = None
    await clock.advance(COMMIT_RETRY_S + 0.1)
    await publishing

    assert while_failing == "disk full"
    assert rig.driver.store_error == ""
    assert "ring" in rig.wire.topics()


async def test_publications_that_wait_share_a_commit(rig: Rig, clock: Any) -> None:
    rig.store.open.clear()

    waiting = [asyncio.ensure_future(rig.publish(bytes([n]))) for n in range(5)]
    await clock.advance(0)
    rig.store.open.set()
    documents = await asyncio.gather(*waiting)

    versions = [each.version for each in documents]
    assert versions == sorted(set(versions))
    assert rig.views.documents("ring").items[peer_name(1), "4"] == documents[-1]


async def test_a_command_that_is_refused_leaves_the_driver_at_work(rig: Rig) -> None:
    with pytest.raises(InvalidDocument):
        await rig.driver.call_durably(lambda mesh, now: mesh.publish("peers", "", b"", now))

    assert (await rig.publish(b"payload")).payload == b"payload"


async def test_a_blocked_link_gets_nothing_but_pings(rig: Rig, clock: Any) -> None:
    rig.wire.accepts = False
    await rig.publish(b"one")
    rig.wire.sent.clear()

    await rig.publish(b"two")
    while_blocked = list(rig.wire.sent)
    rig.wire.accepts = True
    rig.driver.link_drained(LINK)
    await clock.advance(1)

    assert not [each for each in while_blocked if not isinstance(each, Ping | Pong)]
    assert "ring" in rig.wire.topics()


async def test_documents_of_others_are_kept_but_not_their_links(rig: Rig) -> None:
    seen = rig.driver._seen
    document = await rig.publish(b"mine")
    theirs = DocumentId("ring", peer_name(2), "4")

    seen.changed(document)
    for topic in ("ring", "links"):
        seen.changed(type(document)(theirs._replace(topic=topic), 1, 1, b"theirs"))
    rig.store.error = StoreError("disk full")
    await seen.flush()
    rig.store.error = None
    await seen.flush()

    kept = [key for key in rig.store.entries if key.startswith("seen/")]
    assert kept == ["seen/ring\x00020000000002\x004"]
    seen.removed(theirs)
    await seen.flush()
    assert rig.store.entries[kept[0]] is None
