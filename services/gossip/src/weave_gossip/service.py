"""The gRPC services Gossip and Coordination; contracts are in gossip.proto."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from typing import Any

from weave.gossip.v1 import gossip_pb2, gossip_pb2_grpc
from weave.types.v1 import types_pb2
from weave_gossip.codec import face
from weave_gossip.coordination.backend import Coordination
from weave_gossip.core.errors import InvalidDocument, NoRoute, PeerReachable
from weave_gossip.failures import Failures
from weave_gossip.link.greeting import MAX_PROTOCOL, MIN_PROTOCOL
from weave_gossip.loop import Driver
from weave_gossip.settings import Settings
from weave_gossip.views import Views
from weave_model.errors import Absent, Conflict, Invalid
from weave_runtime.watch import Removed, SnapshotStart, Synced, Upsert

# Messages are for small questions and answers; bulk belongs into documents.
MAX_MESSAGE_BYTES = 64 << 10

Context = Any


class GossipService(gossip_pb2_grpc.GossipServicer):
    """The local face of the mesh."""

    def __init__(
        self,
        driver: Driver,
        views: Views,
        settings: Settings,
        failures: Failures,
    ) -> None:
        self._driver = driver
        self._views = views
        self._settings = settings
        self._failures = failures

    async def Publish(
        self, request: gossip_pb2.PublishRequest, context: Context
    ) -> gossip_pb2.PublishResponse:
        with _mesh_errors():
            document = await self._driver.call_durably(
                lambda mesh, now: mesh.publish(request.topic, request.key, request.payload, now)
            )
        return gossip_pb2.PublishResponse(
            incarnation=document.incarnation, version=document.version
        )

    async def Withdraw(
        self, request: gossip_pb2.WithdrawRequest, context: Context
    ) -> gossip_pb2.WithdrawResponse:
        with _mesh_errors():
            await self._driver.call_durably(
                lambda mesh, now: mesh.withdraw(request.topic, request.key, now)
            )
        return gossip_pb2.WithdrawResponse()

    async def WatchDocuments(
        self, request: gossip_pb2.WatchDocumentsRequest, context: Context
    ) -> AsyncIterator[gossip_pb2.WatchDocumentsResponse]:
        response = gossip_pb2.WatchDocumentsResponse
        table = self._views.documents(request.topic)
        async for event in table.subscribe(request.resume_token):
            match event:
                case SnapshotStart():
                    yield response(snapshot_start=types_pb2.SnapshotStart())
                case Upsert(_, document):
                    yield response(document=face.document_to_proto(document))
                case Removed((writer, key)):
                    yield response(removed=response.Removed(writer=str(writer), key=key))
                case Synced(token):
                    yield response(synced=types_pb2.Synced(resume_token=token))

    async def Quarantine(
        self, request: gossip_pb2.QuarantineRequest, context: Context
    ) -> gossip_pb2.QuarantineResponse:
        document_id = face.document_id_from_text(request.topic, request.writer, request.key)
        self._driver.call(
            lambda mesh, now: mesh.quarantine(
                document_id, request.incarnation, request.version, request.reason, now
            )
        )
        return gossip_pb2.QuarantineResponse()

    async def WatchPeers(
        self, request: gossip_pb2.WatchPeersRequest, context: Context
    ) -> AsyncIterator[gossip_pb2.WatchPeersResponse]:
        response = gossip_pb2.WatchPeersResponse
        async for event in self._views.peers.subscribe(request.resume_token):
            match event:
                case SnapshotStart():
                    yield response(snapshot_start=types_pb2.SnapshotStart())
                case Upsert(_, peer):
                    yield response(peer=face.peer_to_proto(peer))
                case Removed(name):
                    yield response(removed=response.Removed(name=str(name)))
                case Synced(token):
                    yield response(synced=types_pb2.Synced(resume_token=token))

    async def Send(
        self, request: gossip_pb2.SendRequest, context: Context
    ) -> gossip_pb2.SendResponse:
        destination = face.peer_name_from_text(request.peer)
        if len(request.payload) > MAX_MESSAGE_BYTES:
            size = len(request.payload)
            raise Invalid(f"a message of {size} bytes is over the limit of {MAX_MESSAGE_BYTES}")
        with _mesh_errors():
            self._driver.call(
                lambda mesh, now: mesh.send_unicast(
                    destination, request.topic, request.payload, now
                )
            )
        return gossip_pb2.SendResponse()

    async def Receive(
        self, request: gossip_pb2.ReceiveRequest, context: Context
    ) -> AsyncIterator[gossip_pb2.ReceiveResponse]:
        async with self._views.subscribed(request.topic) as messages:
            # Tells the caller that messages count from now on.
            await context.send_initial_metadata(())
            while True:
                message = await messages.get()
                yield gossip_pb2.ReceiveResponse(
                    source=str(message.source), payload=message.payload
                )

    async def Connect(
        self, request: gossip_pb2.ConnectRequest, context: Context
    ) -> gossip_pb2.ConnectResponse:
        targets = face.targets_from_text(request.targets, self._settings.port)
        await self._driver.call_durably(
            lambda mesh, now: mesh.connect(
                list(map(str, targets)), replace=request.replace, now=now
            )
        )
        return gossip_pb2.ConnectResponse()

    async def Forget(
        self, request: gossip_pb2.ForgetRequest, context: Context
    ) -> gossip_pb2.ForgetResponse:
        targets = face.targets_from_text(request.targets, self._settings.port)
        await self._driver.call_durably(lambda mesh, now: mesh.forget(list(map(str, targets)), now))
        return gossip_pb2.ForgetResponse()

    async def RemovePeer(
        self, request: gossip_pb2.RemovePeerRequest, context: Context
    ) -> gossip_pb2.RemovePeerResponse:
        name = face.peer_name_from_text(request.name)
        with _mesh_errors():
            await self._driver.call_durably(lambda mesh, now: mesh.remove_peer(name, now))
        return gossip_pb2.RemovePeerResponse()

    async def GetStatus(
        self, request: gossip_pb2.GetStatusRequest, context: Context
    ) -> gossip_pb2.GetStatusResponse:
        settings = self._settings
        status = self._driver.ask(lambda mesh: mesh.status())
        offset_s = time.time() - self._driver.now()
        connections = [
            face.connection_to_proto(
                connection,
                is_encrypted=settings.is_encrypted,
                unix_offset_s=offset_s,
                lost="" if connection.peer is None else self._failures.of(connection.peer),
            )
            for connection in self._driver.ask(lambda mesh: mesh.connections())
        ]
        connections += [
            gossip_pb2.Connection(
                address=refused.address,
                state=gossip_pb2.CONNECTION_STATE_FAILED,
                last_error=refused.reason,
            )
            for refused in self._failures.refused_inbound()
        ]
        return gossip_pb2.GetStatusResponse(
            version=settings.version,
            name=str(settings.name),
            nickname=settings.nickname,
            min_protocol=MIN_PROTOCOL,
            max_protocol=MAX_PROTOCOL,
            encrypted=settings.is_encrypted,
            discovery=settings.discovery,
            port=settings.port,
            targets=self._driver.ask(lambda mesh: mesh.targets()),
            connections=connections,
            peers=map(face.peer_links_to_proto, self._driver.ask(lambda mesh: mesh.peer_links())),
            quarantined=[
                face.quarantined_to_proto(item, unix_offset_s=offset_s)
                for item in self._driver.ask(lambda mesh: mesh.quarantined())
            ],
            incarnation=self._driver.own_hello(0).incarnation,
            documents=status.documents,
            terminated_connections=status.terminated_connections,
            connection_limit=status.connection_limit,
        )


class CoordinationService(gossip_pb2_grpc.CoordinationServicer):
    """Small agreed values, for what gossip cannot decide."""

    def __init__(self, coordination: Coordination) -> None:
        self._coordination = coordination

    async def Get(self, request: gossip_pb2.GetRequest, context: Context) -> gossip_pb2.GetResponse:
        entry = await self._coordination.get(request.key)
        if entry is None:
            return gossip_pb2.GetResponse()
        return gossip_pb2.GetResponse(exists=True, revision=entry.revision, value=entry.value)

    async def CompareAndSwap(
        self, request: gossip_pb2.CompareAndSwapRequest, context: Context
    ) -> gossip_pb2.CompareAndSwapResponse:
        revision = await self._coordination.compare_and_swap(
            request.key, request.expected_revision, request.value
        )
        return gossip_pb2.CompareAndSwapResponse(revision=revision)

    async def Watch(
        self, request: gossip_pb2.WatchRequest, context: Context
    ) -> AsyncIterator[gossip_pb2.WatchResponse]:
        response = gossip_pb2.WatchResponse
        async for event in self._coordination.entries.subscribe(request.resume_token):
            match event:
                case SnapshotStart():
                    yield response(snapshot_start=types_pb2.SnapshotStart())
                case Upsert(key, entry) if key.startswith(request.prefix):
                    yield response(
                        entry=response.Entry(key=key, revision=entry.revision, value=entry.value)
                    )
                case Synced(token):
                    yield response(synced=types_pb2.Synced(resume_token=token))
                case _:
                    # Of another prefix; keys are never removed.
                    continue


@contextmanager
def _mesh_errors() -> Iterator[None]:
    try:
        yield
    except InvalidDocument as error:
        raise Invalid(str(error)) from error
    except NoRoute as error:
        raise Absent(str(error)) from error
    except PeerReachable as error:
        raise Conflict(str(error)) from error
