"""The planner: what the kernel should hold, as a pure function of ring, peers, attachments and
options.

The ring is the routing table. An address lives on the peer that owns its block, so a node's routes
are: each own pod by a /32 or /128; each remote peer's blocks by that peer's tunnel; the rest of the
universe `unreachable` (or pods that scan unallocated addresses would fill the neighbour table that
all namespaces share).

Transit, that is packets that come out of a tunnel, looks up a table of its own, which knows peers
reached directly only: so two nodes that route to each other by mistake send a packet on once, not
64 times. Own blocks are `throw` there, which leads back to the main table and the pods' routes in
it.

Part of the input may be unknown yet (ring and peers after a start while their services are away):
what depends on it is then taken over from `found` as it stands.
"""

from __future__ import annotations

import enum
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace

from weave_model.peer import PeerName
from weave_model.prefix import Family, Prefix, coalesce
from weave_model.ring import RingView
from weave_router.core import naming, ports, ruleset
from weave_router.core.ports import Port
from weave_router.core.state import (
    LEGACY_CHAIN,
    TRANSIT_TABLE,
    Address,
    Blocker,
    Element,
    FdbEntry,
    KernelState,
    Link,
    LinkKind,
    Neighbour,
    Route,
    RouteKind,
    Rule,
    Sysctl,
    Vxlan,
)

VNI = 6784
TUNNEL_PORT = 6784
# IP, UDP, VXLAN and the inner Ethernet header (RFC 7348) around a packet.
TUNNEL_OVERHEAD = {Family.IPV4: 50, Family.IPV6: 70}
# RFC 8200 section 5: every link that carries IPv6 has at least this.
MIN_IPV6_MTU = 1280


class PathKind(enum.Enum):
    """How a peer is reached."""

    VXLAN = "vxlan"
    DIRECT = "direct"
    RELAY = "relay"
    NONE = "none"


@dataclass(frozen=True, slots=True)
class Path:
    """The way to a peer. `via` is the relaying peer, `link` the underlay device of a direct
    path."""

    kind: PathKind = PathKind.VXLAN
    via: PeerName | None = None
    link: str = ""
    # Route MTU; 0: that of the device.
    mtu: int = 0


@dataclass(frozen=True, slots=True)
class Peer:
    """Another node: where its tunnel ends, preferred address first."""

    name: PeerName
    underlay: tuple[Prefix, ...]


@dataclass(frozen=True, slots=True)
class Options:
    """What configuration and the node's state say."""

    name: PeerName
    # Own underlay addresses, preferred first.
    underlay: tuple[Prefix, ...]
    # Of the overlay: pods, bridge and, unless `tunnel_mtus` says less, tunnels.
    mtu: int
    universes: tuple[Prefix, ...]
    tunnel_mtus: Mapping[Family, int] = field(default_factory=dict)
    exposed: bool = True
    no_masq_local: bool = True


@dataclass(frozen=True, slots=True)
class Inputs:
    """All that the plan depends on. None: not known yet, so what was found stands."""

    options: Options
    overlay: tuple[Prefix, ...] | None = None
    rings: Mapping[Family, RingView] | None = None
    peers: tuple[Peer, ...] | None = None
    ports: tuple[Port, ...] = ()
    paths: Mapping[PeerName, Path] = field(default_factory=dict)


def plan(inputs: Inputs, found: KernelState) -> KernelState:
    """The desired state. Deterministic; of `found` only what unknown inputs leave open is used."""
    # The end of a sandbox takes its link with it: nothing stands on a link that is gone.
    links_found = {link.name for link in found.links}
    alive = tuple(port for port in inputs.ports if port.link in links_found)
    inputs = replace(inputs, ports=alive)
    options = inputs.options
    devices = _devices(options)
    tunnels = [link for link in devices if link.kind is LinkKind.VXLAN]
    links = devices + [ports.link(port) for port in inputs.ports]
    desired_sets = _sets(inputs, found)
    remote = inputs.rings is not None and inputs.peers is not None
    tunnel_names = {link.name for link in tunnels}
    if remote:
        tunnel_state = _tunnel_state(inputs, tunnel_names)
    else:
        tunnel_state = _found_tunnel_state(inputs, found)
    routes, neighbours, fdb = tunnel_state
    accepts = frozenset(b.where for b in found.blockers if _can_pass(b))
    return KernelState(
        links=frozenset(links),
        addresses=_addresses(inputs, devices, found),
        routes=frozenset(routes) | frozenset(_port_routes(inputs)),
        rules=frozenset(_rules(options, tunnels)),
        neighbours=frozenset(neighbours)
        | frozenset(entry for port in inputs.ports for entry in ports.neighbours(port)),
        fdb=frozenset(fdb),
        sysctls=frozenset(_sysctls(options)),
        accepts=accepts,
        ruleset=ruleset.text(
            ruleset.RulesetOptions(
                exposed=options.exposed,
                no_masq_local=options.no_masq_local,
                # Also where we cannot add the rule: an administrator can.
                mark_forwarded=bool(found.blockers),
            )
        ),
        sets=desired_sets,
    )


