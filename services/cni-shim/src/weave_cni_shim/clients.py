"""The other services over their sockets: weave_cni_shim.backends by gRPC."""

from __future__ import annotations

from collections.abc import Awaitable, Sequence
from typing import TypeVar

import grpc

from weave.ipam.v1 import ipam_pb2, ipam_pb2_grpc
from weave.npc.v1 import npc_pb2, npc_pb2_grpc
from weave.router.v1 import router_pb2, router_pb2_grpc
from weave_cni_shim import codec
from weave_cni_shim.core.port import Allocated, LiveAttachment, Port, PreparedPort
from weave_model.attachment import AttachmentKey, Workload
from weave_model.errors import NotReady
from weave_model.prefix import Prefix
from weave_runtime.status import error_of

T = TypeVar("T")

# Local calls that change little; a service that takes longer is as good as away.
CALL_S = 10.0
# Part of STATUS, which a kubelet asks for every 5 s.
STATUS_S = 1.0


# What gRPC itself says of a service that is away or dies during a call; a service's own UNAVAILABLE
# has a reason of its own.
_LOST = (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.UNKNOWN)
_LOST_WORDS = ("onnect", "Stream removed", "Socket closed", "GOAWAY")


async def _answer(service: str, call: Awaitable[T]) -> T:
    """Waits for an RPC; its failure becomes the domain error it stands for."""
    try:
        return await call
    except grpc.aio.AioRpcError as error:
        if error.code() in _LOST and any(word in (error.details() or "") for word in _LOST_WORDS):
            raise NotReady(f"{service} does not answer") from error
        raise error_of(error) from error


class GrpcIpam:
    """Ipam over its socket."""

    def __init__(self, channel: grpc.aio.Channel) -> None:
        self._stub = ipam_pb2_grpc.IpamStub(channel)

    async def allocate(
        self,
        key: AttachmentKey,
        workload: Workload,
        subnets: Sequence[Prefix],
        requested: Sequence[Prefix],
        timeout_s: float,
    ) -> Allocated:
        request = ipam_pb2.AllocateRequest(
            key=codec.key_to_proto(key),
            workload=codec.workload_to_proto(workload),
            subnets=map(codec.prefix_to_proto, subnets),
            requested=map(codec.prefix_to_proto, requested),
        )
        answer = await _answer("ipam", self._stub.Allocate(request, timeout=timeout_s))
        addresses = tuple(map(codec.address_of, answer.addresses))
        return Allocated(addresses, answer.generation, answer.existed)

    async def claim(
        self,
        key: AttachmentKey,
        workload: Workload,
        addresses: Sequence[Prefix],
        timeout_s: float,
    ) -> int:
        request = ipam_pb2.ClaimRequest(
            key=codec.key_to_proto(key),
            workload=codec.workload_to_proto(workload),
            addresses=map(codec.prefix_to_proto, addresses),
        )
        return (await _answer("ipam", self._stub.Claim(request, timeout=timeout_s))).generation

    async def lookup(self, key: AttachmentKey) -> Allocated:
        request = ipam_pb2.LookupRequest(key=codec.key_to_proto(key))
        answer = await _answer("ipam", self._stub.Lookup(request, timeout=CALL_S))
        return Allocated(tuple(map(codec.address_of, answer.addresses)), answer.generation)

    async def release(self, key: AttachmentKey, generation: int = 0) -> tuple[Prefix, ...]:
        request = ipam_pb2.ReleaseRequest(key=codec.key_to_proto(key), generation=generation)
        answer = await _answer("ipam", self._stub.Release(request, timeout=CALL_S))
        return tuple(codec.address_of(item).host for item in answer.released)

    async def keys(self, network: str) -> list[AttachmentKey]:
        request = ipam_pb2.ListRequest(network=network)
        answer = await _answer("ipam", self._stub.List(request, timeout=CALL_S))
        return [codec.key_of(item.key) for item in answer.allocations]

    async def why_not_ready(self) -> str:
        answer = await _answer(
            "ipam", self._stub.GetStatus(ipam_pb2.GetStatusRequest(), timeout=STATUS_S)
        )
        return "" if answer.ready else f"ipam: {answer.reason or 'not ready'}"


