"""What ipam asks of the router: which attachments the kernel shows."""

from __future__ import annotations

from dataclasses import dataclass

import grpc

from weave.router.v1 import router_pb2, router_pb2_grpc
from weave_ipam.codec import host_from_proto, key_from_proto, workload_from_proto
from weave_model.attachment import AttachmentKey, Workload
from weave_model.errors import DomainError
from weave_model.prefix import Prefix
from weave_runtime.status import error_of

# The router reads the kernel for the answer: 10,000 routes take it 0.7 s.
CALL_TIMEOUT_S = 10.0


@dataclass(frozen=True, slots=True)
class Attachment:
    """One attachment in the kernel; `addresses` are host prefixes."""

    key: AttachmentKey
    addresses: tuple[Prefix, ...]
    workload: Workload
    sandbox_exists: bool


class RouterClient:
    """Service Router as ipam uses it."""

    def __init__(self, channel: grpc.aio.Channel) -> None:
        self._router = router_pb2_grpc.RouterStub(channel)

    async def attachments(self) -> list[Attachment]:
        """All attachments of this node. Raises DomainError; NotReady while no router answers."""
        try:
            answer = await self._router.ListAttachments(
                router_pb2.ListAttachmentsRequest(), timeout=CALL_TIMEOUT_S
            )
        except grpc.aio.AioRpcError as error:
            raise error_of(error) from error
        try:
            return [_attachment(item) for item in answer.items]
        except ValueError as error:
            raise DomainError(f"the router lists an attachment that cannot be: {error}") from error


def _attachment(item: router_pb2.ListAttachmentsResponse.Item) -> Attachment:
    message = item.attachment
    return Attachment(
        key_from_proto(message.key),
        tuple(host_from_proto(address) for address in message.addresses),
        workload_from_proto(message.workload),
        item.sandbox_exists,
    )