def impassable(found: KernelState) -> list[str]:
    """Foreign chains that drop our packets and which no rule of ours can help against."""
    return sorted(
        f"{b.where.family} {b.where.table} {b.where.chain}"
        for b in found.blockers
        if not _can_pass(b) and not b.knows_mark
    )


def switches(options: Options) -> list[str]:
    """Paths of the kernel switches that a plan may name."""
    return [switch.path for switch in _sysctls(options)]


def tunnel_mtu(underlay: Family, mtu: int) -> int:
    """MTU of a tunnel over an underlay device with this MTU."""
    return mtu - TUNNEL_OVERHEAD[underlay]


def tunnel_to(options: Options, peer: Peer) -> tuple[str, Prefix] | None:
    """The VXLAN device for a peer and the address of its tunnel end: the peer's first whose family
    we have."""
    families = {address.family for address in options.underlay}
    for address in peer.underlay:
        if address.family in families:
            return naming.VXLAN[address.family], address
    return None


def _devices(options: Options) -> list[Link]:
    devices = [Link(naming.BRIDGE, LinkKind.BRIDGE, naming.GATEWAY_MAC, options.mtu)]
    for family in Family:
        local = next((a for a in options.underlay if a.family is family), None)
        if local is None:
            continue
        # An IPv4 device leaves the source to routing: a node may have several uplinks.
        vxlan = Vxlan(VNI, TUNNEL_PORT, family, local if family is Family.IPV6 else None)
        devices.append(
            Link(
                naming.VXLAN[family],
                LinkKind.VXLAN,
                naming.tunnel_mac(options.name),
                min(options.mtu, options.tunnel_mtus.get(family, options.mtu)),
                vxlan=vxlan,
            )
        )
    return devices


def _addresses(inputs: Inputs, devices: Iterable[Link], found: KernelState) -> frozenset[Address]:
    names = {device.name for device in devices}
    wanted = {Address(name, naming.GATEWAY_IPV4, link_scope=True) for name in names}
    if inputs.overlay is None:
        return frozenset(wanted | {a for a in found.addresses if a.link in names})
    wanted |= {Address(name, prefix) for name in names for prefix in inputs.overlay}
    return frozenset(wanted)


def _rules(options: Options, tunnels: Iterable[Link]) -> list[Rule]:
    families = {universe.family for universe in options.universes}
    return [
        Rule(family, TRANSIT_TABLE, tunnel.name, TRANSIT_TABLE)
        for tunnel in tunnels
        for family in families
    ]


def _source(inputs: Inputs, family: Family) -> Prefix | None:
    return next((a for a in inputs.overlay or () if a.family is family), None)


def _port_routes(inputs: Inputs) -> Iterable[Route]:
    for port in inputs.ports:
        if port.open:
            yield from ports.routes(port, inputs.overlay or ())


TunnelState = tuple[list[Route], list[Neighbour], list[FdbEntry]]


def _tunnel_state(inputs: Inputs, tunnels: set[str]) -> TunnelState:
    options = inputs.options
    routes = [
        Route(universe, RouteKind.UNREACHABLE, table)
        for universe in _universes(inputs)
        for table in (ruleset.MAIN_TABLE, TRANSIT_TABLE)
    ]
    neighbours: list[Neighbour] = []
    fdb: list[FdbEntry] = []
    peers = {peer.name: peer for peer in inputs.peers or () if peer.name != options.name}
    ends: dict[PeerName, tuple[str, Prefix]] = {}
    for peer in peers.values():
        end = tunnel_to(options, peer)
        if end is None or end[0] not in tunnels:
            continue
        ends[peer.name] = end
        mac = naming.tunnel_mac(peer.name)
        link, address = end
        fdb.append(FdbEntry(link, mac, address))
        neighbours.append(Neighbour(link, naming.tunnel_link_local(peer.name), mac))
        if address.family is Family.IPV4:
            neighbours.append(Neighbour(link, address, mac))
    for name, blocks in _blocks_by_owner(inputs.rings or {}).items():
        if name == options.name:
            routes += [Route(block, RouteKind.THROW, TRANSIT_TABLE) for block in blocks]
        elif name in peers:
            routes += _peer_routes(inputs, ends, peers[name], blocks)
    # A block that is the whole universe takes the place of the route that would catch the rest.
    by_key = {route.key: route for route in routes}
    return list(by_key.values()), neighbours, fdb