class GrpcRouter:
    """Router over its socket."""

    def __init__(self, channel: grpc.aio.Channel) -> None:
        self._stub = router_pb2_grpc.RouterStub(channel)
        self.is_impaired = False

    async def prepare(self, port: Port, *, opens: bool = False) -> PreparedPort:
        request = router_pb2.PrepareRequest(attachment=codec.port_to_proto(port), activate=opens)
        answer = await _answer("router", self._stub.Prepare(request, timeout=CALL_S))
        return PreparedPort(
            host_interface=answer.host_interface,
            host_mac=answer.host_mac,
            mac=answer.mac,
            mtu=answer.mtu,
            routes=tuple(map(codec.route_of, answer.routes)),
            gateways=tuple(map(codec.host_of, answer.gateways)),
            is_open=answer.activated,
        )

    async def activate(self, key: AttachmentKey, generation: int) -> None:
        request = router_pb2.ActivateRequest(key=codec.key_to_proto(key), generation=generation)
        await _answer("router", self._stub.Activate(request, timeout=CALL_S))

    async def detach(self, key: AttachmentKey, netns: str) -> None:
        request = router_pb2.DetachRequest(key=codec.key_to_proto(key), netns_path=netns)
        await _answer("router", self._stub.Detach(request, timeout=CALL_S))

    async def check(self, key: AttachmentKey, netns: str) -> list[str]:
        request = router_pb2.CheckRequest(key=codec.key_to_proto(key), netns_path=netns)
        answer = await _answer("router", self._stub.Check(request, timeout=CALL_S))
        return [
            f"{item.kind}: expected {item.expected}, found {item.found or 'none'}"
            for item in answer.differences
        ]

    async def attachments(self, network: str) -> list[LiveAttachment]:
        request = router_pb2.ListAttachmentsRequest(network=network)
        answer = await _answer("router", self._stub.ListAttachments(request, timeout=CALL_S))
        return [
            LiveAttachment(
                codec.key_of(item.attachment.key),
                sandbox_exists=item.sandbox_exists,
                is_open=item.state != router_pb2.ATTACHMENT_STATE_PREPARED,
            )
            for item in answer.items
        ]

    async def why_not_ready(self) -> str:
        self.is_impaired = False
        answer = await _answer(
            "router", self._stub.GetStatus(router_pb2.GetStatusRequest(), timeout=STATUS_S)
        )
        is_whole = answer.ready and not answer.blocked_by
        self.is_impaired = bool(answer.attachments) and not is_whole
        return "" if answer.ready else f"router: {answer.reason or 'not ready'}"


class GrpcNpc:
    """Npc over its socket."""

    has_a_say = True

    def __init__(self, channel: grpc.aio.Channel) -> None:
        self._stub = npc_pb2_grpc.NpcStub(channel)

    async def admit(self, port: Port, host_interface: str) -> None:
        request = npc_pb2.AdmitRequest(
            key=codec.key_to_proto(port.key),
            workload=codec.workload_to_proto(port.workload),
            addresses=map(codec.prefix_to_proto, port.addresses),
            host_interface=host_interface,
            generation=port.generation,
        )
        await _answer("npc", self._stub.Admit(request, timeout=CALL_S))

    async def retire(self, key: AttachmentKey) -> None:
        request = npc_pb2.RetireRequest(key=codec.key_to_proto(key))
        await _answer("npc", self._stub.Retire(request, timeout=CALL_S))

    async def why_not_ready(self) -> str:
        answer = await _answer(
            "npc", self._stub.GetStatus(npc_pb2.GetStatusRequest(), timeout=STATUS_S)
        )
        return "" if answer.ready else f"npc: {answer.reason or 'not ready'}"
