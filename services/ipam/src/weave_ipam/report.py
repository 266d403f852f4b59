"""Status, findings and allocations as their messages."""

from __future__ import annotations

from weave.ipam.v1 import ipam_pb2
from weave_ipam.audit import Finding
from weave_ipam.codec import (
    key_to_proto,
    prefix_to_proto,
    prefixes_to_proto,
    view_to_proto,
    workload_to_proto,
)
from weave_ipam.core.records import Allocation
from weave_ipam.core.results import AddressConflict, FamilyStatus, Share
from weave_model.prefix import format_address


def family_to_proto(status: FamilyStatus) -> ipam_pb2.GetStatusResponse.Family:
    """One family's status."""
    return ipam_pb2.GetStatusResponse.Family(
        family=status.universe.family,
        universe=prefix_to_proto(status.universe),
        default_subnet=prefix_to_proto(status.default_subnet),
        status=status.status,
        ready=status.ready and not status.exhausted,
        shares=[_share(share) for share in status.shares],
        ring=view_to_proto(status.ring) if status.ring else None,
        active=status.active,
        quarantined=status.quarantined,
        conflicting=len(status.conflicting),
        free=str(status.free),
        pending=status.pending,
        conflicts=[*map(_conflict_text, status.conflicting), *status.troubles],
        exhausted=bool(status.exhausted),
    )


def finding_to_proto(finding: Finding, *, repaired: bool) -> ipam_pb2.CheckResponse.Finding:
    """One finding of a check."""
    return ipam_pb2.CheckResponse.Finding(
        kind=finding.kind,
        key=key_to_proto(finding.key),
        addresses=prefixes_to_proto(finding.addresses),
        since_unix_s=finding.since,
        advice=finding.advice,
        repaired=repaired,
    )


def allocation_to_proto(allocation: Allocation) -> ipam_pb2.Allocation:
    """One allocation."""
    return ipam_pb2.Allocation(
        key=key_to_proto(allocation.key),
        workload=workload_to_proto(allocation.workload),
        addresses=prefixes_to_proto(allocation.addresses),
        generation=allocation.generation,
        since_unix_s=allocation.since,
    )


def _share(share: Share) -> ipam_pb2.GetStatusResponse.Share:
    return ipam_pb2.GetStatusResponse.Share(
        peer=str(share.peer),
        nickname=share.nickname,
        reachable=share.reachable,
        self=share.self_,
        addresses=str(share.addresses),
        fraction=share.fraction,
    )


def _conflict_text(conflict: AddressConflict) -> str:
    address = format_address(conflict.address.family, conflict.address.address)
    owner = f"owned by peer {conflict.owner}" if conflict.owner else "owned by nobody"
    return f"{address} in use by {conflict.key} is {owner}"
