"""What an attachment's sandbox should hold, and how it differs from what is found there."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from weave_model.attachment import Route
from weave_model.prefix import Family, Prefix
from weave_router.core import naming
from weave_router.core.attachments import Attachment

GATEWAY = {Family.IPV4: naming.GATEWAY_IPV4, Family.IPV6: naming.GATEWAY_IPV6}
_DEFAULT = {family: Prefix(family, 0, 0) for family in Family}


@dataclass(frozen=True, slots=True)
class Sandbox:
    """The pod's end of a link and what stands on it.

    All that is not in the pod's own address goes to one gateway per family, whose hardware address
    is a permanent entry.
    """

    interface: str
    mac: bytes
    mtu: int
    addresses: tuple[Prefix, ...]
    routes: tuple[Route, ...]
    # The switches beside accept_redirects are IPv6's; without an IPv6 address they are left alone.
    neighbours: tuple[Prefix, ...]


@dataclass(frozen=True, slots=True)
class SandboxFound:
    """What a sandbox holds; `mac` is empty when the interface is gone."""

    mac: bytes = b""
    mtu: int = 0
    up: bool = False
    addresses: frozenset[Prefix] = frozenset()
    routes: frozenset[Route] = frozenset()
    # Address to hardware address of the permanent entries.
    neighbours: frozenset[tuple[Prefix, bytes]] = frozenset()
    # Families whose redirects it would take.
    redirects: frozenset[Family] = frozenset()


@dataclass(frozen=True, slots=True)
class Difference:
    """One thing that is not as it should be; `kind` is one of those in router.proto."""

    kind: str
    expected: str
    found: str


def default_routes(attachment: Attachment) -> tuple[Route, ...]:
    """The whole world by the gateway, for each of the attachment's families."""
    return tuple(
        Route(_DEFAULT[address.family], GATEWAY[address.family]) for address in attachment.addresses
    )


def universe_routes(attachment: Attachment, universes: Iterable[Prefix]) -> tuple[Route, ...]:
    """The overlay only, for an interface beside another that has the default route."""
    return tuple(
        Route(universe, GATEWAY[universe.family])
        for universe in universes
        if attachment.has_family(universe.family)
    )


def with_gateways(routes: Iterable[Route]) -> tuple[Route, ...]:
    """The routes with a gateway filled in: on a point-to-point link everything is behind it."""
    return tuple(
        route
        if route.gateway is not None
        else Route(route.destination, GATEWAY[route.destination.family])
        for route in routes
    )


def by_gateway(routes: Iterable[Route]) -> tuple[Route, ...]:
    """Those of found routes that the router may have made: by its gateways."""
    gateways = set(GATEWAY.values())
    return tuple(
        sorted(
            (route for route in routes if route.gateway in gateways),
            key=lambda route: route.destination,
        )
    )


def sandbox(attachment: Attachment, mtu: int, routes: tuple[Route, ...]) -> Sandbox:
    """What should be there."""
    gateways = {GATEWAY[address.family] for address in attachment.addresses}
    gateways |= {route.gateway for route in routes if route.gateway is not None}
    return Sandbox(
        interface=attachment.key.interface,
        mac=attachment.hardware_address,
        mtu=mtu,
        addresses=attachment.addresses,
        routes=routes,
        neighbours=tuple(sorted(gateways)),
    )


def differences(wanted: Sandbox, found: SandboxFound | None) -> list[Difference]:
    """All that is wrong in a sandbox; None: the sandbox itself is gone.

    Further routes are allowed (plugins chained behind add some), further global addresses are not.
    """
    name = wanted.interface
    if found is None:
        return [Difference("link", f"interface {name}", "no such sandbox")]
    if not found.mac:
        return [Difference("link", f"interface {name}", "missing")]
    result: list[Difference] = []
    if not found.up:
        result.append(Difference("link", f"interface {name} up", "down"))
    if found.mtu != wanted.mtu:
        result.append(Difference("mtu", str(wanted.mtu), str(found.mtu)))
    if found.mac != wanted.mac:
        result.append(Difference("link", f"MAC {wanted.mac.hex(':')}", found.mac.hex(":")))
    result += _missing("address", set(wanted.addresses), found.addresses)
    extra = sorted(address for address in found.addresses if is_extra(address, wanted))
    result += [Difference("address", "none", str(address)) for address in extra]
    result += _route_differences(wanted.routes, found.routes)
    entries = dict(found.neighbours)
    for gateway in wanted.neighbours:
        mac = entries.get(gateway)
        if mac != naming.GATEWAY_MAC:
            was = mac.hex(":") if mac else "missing"
            expected = f"{gateway} at {naming.GATEWAY_MAC.hex(':')}"
            result.append(Difference("neighbour", expected, was))
    families = {address.family for address in wanted.addresses}
    for family in sorted(families & found.redirects):
        result.append(Difference("sysctl", f"IPv{family} accept_redirects=0 on {name}", "1"))
    return result


def is_extra(address: Prefix, wanted: Sandbox) -> bool:
    """Is an address found on the interface one that should not be there?"""
    return address not in wanted.addresses and not _is_link_local(address)


def _missing(kind: str, wanted: set[Prefix], found: frozenset[Prefix]) -> list[Difference]:
    return [Difference(kind, str(item), "missing") for item in sorted(wanted - found)]


def _route_differences(wanted: Iterable[Route], found: frozenset[Route]) -> Iterable[Difference]:
    by_destination = {route.destination: route for route in found}
    for route in wanted:
        if route not in found:
            other = by_destination.get(route.destination)
            yield Difference("route", _route_text(route), _route_text(other))


def _route_text(route: Route | None) -> str:
    if route is None:
        return "missing"
    via = f" via {route.gateway}" if route.gateway is not None else ""
    return f"{route.destination}{via}"


def _is_link_local(address: Prefix) -> bool:
    return address.family is Family.IPV6 and address.address >> 118 == 0xFE80 >> 6
