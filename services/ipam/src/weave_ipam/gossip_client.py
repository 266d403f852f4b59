"""What ipam asks of gossip, over one channel that survives gossip's restarts.

What is watched arrives at a `Listener`, whole states only; what is published is kept as wanted
until gossip has it, and published again when gossip has lost it. Knows nothing of rings.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Callable, Collection, Coroutine, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import grpc

from weave.gossip.v1 import gossip_pb2, gossip_pb2_grpc
from weave_model.errors import Aborted, DomainError, NotReady
from weave_model.peer import PeerName
from weave_runtime.client import FIRST_RETRY_S, LONGEST_RETRY_S, State, event_decoder, follow
from weave_runtime.status import error_of
from weave_runtime.watch import Event, SnapshotStart

# A call to a service of the same pod; gossip writes to disk before it answers a Publish.
CALL_TIMEOUT_S = 5.0

log = logging.getLogger(__name__)

# (topic, key) of an own document.
OwnKey = tuple[str, str]


@dataclass(frozen=True, slots=True)
class Peer:
    """A peer as gossip sees it now."""

    name: PeerName
    nickname: str
    is_self: bool
    reachable: bool
    incarnation: int
    node_uid: str
    # Its machine is gone for good.
    departed: bool = False


@dataclass(frozen=True, slots=True)
class Identity:
    """Who this peer is; `targets` counts the addresses that gossip was told to connect to."""

    name: PeerName
    nickname: str
    targets: int


@dataclass(frozen=True, slots=True)
class Document:
    """One version of a peer's document."""

    topic: str
    writer: PeerName
    key: str
    incarnation: int
    version: int
    payload: bytes


# (writer, key) of a document under one topic.
DocumentKey = tuple[PeerName, str]


class Listener(Protocol):
    """Is told what changes in the mesh. No call may block or raise."""

    def on_peers(self, peers: Mapping[PeerName, Peer]) -> None:
        """All peers known now."""

    def on_documents(
        self,
        topic: str,
        items: Mapping[DocumentKey, Document],
        changed: Collection[DocumentKey],
        removed: Collection[DocumentKey],
    ) -> None:
        """The documents of a topic, and which of them are new, other or taken back."""

    def on_message(self, source: PeerName, payload: bytes) -> None:
        """A peer has sent a message."""

    def on_entry(self, key: str, revision: int, value: bytes) -> None:
        """A watched key of Coordination has another value."""


