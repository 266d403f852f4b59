"""Routes: the ring as a routing table.

An address lives on the peer that owns its block, so a node's routes are: each own pod by a /32 or
/128; each remote peer's blocks by that peer's path; the rest of the universe `unreachable` (or pods
that scan unallocated addresses would fill the neighbour table that all namespaces share).

Transit, that is what comes out of a tunnel, may go on to peers reached directly only: so two nodes
that route to each other by mistake send a packet on once, not 64 times. `relayed` are the blocks of
all others: the guard refuses what comes out of a tunnel for them. A routing table for transit would
do as well, but the one rule that leads there makes all look-ups of the host longer (docs/adr/0012).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from weave_model.peer import PeerName
from weave_model.prefix import Family, Prefix, coalesce
from weave_model.ring import RingView
from weave_router.core import naming, ports
from weave_router.core.inputs import Inputs, Path, PathKind, Peer
from weave_router.core.state import KernelState, Route, RouteKind

Hops = Mapping[PeerName, tuple[str, Prefix]]


def port_routes(inputs: Inputs) -> Iterable[Route]:
    """Routes to the pods with an open port."""
    for port in inputs.ports:
        if port.open:
            yield from ports.routes(port, inputs.overlay or ())


def block_routes(inputs: Inputs, hops: Hops) -> list[Route]:
    """Routes of all blocks and of what is nobody's. Ring and peers are known."""
    routes = [Route(universe, RouteKind.UNREACHABLE) for universe in universes(inputs)]
    own = inputs.options.name
    peers = {peer.name: peer for peer in inputs.peers or () if peer.name != own}
    for name, blocks in blocks_by_owner(inputs.rings or {}).items():
        if name in peers:
            routes += _peer_routes(inputs, hops, peers[name], blocks)
    # A block that is the whole universe takes the place of the route that would catch the rest.
    by_key = {route.key: route for route in routes}
    return list(by_key.values())


def found_block_routes(inputs: Inputs, found: KernelState) -> list[Route]:
    """What is found of them, while ring or peers are not known."""
    links = {port.link for port in inputs.ports}
    pods = {address for port in inputs.ports for address in port.addresses}
    return [
        route
        for route in found.routes
        if route.link not in links
        and not route.link.startswith(naming.POD_LINK_PREFIX)
        and route.destination not in pods
    ]


def relayed(inputs: Inputs) -> list[Prefix] | None:
    """Blocks of the peers that are reached by way of another; None: not known yet."""
    if inputs.rings is None or inputs.peers is None:
        return None
    return [
        block
        for name, blocks in blocks_by_owner(inputs.rings).items()
        if inputs.paths.get(name, Path()).kind is PathKind.RELAY
        for block in blocks
    ]


def universes(inputs: Inputs) -> list[Prefix]:
    """The ranges, as the ring has them where it is known."""
    if not inputs.rings:
        return list(inputs.options.universes)
    return [view.universe for _, view in sorted(inputs.rings.items())]


def blocks_by_owner(rings: Mapping[Family, RingView]) -> dict[PeerName, list[Prefix]]:
    """Each peer's blocks, adjacent ones as one."""
    owned: dict[PeerName, list[Prefix]] = {}
    for view in rings.values():
        for block in view.blocks:
            owned.setdefault(block.owner, []).append(block.prefix)
    return {owner: coalesce(blocks) for owner, blocks in owned.items()}


def _peer_routes(
    inputs: Inputs, hops: Hops, peer: Peer, blocks: Iterable[Prefix]
) -> Iterable[Route]:
    path = inputs.paths.get(peer.name, Path())
    for block in blocks:
        source = next((a for a in inputs.overlay or () if a.family is block.family), None)
        match path.kind:
            case PathKind.NONE:
                continue
            # IPv6 stays in the tunnel: only IPv4 can be probed without a route (docs/adr/0008).
            case PathKind.DIRECT if block.family is Family.IPV4:
                gateway = next((a for a in peer.underlay if a.family is Family.IPV4), None)
                if gateway is None:
                    continue
                yield Route(block, link=path.link, gateway=gateway, source=source, mtu=path.mtu)
            case PathKind.VXLAN | PathKind.DIRECT:
                if peer.name in hops:
                    mtu = path.mtu if path.kind is PathKind.VXLAN else path.tunnel_mtu
                    yield _tunnel_route(hops[peer.name], peer.name, block, source, mtu)
            case PathKind.RELAY:
                if path.via is not None and path.via in hops:
                    yield _tunnel_route(hops[path.via], path.via, block, source, path.mtu)


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
