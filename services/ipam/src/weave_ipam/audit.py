"""Allocations against what the kernel shows: leaks, conflicts, strangers. No I/O.

Dead is only what is proven dead: its sandbox is gone while the router still sees its interface, or
it dates from before the machine started. An allocation without an interface is no proof: other
plugins take addresses from ipam too, and their interfaces are none of the router's business.
"""

from __future__ import annotations

import enum
from collections.abc import Iterable
from dataclasses import dataclass

from weave_ipam.core.records import Allocation
from weave_ipam.core.results import AddressConflict
from weave_ipam.router_client import Attachment
from weave_model.attachment import NODE_CONTAINER_ID, AttachmentKey, Workload
from weave_model.prefix import Prefix, format_address

# Between Allocate and Prepare of one ADD, and between Detach and Release of one DEL, lie seconds.
YOUNG_S = 60.0


class Kind(enum.StrEnum):
    """What is wrong."""

    LEAK = "leak"
    CONFLICT = "conflict"
    UNKNOWN = "unknown"


class Remedy(enum.Enum):
    """What a repair may do about it."""

    NONE = enum.auto()
    RELEASE = enum.auto()
    CLAIM = enum.auto()


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that is not as it should be."""

    kind: Kind
    key: AttachmentKey
    addresses: tuple[Prefix, ...]
    # Unix seconds; 0 where nobody knows.
    since: float
    advice: str
    remedy: Remedy
    generation: int = 0
    workload: Workload | None = None


def audit(
    allocations: Iterable[Allocation],
    attachments: Iterable[Attachment],
    conflicts: Iterable[AddressConflict],
    *,
    booted_at: int,
    now: float,
) -> list[Finding]:
    """All findings, sorted by key. Generations below `booted_at` are from before the boot."""
    by_key = {allocation.key: allocation for allocation in allocations}
    attached = {attachment.key: attachment for attachment in attachments}
    findings = [
        finding
        for key, allocation in by_key.items()
        if (finding := _judge(allocation, attached.get(key), booted_at, now)) is not None
    ]
    findings += [
        finding
        for key, attachment in attached.items()
        if (finding := _judge_attachment(attachment, by_key.get(key))) is not None
    ]
    findings += [_conflict(conflict) for conflict in conflicts]
    return sorted(findings, key=lambda finding: (finding.key, finding.kind))


def _judge(
    allocation: Allocation, attachment: Attachment | None, booted_at: int, now: float
) -> Finding | None:
    if allocation.key.container_id == NODE_CONTAINER_ID:
        return None
    if attachment is not None and not attachment.sandbox_exists:
        return _leak(allocation, "its sandbox is gone", Remedy.RELEASE)
    if attachment is not None:
        return None
    if allocation.generation < booted_at:
        return _leak(allocation, "it dates from before this machine started", Remedy.RELEASE)
    if now - allocation.since < YOUNG_S:
        return None
    return _leak(allocation, "the router has no interface for it", Remedy.NONE)


def _leak(allocation: Allocation, why: str, remedy: Remedy) -> Finding:
    what = (
        "weave ipam check --repair frees it"
        if remedy is Remedy.RELEASE
        else f"if container {allocation.key.container_id} is gone, DEL or GC of the container "
        "runtime frees it"
    )
    return Finding(
        Kind.LEAK,
        allocation.key,
        allocation.addresses,
        allocation.since,
        f"{why}: {what}",
        remedy,
        allocation.generation,
    )


def _judge_attachment(attachment: Attachment, allocation: Allocation | None) -> Finding | None:
    held = set(allocation.addresses) if allocation else set[Prefix]()
    unknown = tuple(a for a in attachment.addresses if a not in held)
    if not unknown or not attachment.sandbox_exists:
        return None
    return Finding(
        Kind.UNKNOWN,
        attachment.key,
        unknown,
        0.0,
        "in use but not allocated: weave ipam check --repair records it",
        Remedy.CLAIM,
        workload=attachment.workload,
    )


def _conflict(conflict: AddressConflict) -> Finding:
    owner = f"peer {conflict.owner}" if conflict.owner else "nobody"
    address = format_address(conflict.address.family, conflict.address.address)
    return Finding(
        Kind.CONFLICT,
        conflict.key,
        (conflict.address,),
        conflict.since,
        f"{address} belongs to {owner}: delete the container "
        f"{conflict.key.container_id} so that it starts anew with an address of this peer",
        Remedy.NONE,
    )
