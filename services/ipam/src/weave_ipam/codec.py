"""Protobuf <-> model for what callers say and hear. Documents and records are in `wire.py`.

Every reading function raises ValueError, naming the field, for what no value of the model can hold.
"""

from __future__ import annotations

from collections.abc import Iterable

from weave.ipam.v1 import ipam_pb2
from weave.types.v1 import types_pb2
from weave_model.attachment import AttachmentKey, ContainerId, Workload
from weave_model.prefix import Family, Prefix
from weave_model.ring import OwnedBlock, RingView

# A workload's names are Kubernetes names of 253 bytes (RFC 1123 subdomain); three and some air.
MAX_WORKLOAD_BYTES = 1024
# CNI puts no bound on names; the kernel's longest path component is one.
MAX_NAME_BYTES = 255


def prefix_to_proto(prefix: Prefix) -> types_pb2.Prefix:
    """The wire form of a prefix."""
    return types_pb2.Prefix(address=prefix.to_bytes(), length=prefix.length)


def prefix_from_proto(message: types_pb2.Prefix) -> Prefix:
    """Raises ValueError when the address has not 4 or 16 bytes or host bits are set."""
    return Prefix.from_bytes(message.address, message.length)


def prefixes_to_proto(prefixes: Iterable[Prefix]) -> list[types_pb2.Prefix]:
    """The wire form of several prefixes, in the order given."""
    return [prefix_to_proto(prefix) for prefix in prefixes]


def address_to_proto(address: Prefix, subnet_length: int) -> types_pb2.Prefix:
    """A host address that carries the length of its subnet, as CNI results do.

    This is the one prefix on the wire with host bits set, hence not a `Prefix` of the model.
    """
    return types_pb2.Prefix(address=address.to_bytes(), length=subnet_length)


def subnet_from_proto(message: types_pb2.Prefix) -> Prefix:
    """A prefix that is more than one address. Raises ValueError."""
    prefix = prefix_from_proto(message)
    if prefix.size < 4:
        raise ValueError(
            f"subnet {prefix} is too small: it has no address besides its first and last"
        )
    return prefix


def host_from_proto(message: types_pb2.Prefix) -> Prefix:
    """A single address: length 32 or 128. Raises ValueError."""
    prefix = prefix_from_proto(message)
    if not prefix.is_host:
        raise ValueError(f"{prefix} is no single address (length {prefix.family.bits})")
    return prefix


def one_per_family(prefixes: Iterable[Prefix], what: str) -> tuple[Prefix, ...]:
    """The same prefixes, IPv4 first. Raises ValueError when two are of one family."""
    chosen: dict[Family, Prefix] = {}
    for prefix in prefixes:
        if prefix.family in chosen:
            raise ValueError(f"two {what} of one family: {chosen[prefix.family]} and {prefix}")
        chosen[prefix.family] = prefix
    return tuple(chosen[family] for family in sorted(chosen))


def key_to_proto(key: AttachmentKey) -> types_pb2.AttachmentKey:
    """The wire form of a key."""
    return types_pb2.AttachmentKey(
        network=key.network, container_id=key.container_id, interface=key.interface
    )


def key_from_proto(message: types_pb2.AttachmentKey) -> AttachmentKey:
    """Raises ValueError for names that CNI forbids or that are longer than a file name may be."""
    for what, text in (("network name", message.network), ("container id", message.container_id)):
        if len(text) > MAX_NAME_BYTES:
            raise ValueError(f"{what} {text[:32]!r}... is longer than {MAX_NAME_BYTES} characters")
    return AttachmentKey(message.network, ContainerId(message.container_id), message.interface)


def workload_to_proto(workload: Workload) -> types_pb2.Workload:
    """The wire form of a workload."""
    return types_pb2.Workload(namespace=workload.namespace, name=workload.name, uid=workload.uid)


def workload_from_proto(message: types_pb2.Workload) -> Workload:
    """Raises ValueError when it is longer than any orchestrator's names are."""
    size = message.ByteSize()
    if size > MAX_WORKLOAD_BYTES:
        raise ValueError(f"workload has {size} bytes, more than {MAX_WORKLOAD_BYTES}")
    return Workload(message.namespace, message.name, message.uid)


def view_to_proto(view: RingView) -> ipam_pb2.RingView:
    """The wire form of one family's ring."""
    return ipam_pb2.RingView(
        family=view.family,
        universe=prefix_to_proto(view.universe),
        blocks=[owned_to_proto(block) for block in view.blocks],
    )


def owned_to_proto(block: OwnedBlock) -> ipam_pb2.OwnedBlock:
    """The wire form of an owned block."""
    return ipam_pb2.OwnedBlock(prefix=prefix_to_proto(block.prefix), owner=str(block.owner))
