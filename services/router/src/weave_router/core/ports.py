"""The host's side of an attachment: its end of the link, and what opens the port."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from weave_model.prefix import Family, Prefix
from weave_router.core import naming
from weave_router.core.attachments import Phase, Record
from weave_router.core.diff import Add, Operation, Remove, UpdateSets
from weave_router.core.state import Binding, Element, Link, LinkKind, Neighbour, Route


@dataclass(frozen=True, slots=True)
class Port:
    """The host end of an attachment. Only an open one has routes and bindings."""

    link: str
    alias: str
    mac: bytes
    addresses: tuple[Prefix, ...]
    mtu: int
    open: bool


def port(record: Record) -> Port:
    """The port of an attachment."""
    attachment = record.attachment
    return Port(
        link=record.link,
        alias=naming.alias(record.key),
        mac=attachment.hardware_address,
        addresses=attachment.addresses,
        mtu=record.mtu,
        open=record.phase is Phase.ACTIVE,
    )


def link(of: Port) -> Link:
    """The host end; every one has the gateway's hardware address."""
    return Link(
        of.link,
        LinkKind.VETH,
        naming.GATEWAY_MAC,
        of.mtu,
        alias=of.alias,
        group=naming.POD_GROUP,
    )


def neighbours(of: Port) -> list[Neighbour]:
    """Permanent entries of the pod's addresses: nothing is ever resolved."""
    return [Neighbour(of.link, address, of.mac) for address in of.addresses]


def routes(of: Port, overlay: Iterable[Prefix]) -> list[Route]:
    """The routes to the pod's addresses; the host speaks to it from its overlay address."""
    sources = {address.family: address for address in overlay}
    return [
        Route(address, link=of.link, source=sources.get(address.family)) for address in of.addresses
    ]


def bindings(of: Port) -> dict[str, frozenset[Element]]:
    """Elements of the binding sets, by set."""
    by_set: dict[str, frozenset[Element]] = {}
    for address in of.addresses:
        name = binding_set(address.family)
        by_set[name] = by_set.get(name, frozenset()) | {Binding(of.link, of.mac, address)}
    return by_set


def binding_set(family: Family) -> str:
    """The set of a family's bindings."""
    return f"bindings{family}"


def opening(of: Port, overlay: Iterable[Prefix]) -> list[Operation]:
    """What opens a port."""
    return [UpdateSets(added=bindings(of)), *(Add(route) for route in routes(of, overlay))]


def closing(of: Port) -> list[Operation]:
    """What closes a port, whether it was open or not."""
    removals: list[Operation] = [Remove(route) for route in routes(of, ())]
    return [*removals, UpdateSets(removed=bindings(of))]