class GossipClient:
    """Services Gossip and Coordination as ipam uses them."""

    def __init__(self, channel: grpc.aio.Channel) -> None:
        self._gossip = gossip_pb2_grpc.GossipStub(channel)
        self._coordination = gossip_pb2_grpc.CoordinationStub(channel)
        self._own_name: PeerName | None = None
        self._wanted: dict[OwnKey, bytes] = {}
        self._unpublished: set[OwnKey] = set()
        self._to_publish = asyncio.Event()

    def jobs(
        self, listener: Listener, topics: Collection[str], message_topic: str, prefix: str
    ) -> dict[str, Coroutine[Any, Any, None]]:
        """What has to run in the background, by name; none of it ever ends by itself.

        `prefix` says which keys of Coordination are watched.
        """
        following = {f"watch of {t}": self._follow_documents(t, listener) for t in topics}
        return {
            "watch of peers": self._follow_peers(listener),
            "watch of Coordination": self._follow_entries(prefix, listener),
            "messages": self._receive(message_topic, listener),
            "publisher": self._keep_published(),
            **following,
        }

    def publish(self, topic: str, key: str, payload: bytes) -> None:
        """Wants this to be the own document; replaces what was wanted before."""
        self._wanted[topic, key] = payload
        self._unpublished.add((topic, key))
        self._to_publish.set()

    async def send(self, peer: PeerName, topic: str, payload: bytes) -> None:
        """Sends to one peer. Raises DomainError when it did not leave."""
        request = gossip_pb2.SendRequest(peer=str(peer), topic=topic, payload=payload)
        with _domain_errors():
            await self._gossip.Send(request, timeout=CALL_TIMEOUT_S)

    async def quarantine(
        self, topic: str, writer: PeerName, key: str, version: tuple[int, int], reason: str
    ) -> None:
        """Sets one version (incarnation, version) of a document aside. Raises DomainError."""
        request = gossip_pb2.QuarantineRequest(
            topic=topic,
            writer=str(writer),
            key=key,
            incarnation=version[0],
            version=version[1],
            reason=reason,
        )
        with _domain_errors():
            await self._gossip.Quarantine(request, timeout=CALL_TIMEOUT_S)

    async def remove_peer(self, name: PeerName) -> None:
        """Removes a departed peer's documents everywhere. Raises DomainError."""
        with _domain_errors():
            await self._gossip.RemovePeer(
                gossip_pb2.RemovePeerRequest(name=str(name)), timeout=CALL_TIMEOUT_S
            )

    async def identity(self, timeout_s: float = CALL_TIMEOUT_S) -> Identity:
        """Who gossip says this peer is. Raises DomainError."""
        with _domain_errors():
            status = await self._gossip.GetStatus(gossip_pb2.GetStatusRequest(), timeout=timeout_s)
        try:
            return Identity(PeerName.parse(status.name), status.nickname, len(status.targets))
        except ValueError as error:
            raise NotReady(f"gossip has no peer name yet: {error}") from error

    async def get(self, key: str) -> tuple[int, bytes]:
        """Revision and value of a key in Coordination; revision 0 where it is absent.

        Raises DomainError, NotReady when the back-end is away.
        """
        with _domain_errors():
            answer = await self._coordination.Get(
                gossip_pb2.GetRequest(key=key), timeout=CALL_TIMEOUT_S
            )
        return answer.revision, answer.value

    async def compare_and_swap(self, key: str, expected: int, value: bytes) -> int | None:
        """Writes if the revision is still the expected one: the new revision; None: it is not.

        Raises DomainError, NotReady when the back-end is away.
        """
        request = gossip_pb2.CompareAndSwapRequest(key=key, expected_revision=expected, value=value)
        try:
            with _domain_errors():
                answer = await self._coordination.CompareAndSwap(request, timeout=CALL_TIMEOUT_S)
        except Aborted:
            return None
        return answer.revision

    async def _follow_peers(self, listener: Listener) -> None:
        states = follow(
            "peers",
            lambda token: self._gossip.WatchPeers(gossip_pb2.WatchPeersRequest(resume_token=token)),
            event_decoder(_peer_item, lambda removed: PeerName.parse(removed.name)),
        )
        async with contextlib.aclosing(states):
            async for state in states:
                own = next((peer.name for peer in state.items.values() if peer.is_self), None)
                self._own_name = own or self._own_name
                listener.on_peers(state.items)

    async def _follow_documents(self, topic: str, listener: Listener) -> None:
        snapshot = _SnapshotMark(
            event_decoder(
                _document_item, lambda removed: (PeerName.parse(removed.writer), removed.key)
            )
        )
        states = follow(
            f"documents {topic}",
            lambda token: self._gossip.WatchDocuments(
                gossip_pb2.WatchDocumentsRequest(topic=topic, resume_token=token)
            ),
            snapshot.decode,
        )
        async with contextlib.aclosing(states):
            async for state in states:
                self._compare_own(topic, state)
                # A gossip that has restarted does not know yet what it will learn again: what its
                # first snapshot lacks has not been taken back by anybody.
                gone = frozenset[DocumentKey]() if snapshot.take() else state.removed
                listener.on_documents(topic, state.items, state.changed, gone)

    async def _follow_entries(self, prefix: str, listener: Listener) -> None:
        states = follow(
            f"Coordination {prefix}",
            lambda token: self._coordination.Watch(
                gossip_pb2.WatchRequest(prefix=prefix, resume_token=token)
            ),
            event_decoder(lambda entry: (entry.key, (entry.revision, entry.value))),
        )
        async with contextlib.aclosing(states):
            async for state in states:
                for key in sorted(state.changed):
                    listener.on_entry(key, *state.items[key])

    def _compare_own(self, topic: str, state: State[DocumentKey, Document]) -> None:
        """Publishes again what gossip no longer has, or has from an earlier life."""
        for (wanted_topic, key), payload in self._wanted.items():
            if wanted_topic != topic or self._own_name is None:
                continue
            held = state.items.get((self._own_name, key))
            if held is None or held.payload != payload:
                self._unpublished.add((topic, key))
                self._to_publish.set()

    async def _keep_published(self) -> None:
        delay_s = FIRST_RETRY_S
        while True:
            await self._to_publish.wait()
            self._to_publish.clear()
            try:
                for topic, key in sorted(self._unpublished):
                    await self._publish(topic, key)
            except DomainError as error:
                log.debug("publishing failed", extra={"reason": str(error)})
                self._to_publish.set()
                await asyncio.sleep(delay_s)
                delay_s = min(delay_s * 2, LONGEST_RETRY_S)
            else:
                delay_s = FIRST_RETRY_S

    async def _publish(self, topic: str, key: str) -> None:
        self._unpublished.discard((topic, key))
        request = gossip_pb2.PublishRequest(topic=topic, key=key, payload=self._wanted[topic, key])
        try:
            with _domain_errors():
                await self._gossip.Publish(request, timeout=CALL_TIMEOUT_S)
        except BaseException:
            self._unpublished.add((topic, key))
            raise

    async def _receive(self, topic: str, listener: Listener) -> None:
        delay_s = FIRST_RETRY_S
        while True:
            stream = self._gossip.Receive(gossip_pb2.ReceiveRequest(topic=topic))
            try:
                async for message in stream:
                    delay_s = FIRST_RETRY_S
                    with contextlib.suppress(ValueError):
                        listener.on_message(PeerName.parse(message.source), message.payload)
            except grpc.aio.AioRpcError as error:
                log.debug("messages lost", extra={"reason": error.details()})
            finally:
                stream.cancel()
            await asyncio.sleep(delay_s)
            delay_s = min(delay_s * 2, LONGEST_RETRY_S)


class _SnapshotMark:
    """Decodes, and notes whether a snapshot has begun since it was last asked."""

    def __init__(self, decode: Callable[[Any], Event[DocumentKey, Document] | None]) -> None:
        self._decode = decode
        self._seen = False

    def decode(self, message: Any) -> Event[DocumentKey, Document] | None:
        event = self._decode(message)
        self._seen |= isinstance(event, SnapshotStart)
        return event

    def take(self) -> bool:
        seen, self._seen = self._seen, False
        return seen


@contextlib.contextmanager
def _domain_errors() -> Iterator[None]:
    try:
        yield
    except grpc.aio.AioRpcError as error:
        raise error_of(error) from error


def _peer_item(message: gossip_pb2.Peer) -> tuple[PeerName, Peer]:
    name = PeerName.parse(message.name)
    return name, Peer(
        name,
        message.nickname,
        message.self,
        message.reachable,
        message.incarnation,
        message.node_uid,
        message.departed,
    )


def _document_item(message: gossip_pb2.Document) -> tuple[DocumentKey, Document]:
    writer = PeerName.parse(message.writer)
    return (writer, message.key), Document(
        message.topic,
        writer,
        message.key,
        message.incarnation,
        message.version,
        message.payload,
    )
