"""Between protobuf messages and the values of weave_model."""

from __future__ import annotations

from weave.router.v1 import router_pb2
from weave.types.v1 import types_pb2
from weave_cni_shim.core.address import InterfaceAddress
from weave_cni_shim.core.port import Port
from weave_model.attachment import AttachmentKey, ContainerId, Route, Workload
from weave_model.prefix import Prefix, address_from_bytes


def key_to_proto(key: AttachmentKey) -> types_pb2.AttachmentKey:
    return types_pb2.AttachmentKey(
        network=key.network, container_id=key.container_id, interface=key.interface
    )


def key_of(message: types_pb2.AttachmentKey) -> AttachmentKey:
    """Raises ValueError for names CNI forbids."""
    return AttachmentKey(message.network, ContainerId(message.container_id), message.interface)


def workload_to_proto(workload: Workload) -> types_pb2.Workload:
    return types_pb2.Workload(namespace=workload.namespace, name=workload.name, uid=workload.uid)


def workload_of(message: types_pb2.Workload) -> Workload:
    return Workload(message.namespace, message.name, message.uid)


def prefix_to_proto(prefix: Prefix) -> types_pb2.Prefix:
    return types_pb2.Prefix(address=prefix.to_bytes(), length=prefix.length)


def prefix_of(message: types_pb2.Prefix) -> Prefix:
    """Raises ValueError, also for bits below the length."""
    return Prefix.from_bytes(message.address, message.length)


def address_of(message: types_pb2.Prefix) -> InterfaceAddress:
    """An address with the length of its subnet. Raises ValueError."""
    return InterfaceAddress(*address_from_bytes(message.address), message.length)


def host_of(raw: bytes) -> Prefix:
    """An address as a prefix of full length. Raises ValueError."""
    return Prefix.host(*address_from_bytes(raw))


def route_to_proto(route: Route) -> types_pb2.Route:
    gateway = route.gateway.to_bytes() if route.gateway else b""
    return types_pb2.Route(destination=prefix_to_proto(route.destination), gateway=gateway)


def route_of(message: types_pb2.Route) -> Route:
    """Raises ValueError."""
    return Route(
        prefix_of(message.destination), host_of(message.gateway) if message.gateway else None
    )


def port_to_proto(port: Port) -> router_pb2.Attachment:
    return router_pb2.Attachment(
        key=key_to_proto(port.key),
        addresses=map(prefix_to_proto, port.addresses),
        routes=map(route_to_proto, port.routes or ()),
        no_routes=port.routes == (),
        mtu=port.mtu,
        mac=port.mac,
        workload=workload_to_proto(port.workload),
        generation=port.generation,
        netns_path=port.netns,
    )