def _peer_routes(
    inputs: Inputs,
    ends: Mapping[PeerName, tuple[str, Prefix]],
    peer: Peer,
    blocks: Iterable[Prefix],
) -> Iterable[Route]:
    path = inputs.paths.get(peer.name, Path())
    for block in blocks:
        source = _source(inputs, block.family)
        match path.kind:
            case PathKind.NONE:
                continue
            case PathKind.DIRECT:
                gateway = next((a for a in peer.underlay if a.family is block.family), None)
                if gateway is None:
                    continue
                direct = Route(block, link=path.link, gateway=gateway, source=source, mtu=path.mtu)
                yield direct
                yield _in_transit(direct)
            case PathKind.VXLAN:
                if peer.name in ends:
                    tunnel = _tunnel_route(ends[peer.name], peer.name, block, source, path.mtu)
                    yield tunnel
                    yield _in_transit(tunnel)
            case PathKind.RELAY:
                # Not in the transit table: what comes out of a tunnel is relayed once at most.
                if path.via is not None and path.via in ends:
                    yield _tunnel_route(ends[path.via], path.via, block, source, path.mtu)


def _tunnel_route(
    end: tuple[str, Prefix], hop: PeerName, block: Prefix, source: Prefix | None, mtu: int
) -> Route:
    link, address = end
    # IPv4 over the IPv6 underlay has an IPv6 gateway too (RTA_VIA).
    gateway = address if block.family is address.family is Family.IPV4 else None
    return Route(
        block,
        link=link,
        gateway=gateway or naming.tunnel_link_local(hop),
        onlink=True,
        source=source,
        mtu=mtu,
    )


def _in_transit(route: Route) -> Route:
    return Route(
        route.destination,
        table=TRANSIT_TABLE,
        link=route.link,
        gateway=route.gateway,
        onlink=route.onlink,
        source=route.source,
        mtu=route.mtu,
    )


def _found_tunnel_state(inputs: Inputs, found: KernelState) -> TunnelState:
    ports = {port.link for port in inputs.ports}
    pods = {address for port in inputs.ports for address in port.addresses}
    return (
        [
            route
            for route in found.routes
            if route.link not in ports
            and not route.link.startswith(naming.POD_LINK_PREFIX)
            and route.destination not in pods
        ],
        [n for n in found.neighbours if n.link in naming.VXLAN.values()],
        list(found.fdb),
    )


def _universes(inputs: Inputs) -> list[Prefix]:
    if not inputs.rings:
        return list(inputs.options.universes)
    return [view.universe for _, view in sorted(inputs.rings.items())]


def _blocks_by_owner(rings: Mapping[Family, RingView]) -> dict[PeerName, list[Prefix]]:
    owned: dict[PeerName, list[Prefix]] = {}
    for view in rings.values():
        for block in view.blocks:
            owned.setdefault(block.owner, []).append(block.prefix)
    return {owner: coalesce(blocks) for owner, blocks in owned.items()}


def _sets(inputs: Inputs, found: KernelState) -> dict[str, frozenset[Element]]:
    """Elements of the sets that ruleset.py declares."""
    sets: dict[str, frozenset[Element]] = {}
    for stem, prefixes in _prefix_sets(inputs).items():
        for family in Family:
            name = f"{stem}{family}"
            if prefixes is None:
                sets[name] = found.sets.get(name, frozenset())
            else:
                # Interval sets refuse overlaps; adjacent blocks of several owners become one.
                sets[name] = frozenset(coalesce(p for p in prefixes if p.family is family))
    for family in Family:
        name = ports.binding_set(family)
        sets[name] = frozenset(
            element
            for port in inputs.ports
            if port.open
            for element in ports.bindings(port).get(name, ())
        )
    return sets


def _prefix_sets(inputs: Inputs) -> dict[str, list[Prefix] | None]:
    """Contents of the sets of prefixes, both families together; None: not known yet."""
    own = inputs.options.name
    local: list[Prefix] | None = None
    remote: list[Prefix] | None = None
    if inputs.rings is not None:
        owned = _blocks_by_owner(inputs.rings)
        local = owned.pop(own, [])
        remote = [block for blocks in owned.values() for block in blocks]
    peers: list[Prefix] | None = None
    if inputs.peers is not None:
        peers = [a for peer in inputs.peers if peer.name != own for a in peer.underlay]
    return {"universe": _universes(inputs), "local": local, "remote": remote, "peers": peers}


def _can_pass(blocker: Blocker) -> bool:
    """Can a rule of ours help? Packets must bear our mark before they come to the chain."""
    return blocker.priority > ruleset.MARK_PRIORITY and blocker.where != LEGACY_CHAIN


def _sysctls(options: Options) -> Iterable[Sysctl]:
    """Switches that the data plane needs; those of the whole host are set, never taken back."""
    families = {universe.family for universe in options.universes}
    if Family.IPV4 in families:
        yield Sysctl("net/ipv4/ip_forward", "1")
    if Family.IPV6 in families:
        yield Sysctl("net/ipv6/conf/all/forwarding", "1")
