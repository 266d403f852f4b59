"""The gRPC face of one peer of a fake mesh: services Gossip and Coordination on one socket."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any, Self, TypeVar

from weave.gossip.v1 import gossip_pb2, gossip_pb2_grpc
from weave.types.v1 import types_pb2
from weave_ipam.testing.mesh import Coordinated, Document, MeshPeer, Peer
from weave_model.errors import Invalid, NotReady
from weave_model.peer import PeerName
from weave_runtime.server import Server
from weave_runtime.watch import Removed, SnapshotStart, Synced, Table, Upsert

K = TypeVar("K")
V = TypeVar("V")
R = TypeVar("R")


class FakeGossip:
    """A gossip process: `async with` it to serve; enter it again and it has restarted."""

    def __init__(self, socket_path: Path, peer: MeshPeer, coordinated: Coordinated) -> None:
        self.socket_path = socket_path
        self.peer = peer
        self.coordination = FakeCoordination(coordinated)
        self._server: Server | None = None

    async def __aenter__(self) -> Self:
        self._server = Server(self.socket_path, ready=str, grace_s=0)
        self._server.add(gossip_pb2_grpc.add_GossipServicer_to_server, _Gossip(self.peer))
        self._server.add(gossip_pb2_grpc.add_CoordinationServicer_to_server, self.coordination)
        await self._server.__aenter__()
        return self

    async def __aexit__(self, *exc: object) -> None:
        assert self._server
        await self._server.__aexit__(*exc)


class _Gossip(gossip_pb2_grpc.GossipServicer):
    def __init__(self, peer: MeshPeer) -> None:
        self._peer = peer

    async def Publish(self, request: gossip_pb2.PublishRequest, _context: Any) -> Any:  # noqa: N802
        document = self._peer.publish(request.topic, request.key, request.payload)
        return gossip_pb2.PublishResponse(
            incarnation=document.incarnation, version=document.version
        )

    async def Withdraw(self, request: gossip_pb2.WithdrawRequest, _context: Any) -> Any:  # noqa: N802
        self._peer.withdraw(request.topic, request.key)
        return gossip_pb2.WithdrawResponse()

    async def WatchDocuments(  # noqa: N802
        self, request: gossip_pb2.WatchDocumentsRequest, _context: Any
    ) -> AsyncIterator[gossip_pb2.WatchDocumentsResponse]:
        def removed(key: tuple[PeerName, str]) -> dict[str, Any]:
            writer, name = key
            gone = gossip_pb2.WatchDocumentsResponse.Removed(writer=str(writer), key=name)
            return {"removed": gone}

        table = self._peer.documents(request.topic)
        async for parts in _events(table, request.resume_token, _document, removed):
            yield gossip_pb2.WatchDocumentsResponse(**parts)

    async def Quarantine(self, request: gossip_pb2.QuarantineRequest, _context: Any) -> Any:  # noqa: N802
        document = Document(
            request.topic,
            _name(request.writer),
            request.key,
            request.incarnation,
            request.version,
            b"",
        )
        self._peer.quarantine(document, request.reason)
        return gossip_pb2.QuarantineResponse()

    async def WatchPeers(  # noqa: N802
        self, request: gossip_pb2.WatchPeersRequest, _context: Any
    ) -> AsyncIterator[gossip_pb2.WatchPeersResponse]:
        def present(peer: Peer) -> dict[str, Any]:
            return {"peer": _peer(peer, self._peer.name)}

        def removed(name: PeerName) -> dict[str, Any]:
            return {"removed": gossip_pb2.WatchPeersResponse.Removed(name=str(name))}

        async for parts in _events(self._peer.peers, request.resume_token, present, removed):
            yield gossip_pb2.WatchPeersResponse(**parts)

    async def Send(self, request: gossip_pb2.SendRequest, _context: Any) -> Any:  # noqa: N802
        self._peer.send(_name(request.peer), request.topic, request.payload)
        return gossip_pb2.SendResponse()

    async def Receive(  # noqa: N802
        self, request: gossip_pb2.ReceiveRequest, _context: Any
    ) -> AsyncIterator[gossip_pb2.ReceiveResponse]:
        inbox = self._peer.open_inbox(request.topic)
        try:
            await _context.send_initial_metadata(())
            while True:
                source, payload = await inbox.get()
                yield gossip_pb2.ReceiveResponse(source=str(source), payload=payload)
        finally:
            self._peer.close_inbox(request.topic, inbox)

    async def Connect(self, request: gossip_pb2.ConnectRequest, _context: Any) -> Any:  # noqa: N802
        known = [] if request.replace else self._peer.targets
        self._peer.targets = list(dict.fromkeys((*known, *request.targets)))
        return gossip_pb2.ConnectResponse()

    async def Forget(self, request: gossip_pb2.ForgetRequest, _context: Any) -> Any:  # noqa: N802
        self._peer.targets = [t for t in self._peer.targets if t not in request.targets]
        return gossip_pb2.ForgetResponse()

    async def RemovePeer(self, request: gossip_pb2.RemovePeerRequest, _context: Any) -> Any:  # noqa: N802
        self._peer.remove_peer(_name(request.name))
        return gossip_pb2.RemovePeerResponse()

    async def GetStatus(self, _request: gossip_pb2.GetStatusRequest, _context: Any) -> Any:  # noqa: N802
        return gossip_pb2.GetStatusResponse(
            name=str(self._peer.name),
            nickname=self._peer.nickname,
            incarnation=self._peer.incarnation,
            targets=self._peer.targets,
            quarantined=[
                gossip_pb2.GetStatusResponse.QuarantinedDocument(
                    topic=document.topic,
                    writer=str(document.writer),
                    key=document.key,
                    incarnation=document.incarnation,
                    version=document.version,
                    reason=reason,
                )
                for document, reason in (
                    (found.document, found.reason) for found in self._peer.quarantined.values()
                )
            ],
        )


class FakeCoordination(gossip_pb2_grpc.CoordinationServicer):
    """Coordination whose back-end can be away: set `is_away`."""

    def __init__(self, coordinated: Coordinated) -> None:
        self._coordinated = coordinated
        self.is_away = False

    async def Get(self, request: gossip_pb2.GetRequest, _context: Any) -> Any:  # noqa: N802
        self._check()
        revision, value = self._coordinated.get(request.key)
        return gossip_pb2.GetResponse(exists=revision > 0, revision=revision, value=value)

    async def CompareAndSwap(  # noqa: N802
        self, request: gossip_pb2.CompareAndSwapRequest, _context: Any
    ) -> Any:
        self._check()
        revision = self._coordinated.compare_and_swap(
            request.key, request.expected_revision, request.value
        )
        return gossip_pb2.CompareAndSwapResponse(revision=revision)

    async def Watch(  # noqa: N802
        self, request: gossip_pb2.WatchRequest, _context: Any
    ) -> AsyncIterator[gossip_pb2.WatchResponse]:
        self._check()
        async for event in self._coordinated.table.subscribe(request.resume_token):
            match event:
                case SnapshotStart():
                    yield gossip_pb2.WatchResponse(snapshot_start=types_pb2.SnapshotStart())
                case Synced(token):
                    yield gossip_pb2.WatchResponse(synced=types_pb2.Synced(resume_token=token))
                case Upsert(key, (revision, value)) if key.startswith(request.prefix):
                    entry = gossip_pb2.WatchResponse.Entry(key=key, revision=revision, value=value)
                    yield gossip_pb2.WatchResponse(entry=entry)

    def _check(self) -> None:
        if self.is_away:
            raise NotReady("the back-end of Coordination is away")


async def _events(
    table: Table[K, V],
    token: bytes,
    present: Callable[[V], dict[str, Any]],
    removed: Callable[[K], dict[str, Any]],
) -> AsyncIterator[dict[str, Any]]:
    """The parts that the `event` of a watch's messages is made of."""
    async for event in table.subscribe(token):
        match event:
            case SnapshotStart():
                yield {"snapshot_start": types_pb2.SnapshotStart()}
            case Synced(now):
                yield {"synced": types_pb2.Synced(resume_token=now)}
            case Upsert(_, item):
                yield present(item)
            case Removed(key):
                yield removed(key)


def _document(document: Document) -> dict[str, Any]:
    message = gossip_pb2.Document(
        topic=document.topic,
        writer=str(document.writer),
        key=document.key,
        incarnation=document.incarnation,
        version=document.version,
        payload=document.payload,
    )
    return {"document": message}


def _peer(peer: Peer, own: PeerName) -> gossip_pb2.Peer:
    return gossip_pb2.Peer(
        name=str(peer.name),
        nickname=peer.nickname,
        self=peer.name == own,
        reachable=peer.reachable,
        incarnation=peer.incarnation,
        node_uid=peer.node_uid,
    )


def _name(text: str) -> PeerName:
    try:
        return PeerName.parse(text)
    except ValueError as error:
        raise Invalid(str(error)) from error
