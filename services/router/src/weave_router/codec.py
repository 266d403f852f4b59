"""Protobuf messages to the model and back. Raises weave_model.errors.Invalid for what cannot be."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TypeVar

from google.protobuf.message import DecodeError, Message

from weave.gossip.v1 import gossip_pb2
from weave.ipam.v1 import ipam_pb2
from weave.router.v1 import documents_pb2, router_pb2, state_pb2
from weave.types.v1 import types_pb2
from weave_model.attachment import AttachmentKey, ContainerId, Route, Workload
from weave_model.errors import Invalid
from weave_model.peer import PeerName
from weave_model.prefix import Prefix
from weave_model.ring import OwnedBlock, RingView
from weave_router.core.attachments import Attachment, Phase, Record
from weave_router.core.inputs import Endpoint, Peer
from weave_router.core.path_choice import MAX_EXCEPTIONS, Reach
from weave_router.core.tunnels import MIN_IPV4_MTU

T = TypeVar("T")
M = TypeVar("M", bound=Message)


def read_key(message: types_pb2.AttachmentKey) -> AttachmentKey:
    """The key. Raises Invalid."""
    container_id = ContainerId(message.container_id)
    return _valid(lambda: AttachmentKey(message.network, container_id, message.interface))


def write_key(key: AttachmentKey) -> types_pb2.AttachmentKey:
    """The key as a message."""
    return types_pb2.AttachmentKey(
        network=key.network, container_id=key.container_id, interface=key.interface
    )


def read_prefix(message: types_pb2.Prefix) -> Prefix:
    """A prefix. Raises Invalid."""
    return _valid(lambda: Prefix.from_bytes(message.address, message.length))


def write_prefix(prefix: Prefix) -> types_pb2.Prefix:
    """A prefix as a message."""
    return types_pb2.Prefix(address=prefix.to_bytes(), length=prefix.length)


def write_prefixes(prefixes: Iterable[Prefix]) -> list[types_pb2.Prefix]:
    """Several."""
    return [write_prefix(prefix) for prefix in prefixes]


def read_host(raw: bytes) -> Prefix:
    """An address of 4 or 16 bytes. Raises Invalid."""
    return _valid(lambda: Prefix.from_bytes(raw, len(raw) * 8))


def read_attachment(message: router_pb2.Attachment) -> Attachment:
    """What is to be attached. Raises Invalid."""
    workload = message.workload
    return _valid(
        lambda: Attachment(
            key=read_key(message.key),
            addresses=tuple(sorted(map(read_host_prefix, message.addresses))),
            routes=tuple(map(read_route, message.routes)),
            no_routes=message.no_routes,
            mtu=message.mtu,
            mac=message.mac,
            workload=Workload(workload.namespace, workload.name, workload.uid),
            generation=message.generation,
            netns_path=message.netns_path,
        )
    )


def write_attachment(attachment: Attachment) -> router_pb2.Attachment:
    """An attachment as a message."""
    workload = attachment.workload
    return router_pb2.Attachment(
        key=write_key(attachment.key),
        addresses=write_prefixes(attachment.addresses),
        routes=map(write_route, attachment.routes),
        no_routes=attachment.no_routes,
        mtu=attachment.mtu,
        mac=attachment.mac,
        workload=types_pb2.Workload(
            namespace=workload.namespace, name=workload.name, uid=workload.uid
        ),
        generation=attachment.generation,
        netns_path=attachment.netns_path,
    )


def read_host_prefix(message: types_pb2.Prefix) -> Prefix:
    """The address of an interface; a shorter length (that of its subnet) is passed over."""
    return read_host(message.address)


def read_route(message: types_pb2.Route) -> Route:
    """A route. Raises Invalid."""
    gateway = read_host(message.gateway) if message.gateway else None
    return Route(read_prefix(message.destination), gateway)


def write_route(route: Route) -> types_pb2.Route:
    """A route as a message."""
    return types_pb2.Route(
        destination=write_prefix(route.destination),
        gateway=route.gateway.to_bytes() if route.gateway is not None else b"",
    )


def read_ring(message: ipam_pb2.RingView) -> RingView:
    """One family's ring. Raises Invalid."""
    blocks = tuple(
        OwnedBlock(read_prefix(block.prefix), read_peer_name(block.owner))
        for block in message.blocks
    )
    return RingView(read_prefix(message.universe), blocks)


