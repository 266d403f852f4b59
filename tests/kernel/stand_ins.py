"""Stand-ins for gossip and ipam: as much of their interfaces as the router calls."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from weave.gossip.v1 import gossip_pb2
from weave.gossip.v1.gossip_pb2_grpc import GossipServicer, add_GossipServicer_to_server
from weave.ipam.v1 import ipam_pb2
from weave.ipam.v1.ipam_pb2_grpc import IpamServicer, add_IpamServicer_to_server
from weave.types.v1 import types_pb2
from weave_model.peer import PeerName
from weave_model.prefix import Prefix
from weave_model.ring import RingView
from weave_router import codec
from weave_router.core.inputs import Peer
from weave_runtime.server import Server


@dataclass
class Facts:
    """What the stand-ins tell; change it, then call `changed()`."""

    name: PeerName
    peers: Sequence[Peer]
    rings: Sequence[RingView]
    overlay: Sequence[Prefix]
    published: dict[tuple[str, str], bytes] = field(default_factory=dict)
    # Of other nodes, by topic and writer.
    documents: dict[tuple[str, str], bytes] = field(default_factory=dict)
    quarantined: list[str] = field(default_factory=list)
    change: asyncio.Event = field(default_factory=asyncio.Event)

    def changed(self) -> None:
        """Makes all watchers read the facts anew."""
        self.change.set()
        self.change = asyncio.Event()


class FakeGossip(GossipServicer):
    """Peers of `Facts`; keeps what is published."""

    def __init__(self, facts: Facts) -> None:
        self._facts = facts

    async def WatchPeers(  # noqa: N802
        self, request: gossip_pb2.WatchPeersRequest, context: Any
    ) -> AsyncIterator[gossip_pb2.WatchPeersResponse]:
        while True:
            change = self._facts.change
            yield gossip_pb2.WatchPeersResponse(snapshot_start=types_pb2.SnapshotStart())
            for peer in self._facts.peers:
                message = gossip_pb2.Peer(
                    name=str(peer.name),
                    self=peer.name == self._facts.name,
                    reachable=True,
                    underlay_addresses=[address.to_bytes() for address in peer.underlay],
                )
                yield gossip_pb2.WatchPeersResponse(peer=message)
            yield gossip_pb2.WatchPeersResponse(synced=types_pb2.Synced())
            await change.wait()

    async def WatchDocuments(  # noqa: N802
        self, request: gossip_pb2.WatchDocumentsRequest, context: Any
    ) -> AsyncIterator[gossip_pb2.WatchDocumentsResponse]:
        while True:
            change = self._facts.change
            yield gossip_pb2.WatchDocumentsResponse(snapshot_start=types_pb2.SnapshotStart())
            for (topic, writer), payload in self._facts.documents.items():
                if topic == request.topic:
                    document = gossip_pb2.Document(topic=topic, writer=writer, payload=payload)
                    yield gossip_pb2.WatchDocumentsResponse(document=document)
            yield gossip_pb2.WatchDocumentsResponse(synced=types_pb2.Synced())
            await change.wait()

    async def Quarantine(  # noqa: N802
        self, request: gossip_pb2.QuarantineRequest, context: Any
    ) -> gossip_pb2.QuarantineResponse:
        self._facts.quarantined.append(f"{request.topic} {request.writer}: {request.reason}")
        return gossip_pb2.QuarantineResponse()

    async def Publish(  # noqa: N802
        self, request: gossip_pb2.PublishRequest, context: Any
    ) -> gossip_pb2.PublishResponse:
        self._facts.published[request.topic, request.key] = request.payload
        return gossip_pb2.PublishResponse(incarnation=1, version=1)


class FakeIpam(IpamServicer):
    """The ring and the overlay address of `Facts`."""

    def __init__(self, facts: Facts) -> None:
        self._facts = facts

    async def WatchRing(  # noqa: N802
        self, request: ipam_pb2.WatchRingRequest, context: Any
    ) -> AsyncIterator[ipam_pb2.WatchRingResponse]:
        while True:
            change = self._facts.change
            yield ipam_pb2.WatchRingResponse(snapshot_start=types_pb2.SnapshotStart())
            for view in self._facts.rings:
                yield ipam_pb2.WatchRingResponse(ring=_ring_message(view))
            yield ipam_pb2.WatchRingResponse(synced=types_pb2.Synced())
            await change.wait()

    async def Allocate(  # noqa: N802
        self, request: ipam_pb2.AllocateRequest, context: Any
    ) -> ipam_pb2.AllocateResponse:
        assert request.key.container_id == "weave:expose"
        addresses = codec.write_prefixes(self._facts.overlay)
        return ipam_pb2.AllocateResponse(addresses=addresses, generation=1)


@contextlib.asynccontextmanager
async def serving(facts: Facts, run_dir: Path) -> AsyncIterator[None]:
    """Serves both stand-ins where a router with this run directory looks for them."""
    gossip = Server(run_dir / "gossip" / "api.sock", ready=str, grace_s=0)
    gossip.add(add_GossipServicer_to_server, FakeGossip(facts))  # type: ignore[abstract]
    ipam = Server(run_dir / "ipam" / "api.sock", ready=str, grace_s=0)
    ipam.add(add_IpamServicer_to_server, FakeIpam(facts))  # type: ignore[abstract]
    async with gossip, ipam:
        yield


def _ring_message(view: RingView) -> ipam_pb2.RingView:
    return ipam_pb2.RingView(
        family=view.family,
        universe=codec.write_prefix(view.universe),
        blocks=[
            ipam_pb2.OwnedBlock(prefix=codec.write_prefix(b.prefix), owner=str(b.owner))
            for b in view.blocks
        ],
    )
