"""A router that attaches nothing: `ListAttachments` answers what a test put there."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

from weave.router.v1 import router_pb2, router_pb2_grpc
from weave_ipam.codec import key_to_proto, prefix_to_proto, workload_to_proto
from weave_model.attachment import AttachmentKey, Workload
from weave_model.prefix import Prefix
from weave_runtime.server import Server


@dataclass(frozen=True, slots=True)
class Attached:
    """One attachment as the kernel would show it."""

    addresses: tuple[Prefix, ...]
    workload: Workload = field(default_factory=Workload)
    generation: int = 1
    sandbox_exists: bool = True


class FakeRouter:
    """`async with` it to serve; change `attached` at any time."""

    def __init__(self, socket_path: Path) -> None:
        self.attached: dict[AttachmentKey, Attached] = {}
        self._socket_path = socket_path
        self._server: Server | None = None

    async def __aenter__(self) -> Self:
        self._server = Server(self._socket_path, ready=str, grace_s=0)
        # What ipam never calls is left to the base class, which answers UNIMPLEMENTED.
        servicer = _Router(self.attached)  # type: ignore[abstract]
        self._server.add(router_pb2_grpc.add_RouterServicer_to_server, servicer)
        await self._server.__aenter__()
        return self

    async def __aexit__(self, *exc: object) -> None:
        assert self._server
        await self._server.__aexit__(*exc)


class _Router(router_pb2_grpc.RouterServicer):
    def __init__(self, attached: dict[AttachmentKey, Attached]) -> None:
        self._attached = attached

    async def ListAttachments(  # noqa: N802
        self, request: router_pb2.ListAttachmentsRequest, _context: Any
    ) -> router_pb2.ListAttachmentsResponse:
        return router_pb2.ListAttachmentsResponse(
            items=[
                _item(key, attached)
                for key, attached in self._attached.items()
                if request.network in ("", key.network)
            ]
        )


def _item(key: AttachmentKey, attached: Attached) -> router_pb2.ListAttachmentsResponse.Item:
    return router_pb2.ListAttachmentsResponse.Item(
        attachment=router_pb2.Attachment(
            key=key_to_proto(key),
            addresses=[prefix_to_proto(address) for address in attached.addresses],
            workload=workload_to_proto(attached.workload),
            generation=attached.generation,
        ),
        state=router_pb2.ATTACHMENT_STATE_ACTIVE,
        host_interface=f"vethwepl{abs(hash(key)) % 0xFFFFFF:06x}",
        sandbox_exists=attached.sandbox_exists,
    )