def read_peer_name(text: str) -> PeerName:
    """A peer's name. Raises Invalid."""
    return _valid(lambda: PeerName.parse(text))


def read_peer(message: gossip_pb2.Peer) -> Peer:
    """A peer and its tunnel ends. Raises Invalid."""
    return Peer(
        read_peer_name(message.name), tuple(read_host(raw) for raw in message.underlay_addresses)
    )


def write_endpoint(
    overlay: Iterable[Prefix], tunnel_mac: bytes, mtu: int, *, is_direct: bool
) -> documents_pb2.Endpoint:
    """What other nodes' data planes may want to know of this one."""
    return documents_pb2.Endpoint(
        overlay_addresses=[address.to_bytes() for address in overlay],
        tunnel_mac=tunnel_mac,
        mtu=mtu,
        direct=is_direct,
    )


def read_endpoint(payload: bytes) -> Endpoint:
    """What another node's router says of itself. Raises Invalid."""
    message = _parsed(documents_pb2.Endpoint, payload)
    _check_mtus([message.mtu])
    return Endpoint(
        tuple(map(read_host, message.overlay_addresses)), message.mtu, is_direct=message.direct
    )


def write_reach(reach: Reach) -> documents_pb2.Paths:
    """What this node's router says of its tunnels."""
    return documents_pb2.Paths(
        exceptions=[
            documents_pb2.Paths.Exception(peer=peer, mtu=mtu)
            for peer, mtu in reach.exceptions.items()
        ],
        incomplete=not reach.complete,
    )


def read_reach(payload: bytes) -> Reach:
    """What another node's router says of its tunnels. Raises Invalid."""
    message = _parsed(documents_pb2.Paths, payload)
    if len(message.exceptions) > MAX_EXCEPTIONS:
        raise Invalid(f"{len(message.exceptions)} exceptions, at most {MAX_EXCEPTIONS} are allowed")
    _check_mtus(each.mtu for each in message.exceptions)
    exceptions = _valid(lambda: {PeerName(each.peer): each.mtu for each in message.exceptions})
    return Reach(exceptions, complete=not message.incomplete)


def read_record(message: state_pb2.AttachmentRecord) -> Record:
    """What the store keeps of an attachment. Raises Invalid."""
    return Record(
        attachment=read_attachment(message.attachment),
        link=message.host_interface,
        phase=Phase.ACTIVE if message.active else Phase.PREPARED,
        mtu=message.mtu,
        routes=tuple(map(read_route, message.routes)),
    )


def write_record(record: Record) -> state_pb2.AttachmentRecord:
    """What the store is to keep of an attachment."""
    return state_pb2.AttachmentRecord(
        attachment=write_attachment(record.attachment),
        host_interface=record.link,
        active=record.phase is Phase.ACTIVE,
        mtu=record.mtu,
        routes=map(write_route, record.routes),
    )


def _check_mtus(mtus: Iterable[int]) -> None:
    """A route with less would be refused by the kernel; 0 has a meaning of its own."""
    for mtu in mtus:
        if mtu and mtu < MIN_IPV4_MTU:
            raise Invalid(f"MTU {mtu} is below {MIN_IPV4_MTU}")


def _parsed(kind: type[M], payload: bytes) -> M:
    try:
        return kind.FromString(payload)
    except DecodeError as error:
        raise Invalid(f"not a {kind.__name__}: {error}") from error


def _valid(read: Callable[[], T]) -> T:
    try:
        return read()
    except ValueError as error:
        raise Invalid(str(error)) from error
