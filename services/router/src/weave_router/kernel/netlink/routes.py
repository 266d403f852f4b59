"""Routes and policy rules."""

from __future__ import annotations

import errno
import struct
from collections.abc import Mapping
from dataclasses import dataclass

from weave_model.prefix import Family, Prefix
from weave_router.core.state import MAIN_TABLE, ROUTE_PROTOCOL, Route, RouteKind, Rule
from weave_router.kernel.netlink import wire
from weave_router.kernel.netlink.addresses import AF, FAMILY
from weave_router.kernel.netlink.wire import Message, Request

RTM_NEWROUTE = 24
RTM_DELROUTE = 25
RTM_GETROUTE = 26
RTM_NEWRULE = 32
RTM_DELRULE = 33
RTM_GETRULE = 34

_RTMSG = struct.Struct("=BBBBBBBBI")
_KINDS = frozenset(kind.value for kind in RouteKind)
_RTA_DST = 1
_RTA_OIF = 4
_RTA_GATEWAY = 5
_RTA_PRIORITY = 6
_RTA_PREFSRC = 7
_RTA_METRICS = 8
_RTA_TABLE = 15
_RTA_VIA = 18
_RTAX_MTU = 2
_RTNH_F_ONLINK = 4
_RTM_F_CLONED = 0x200
_RTPROT_BOOT = 3
_RT_SCOPE_UNIVERSE = 0
_RT_SCOPE_LINK = 253
_RT_TABLE_UNSPEC = 0
_VIA_FAMILY = struct.Struct("=H")
# What the kernel gives IPv6 routes without a priority of their own (IP6_RT_PRIO_USER).
_METRIC = {Family.IPV4: 0, Family.IPV6: 1024}

_FRA_IIFNAME = 3
_FRA_PRIORITY = 6
_FRA_TABLE = 15
_FRA_PROTOCOL = 21
_FR_ACT_TO_TBL = 1


@dataclass(frozen=True, slots=True)
class FoundRoute:
    """A route as the kernel tells of it. `index` 0: no device, or several."""

    table: int
    destination: Prefix
    protocol: int
    kind: int
    index: int
    gateway: Prefix | None
    onlink: bool
    source: Prefix | None
    mtu: int


def add(route: Route, index: int) -> Request:
    """Adds a route; a route in its place, whoever's it is, is an error (EEXIST)."""
    return _new(route, index, wire.NLM_F_CREATE | wire.NLM_F_EXCL)


def replace(route: Route, index: int) -> Request:
    """Replaces our own route in its place."""
    return _new(route, index, wire.NLM_F_CREATE | wire.NLM_F_REPLACE)


def remove(route: Route, index: int) -> Request:
    """Removes a route of protocol 84; one that is gone already is success."""
    tolerated = (errno.ESRCH, errno.ENODEV)
    return Request(RTM_DELROUTE, 0, _payload(route, index), route, tolerated)


def by_gateway(index: int, gateway: Prefix, destination: Prefix, subject: object) -> Request:
    """A route inside a sandbox by a gateway on its link; protocol boot, as an administrator's would
    be."""
    kind, scope = RouteKind.UNICAST, _RT_SCOPE_UNIVERSE
    payload = _header(destination, kind, _RTNH_F_ONLINK, scope, _RTPROT_BOOT)
    payload += wire.attribute(_RTA_GATEWAY, gateway.to_bytes()) + wire.u32(_RTA_OIF, index)
    return Request(RTM_NEWROUTE, wire.NLM_F_CREATE | wire.NLM_F_EXCL, payload, subject)


def on_link(index: int, destination: Prefix, subject: object) -> Request:
    """A route inside a sandbox to what is on its link."""
    payload = _header(destination, RouteKind.UNICAST, 0, _RT_SCOPE_LINK, _RTPROT_BOOT)
    payload += wire.u32(_RTA_OIF, index)
    return Request(RTM_NEWROUTE, wire.NLM_F_CREATE | wire.NLM_F_EXCL, payload, subject)


def dump(family: Family, protocol: int = 0) -> Request:
    """All routes of a family in all tables, or those of one protocol."""
    payload = _RTMSG.pack(AF[family], 0, 0, 0, 0, protocol, 0, 0, 0)
    return Request(RTM_GETROUTE, 0, payload, "routes")


def decode(message: Message) -> FoundRoute | None:
    """What a route message says; None for other families and for cached clones."""
    family_number, length, _, _, table, protocol, _, kind, flags = _RTMSG.unpack_from(
        message.payload
    )
    family = FAMILY.get(family_number)
    if family is None or flags & _RTM_F_CLONED:
        return None
    attributes = wire.parse_attributes(message.payload, _RTMSG.size)
    raw = attributes.get(_RTA_DST)
    destination = Prefix.from_bytes(raw, length) if raw else Prefix(family, 0, length)
    metrics = attributes.get(_RTA_METRICS)
    mtu = wire.parse_attributes(metrics).get(_RTAX_MTU) if metrics else None
    source = attributes.get(_RTA_PREFSRC)
    index = attributes.get(_RTA_OIF)
    return FoundRoute(
        table=wire.read_u32(attributes[_RTA_TABLE]) if _RTA_TABLE in attributes else table,
        destination=destination,
        protocol=protocol,
        kind=kind,
        index=wire.read_u32(index) if index else 0,
        gateway=_decode_gateway(attributes),
        onlink=bool(flags & _RTNH_F_ONLINK),
        source=Prefix.from_bytes(source, len(source) * 8) if source else None,
        mtu=wire.read_u32(mtu) if mtu else 0,
    )


