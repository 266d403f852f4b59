"""What the node learns from ipam and gossip. While they are away, what was learnt last stands."""

from __future__ import annotations

import asyncio
import logging
from contextlib import aclosing
from typing import TYPE_CHECKING

import grpc

from weave.gossip.v1 import gossip_pb2
from weave.ipam.v1 import ipam_pb2
from weave_model.attachment import NODE_CONTAINER_ID, AttachmentKey
from weave_model.errors import Invalid
from weave_model.prefix import Family
from weave_model.ring import RingView
from weave_router import codec
from weave_router.core.inputs import Peer
from weave_router.node import Node
from weave_runtime.client import Stream, event_decoder, follow

if TYPE_CHECKING:
    from weave.gossip.v1.gossip_pb2_grpc import GossipAsyncStub
    from weave.ipam.v1.ipam_pb2_grpc import IpamAsyncStub

# Weave Net's own words for the node's address in the overlay.
OVERLAY_KEY = AttachmentKey("weave", NODE_CONTAINER_ID, "weave")
# ipam waits for ring and space until the deadline; then the call is made again.
_ALLOCATE_TIMEOUT_S = 30.0
_RETRY_S = 1.0

log = logging.getLogger(__name__)


async def follow_ring(node: Node, ipam: IpamAsyncStub) -> None:
    """Keeps the node's rings those of ipam, for ever."""
    decode = event_decoder(_read_ring)

    def open_stream(token: bytes) -> Stream[ipam_pb2.WatchRingResponse]:
        return ipam.WatchRing(ipam_pb2.WatchRingRequest(resume_token=token))

    async with aclosing(follow("ring", open_stream, decode)) as states:
        async for state in states:
            rings = {family: ring for family, ring in state.items.items() if ring is not None}
            if rings:
                node.learn_rings(rings)
                node.on_change()


async def follow_peers(node: Node, gossip: GossipAsyncStub) -> None:
    """Keeps the node's peers those of gossip, for ever; its own name comes from there too."""
    decode = event_decoder(_read_peer, lambda message: str(message.name))

    def open_stream(token: bytes) -> Stream[gossip_pb2.WatchPeersResponse]:
        return gossip.WatchPeers(gossip_pb2.WatchPeersRequest(resume_token=token))

    async with aclosing(follow("peers", open_stream, decode)) as states:
        async for state in states:
            known = [entry for entry in state.items.values() if entry is not None]
            for peer, message in known:
                if message.self and (node.name, node.underlay) != (peer.name, peer.underlay):
                    node.name, node.underlay = peer.name, peer.underlay
                    log.info("Our name is %s", peer.name)
            node.learn_peers(peer for peer, _ in known)
            node.present = frozenset(peer.name for peer, message in known if message.reachable)
            node.on_change()


async def own_overlay_address(node: Node, ipam: IpamAsyncStub) -> None:
    """Obtains the node's address in the overlay; what was held before stands until then."""
    request = ipam_pb2.AllocateRequest(key=codec.write_key(OVERLAY_KEY))
    while True:
        try:
            answer = await ipam.Allocate(request, timeout=_ALLOCATE_TIMEOUT_S)
        except grpc.aio.AioRpcError as error:
            log.debug("no overlay address yet", extra={"reason": error.details()})
            await asyncio.sleep(_RETRY_S)
            continue
        overlay = tuple(map(codec.read_host_prefix, answer.addresses))
        if overlay != node.overlay:
            log.info("overlay address", extra={"addresses": ", ".join(map(str, overlay))})
            node.overlay = overlay
            node.on_change()
        return


def _read_ring(message: ipam_pb2.RingView) -> tuple[Family, RingView | None]:
    try:
        return Family(message.family), codec.read_ring(message)
    except (Invalid, ValueError) as error:
        log.error("ring left out", extra={"reason": str(error)})  # noqa: TRY400 - not ours
        return Family.IPV4 if message.family != Family.IPV6 else Family.IPV6, None


def _read_peer(message: gossip_pb2.Peer) -> tuple[str, tuple[Peer, gossip_pb2.Peer] | None]:
    try:
        return message.name, (codec.read_peer(message), message)
    except Invalid as error:
        log.error("peer left out", extra={"reason": str(error)})  # noqa: TRY400 - not ours
        return message.name, None
