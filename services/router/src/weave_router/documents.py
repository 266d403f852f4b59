"""Documents that routers replicate through gossip: written by this node, read of all others."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from contextlib import aclosing
from typing import TYPE_CHECKING, TypeVar

import grpc

from weave.gossip.v1 import gossip_pb2
from weave_model.errors import Invalid
from weave_model.peer import PeerName
from weave_router import codec
from weave_router.core import naming
from weave_router.node import Node
from weave_runtime.client import Stream, event_decoder, follow
from weave_runtime.pulse import pulse

if TYPE_CHECKING:
    from weave.gossip.v1.gossip_pb2_grpc import GossipAsyncStub

TOPIC_ENDPOINTS = "endpoints"
TOPIC_PATHS = "paths"
_TIMEOUT_S = 5.0
# What is published changes seldom, and not more often than this; gossip may be away when it does.
PUBLISH_INTERVAL_S = 1.0

T = TypeVar("T")

log = logging.getLogger(__name__)


async def follow_documents(
    gossip: GossipAsyncStub,
    topic: str,
    read: Callable[[bytes], T],
    on_change: Callable[[Mapping[PeerName, T]], None],
) -> None:
    """Tells all readable documents of a topic, by writer, whenever one changes, for ever.

    One that cannot be read is set aside, so that it shows in the status of the mesh.
    """
    unread: list[gossip_pb2.QuarantineRequest] = []

    def item(message: gossip_pb2.Document) -> tuple[str, tuple[PeerName, T] | None]:
        place = f"{message.writer}/{message.key}"
        if message.key:
            return place, None
        try:
            return place, (codec.read_peer_name(message.writer), read(message.payload))
        except Invalid as error:
            unread.append(_quarantine(message, str(error)))
            return place, None

    decode = event_decoder(item, lambda message: f"{message.writer}/{message.key}")

    def open_stream(token: bytes) -> Stream[gossip_pb2.WatchDocumentsResponse]:
        request = gossip_pb2.WatchDocumentsRequest(topic=topic, resume_token=token)
        return gossip.WatchDocuments(request)

    async with aclosing(follow(topic, open_stream, decode)) as states:
        async for state in states:
            on_change(dict(entry for entry in state.items.values() if entry is not None))
            while unread:
                await _set_aside(gossip, unread.pop())


class Publisher:
    """Publishes this node's document of a topic whenever it has changed."""

    def __init__(
        self, gossip: GossipAsyncStub, topic: str, payload: Callable[[], bytes | None]
    ) -> None:
        """`payload` gives None while there is nothing to tell."""
        self._gossip = gossip
        self._topic = topic
        self._payload = payload
        self._published: bytes | None = None

    async def run(self) -> None:
        """Publishes for ever."""
        while True:
            await self._publish()
            await pulse(PUBLISH_INTERVAL_S)

    async def _publish(self) -> None:
        payload = self._payload()
        if payload is None or payload == self._published:
            return
        request = gossip_pb2.PublishRequest(topic=self._topic, payload=payload)
        try:
            await self._gossip.Publish(request, timeout=_TIMEOUT_S)
        except grpc.aio.AioRpcError as error:
            log.debug("not published", extra={"topic": self._topic, "reason": error.details()})
            return
        self._published = payload


def endpoint(node: Node) -> bytes | None:
    """What other nodes' routers may want to know of this one."""
    if node.name is None or not node.mtu or node.overlay is None:
        return None
    mac = naming.tunnel_mac(node.name)
    message = codec.write_endpoint(node.overlay, mac, node.mtu, is_direct=node.direct)
    return message.SerializeToString()


def _quarantine(message: gossip_pb2.Document, reason: str) -> gossip_pb2.QuarantineRequest:
    return gossip_pb2.QuarantineRequest(
        topic=message.topic,
        writer=message.writer,
        key=message.key,
        incarnation=message.incarnation,
        version=message.version,
        reason=reason,
    )


async def _set_aside(gossip: GossipAsyncStub, request: gossip_pb2.QuarantineRequest) -> None:
    try:
        await gossip.Quarantine(request, timeout=_TIMEOUT_S)
    except grpc.aio.AioRpcError as error:
        log.warning("unreadable document", extra={"topic": request.topic, "reason": request.reason})
        log.debug("not set aside", extra={"reason": error.details()})
