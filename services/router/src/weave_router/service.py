"""The gRPC face of the router; see proto/weave/router/v1/router.proto for what each call
promises."""

from __future__ import annotations

from typing import Any

from weave.router.v1 import router_pb2 as pb
from weave.router.v1.router_pb2_grpc import RouterServicer
from weave_model.prefix import Prefix
from weave_router import codec
from weave_router.core import naming
from weave_router.core.attachments import Phase, Record
from weave_router.core.inputs import PathKind
from weave_router.inputs import OVERLAY_KEY
from weave_router.path_status import path_statuses
from weave_router.router import Router

_PATH_KINDS = {
    PathKind.NONE: pb.PATH_KIND_NONE,
    PathKind.DIRECT: pb.PATH_KIND_DIRECT,
    PathKind.VXLAN: pb.PATH_KIND_VXLAN,
    PathKind.RELAY: pb.PATH_KIND_RELAY,
}


class RouterService(RouterServicer):
    """Translates; decides nothing."""

    def __init__(self, router: Router) -> None:
        self._router = router

    async def Prepare(self, request: pb.PrepareRequest, context: Any) -> pb.PrepareResponse:
        """See the proto."""
        wanted = codec.read_attachment(request.attachment)
        record = await self._router.attacher.prepare(wanted, opens=request.activate)
        return pb.PrepareResponse(
            host_interface=record.link,
            host_mac=naming.GATEWAY_MAC,
            mac=record.attachment.hardware_address,
            mtu=record.mtu,
            routes=map(codec.write_route, record.routes),
            gateways=[
                gateway.to_bytes()
                for gateway in self._router.node.gateways(record.attachment.addresses)
            ],
            activated=request.activate,
        )

    async def Activate(self, request: pb.ActivateRequest, context: Any) -> pb.ActivateResponse:
        """See the proto."""
        await self._router.attacher.activate(codec.read_key(request.key), request.generation)
        return pb.ActivateResponse()

    async def Detach(self, request: pb.DetachRequest, context: Any) -> pb.DetachResponse:
        """See the proto."""
        detached = await self._router.attacher.detach(codec.read_key(request.key))
        return pb.DetachResponse(detached=detached)

    async def Check(self, request: pb.CheckRequest, context: Any) -> pb.CheckResponse:
        """See the proto."""
        found = await self._router.check(codec.read_key(request.key), request.netns_path)
        return pb.CheckResponse(
            differences=[
                pb.CheckResponse.Difference(kind=d.kind, expected=d.expected, found=d.found)
                for d in found
            ]
        )

    async def ListAttachments(
        self, request: pb.ListAttachmentsRequest, context: Any
    ) -> pb.ListAttachmentsResponse:
        """See the proto."""
        records = [
            record
            for record in self._router.node.attachments
            if not request.network or record.key.network == request.network
        ]
        links = await self._router.existing_links(record.link for record in records)
        items = [_item(record, record.link in links) for record in records]
        overlay = self._router.node.overlay
        if overlay and request.network in ("", OVERLAY_KEY.network):
            items.insert(0, _own_item(overlay))
        return pb.ListAttachmentsResponse(items=items)

    async def Expose(self, request: pb.ExposeRequest, context: Any) -> pb.ExposeResponse:
        """See the proto."""
        overlay = await self._router.expose(exposed=True)
        return pb.ExposeResponse(addresses=codec.write_prefixes(overlay))

    async def Hide(self, request: pb.HideRequest, context: Any) -> pb.HideResponse:
        """See the proto."""
        overlay = await self._router.expose(exposed=False)
        return pb.HideResponse(addresses=codec.write_prefixes(overlay))

    async def Reset(self, request: pb.ResetRequest, context: Any) -> pb.ResetResponse:
        """See the proto."""
        return pb.ResetResponse(left=await self._router.reset())

    async def GetStatus(self, request: pb.GetStatusRequest, context: Any) -> pb.GetStatusResponse:
        """See the proto."""
        router, node = self._router, self._router.node
        report = router.reconciler.report
        reason = router.not_ready()
        return pb.GetStatusResponse(
            ready=not reason,
            reason=reason,
            overlay_addresses=codec.write_prefixes(node.overlay or ()),
            exposed=node.exposed,
            mtu=node.mtu,
            paths=[
                pb.GetStatusResponse.Path(
                    peer=str(status.peer),
                    kind=_PATH_KINDS[status.kind],
                    via=str(status.via) if status.via is not None else "",
                    underlay_address=status.underlay.to_bytes() if status.underlay else b"",
                    mtu=status.mtu,
                    rtt_s=status.rtt_s,
                    last_error=status.last_error,
                )
                for status in path_statuses(router.node)
            ],
            attachments=len(node.attachments),
            repairs=router.notes.repairs,
            drift=[
                pb.GetStatusResponse.Drift(
                    what=entry.what, since_unix_s=entry.since_unix_s, repaired=entry.repaired
                )
                for entry in router.notes.entries
            ],
            blocked_by=report.blocked_by,
        )


def _own_item(overlay: tuple[Prefix, ...]) -> pb.ListAttachmentsResponse.Item:
    """The node's own address: in use like any other, so ipam must hear of it."""
    return pb.ListAttachmentsResponse.Item(
        attachment=pb.Attachment(
            key=codec.write_key(OVERLAY_KEY),
            addresses=codec.write_prefixes(overlay),
            mac=naming.GATEWAY_MAC,
        ),
        state=pb.ATTACHMENT_STATE_ACTIVE,
        host_interface=naming.BRIDGE,
        sandbox_exists=True,
    )


def _item(record: Record, has_link: bool) -> pb.ListAttachmentsResponse.Item:
    state = {
        Phase.PREPARING: pb.ATTACHMENT_STATE_PREPARED,
        Phase.PREPARED: pb.ATTACHMENT_STATE_PREPARED,
        Phase.ACTIVE: pb.ATTACHMENT_STATE_ACTIVE,
    }[record.phase]
    is_broken = not has_link and record.phase is not Phase.PREPARING
    attachment = codec.write_attachment(record.attachment)
    # As the kernel shows it, also where the caller of Prepare left the choice to the router.
    attachment.mac = record.attachment.hardware_address
    return pb.ListAttachmentsResponse.Item(
        attachment=attachment,
        state=pb.ATTACHMENT_STATE_BROKEN if is_broken else state,
        host_interface=record.link,
        sandbox_exists=not is_broken,
    )