def to_route(found: FoundRoute, names: Mapping[int, str]) -> Route | None:
    """The router's own form of a route; None for one it could not have made."""
    if found.protocol != ROUTE_PROTOCOL or found.kind not in _KINDS:
        return None
    kind = RouteKind(found.kind)
    # The kernel shows IPv6 routes without a device as being on lo.
    link = names.get(found.index, "") if kind is RouteKind.UNICAST else ""
    return Route(
        destination=found.destination,
        kind=kind,
        table=found.table,
        link=link,
        gateway=found.gateway,
        onlink=found.onlink,
        source=found.source,
        mtu=found.mtu,
    )


def add_rule(rule: Rule) -> Request:
    """Adds a policy rule."""
    flags = wire.NLM_F_CREATE | wire.NLM_F_EXCL
    return Request(RTM_NEWRULE, flags, _rule_payload(rule), rule, tolerated=(errno.EEXIST,))


def remove_rule(rule: Rule) -> Request:
    """Removes a policy rule; one that is gone already is success."""
    return Request(RTM_DELRULE, 0, _rule_payload(rule), rule, tolerated=(errno.ENOENT,))


def dump_rules(family: Family) -> Request:
    """All policy rules of a family."""
    payload = _RTMSG.pack(AF[family], 0, 0, 0, 0, 0, 0, 0, 0)
    return Request(RTM_GETRULE, 0, payload, "rules")


def decode_rule(message: Message) -> Rule | None:
    """One of our rules; None for any other."""
    header = _RTMSG.unpack_from(message.payload)
    attributes = wire.parse_attributes(message.payload, _RTMSG.size)
    family = FAMILY.get(header[0])
    protocol = attributes.get(_FRA_PROTOCOL)
    if family is None or protocol is None or protocol[0] != ROUTE_PROTOCOL:
        return None
    priority = attributes.get(_FRA_PRIORITY)
    return Rule(
        family=family,
        preference=wire.read_u32(priority) if priority else 0,
        link=wire.read_text(attributes.get(_FRA_IIFNAME, b"")),
        table=wire.read_u32(attributes[_FRA_TABLE]) if _FRA_TABLE in attributes else header[4],
    )


def _new(route: Route, index: int, flags: int) -> Request:
    return Request(RTM_NEWROUTE, flags, _payload(route, index), route)


def _payload(route: Route, index: int) -> bytes:
    family = route.destination.family
    on_link_route = route.kind is RouteKind.UNICAST and route.gateway is None
    scope = _RT_SCOPE_LINK if on_link_route else _RT_SCOPE_UNIVERSE
    flags = _RTNH_F_ONLINK if route.onlink else 0
    parts = [
        _header(route.destination, route.kind, flags, scope, ROUTE_PROTOCOL),
        wire.u32(_RTA_TABLE, route.table),
    ]
    if _METRIC[family]:
        parts.append(wire.u32(_RTA_PRIORITY, _METRIC[family]))
    if index:
        parts.append(wire.u32(_RTA_OIF, index))
    if route.gateway is not None:
        parts.append(_gateway(route.gateway, family))
    if route.source is not None:
        parts.append(wire.attribute(_RTA_PREFSRC, route.source.to_bytes()))
    if route.mtu:
        parts.append(wire.nested(_RTA_METRICS, wire.u32(_RTAX_MTU, route.mtu)))
    return b"".join(parts)


def _header(destination: Prefix, kind: RouteKind, flags: int, scope: int, protocol: int) -> bytes:
    header = _RTMSG.pack(
        AF[destination.family],
        destination.length,
        0,
        0,
        _RT_TABLE_UNSPEC if protocol == ROUTE_PROTOCOL else MAIN_TABLE,
        protocol,
        scope,
        kind,
        flags,
    )
    # A default route has no destination: the kernel refuses one of length 0 in strict mode.
    return header + (
        wire.attribute(_RTA_DST, destination.to_bytes()) if destination.length else b""
    )


def _gateway(gateway: Prefix, family: Family) -> bytes:
    if gateway.family is family:
        return wire.attribute(_RTA_GATEWAY, gateway.to_bytes())
    return wire.attribute(_RTA_VIA, _VIA_FAMILY.pack(AF[gateway.family]) + gateway.to_bytes())


def _decode_gateway(attributes: Mapping[int, bytes]) -> Prefix | None:
    raw = attributes.get(_RTA_GATEWAY)
    if raw is None and _RTA_VIA in attributes:
        raw = attributes[_RTA_VIA][_VIA_FAMILY.size :]
    return Prefix.from_bytes(raw, len(raw) * 8) if raw else None


def _rule_payload(rule: Rule) -> bytes:
    header = _RTMSG.pack(AF[rule.family], 0, 0, 0, _RT_TABLE_UNSPEC, 0, 0, _FR_ACT_TO_TBL, 0)
    return header + b"".join(
        (
            wire.u32(_FRA_PRIORITY, rule.preference),
            wire.text(_FRA_IIFNAME, rule.link),
            wire.u32(_FRA_TABLE, rule.table),
            wire.u8(_FRA_PROTOCOL, ROUTE_PROTOCOL),
        )
    )
