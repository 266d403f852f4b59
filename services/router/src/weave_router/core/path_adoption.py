"""The paths that routes found in the kernel stand for: after a restart they are kept until probes
say otherwise."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from weave_model.peer import PeerName
from weave_model.prefix import Family, Prefix
from weave_model.ring import RingView
from weave_router.core import naming
from weave_router.core.inputs import Path, PathKind, Peer
from weave_router.core.routes import blocks_by_owner
from weave_router.core.state import MAIN_TABLE, Route, RouteKind


def adopt(
    own: PeerName,
    found: Iterable[Route],
    peers: Iterable[Peer],
    rings: Mapping[Family, RingView],
) -> dict[PeerName, Path]:
    """The path of each peer with a route to one of its blocks; others have none."""
    by_gateway: dict[Prefix, PeerName] = {}
    for peer in peers:
        if peer.name != own:
            by_gateway[naming.tunnel_link_local(peer.name)] = peer.name
            by_gateway |= dict.fromkeys(peer.underlay, peer.name)
    owners = {block: owner for owner, blocks in blocks_by_owner(rings).items() for block in blocks}
    paths: dict[PeerName, Path] = {}
    for route in sorted(found, key=lambda r: r.destination):
        owner = owners.get(route.destination)
        is_ours = route.table == MAIN_TABLE and route.kind is RouteKind.UNICAST
        if owner is None or owner == own or route.gateway is None or not is_ours:
            continue
        hop = by_gateway.get(route.gateway)
        if hop is not None and owner not in paths:
            paths[owner] = _path(owner, hop, route)
    return paths


def _path(owner: PeerName, hop: PeerName, route: Route) -> Path:
    if hop != owner:
        return Path(PathKind.RELAY, via=hop, mtu=route.mtu)
    if route.link in naming.VXLAN.values():
        return Path(PathKind.VXLAN, mtu=route.mtu)
    return Path(PathKind.DIRECT, link=route.link, mtu=route.mtu)
