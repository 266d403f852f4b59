"""What the plan is made of: peers and paths to them, options, ring, ports."""

from __future__ import annotations

import enum
from collections.abc import Mapping
from dataclasses import dataclass, field

from weave_model.peer import PeerName
from weave_model.prefix import Family, Prefix
from weave_model.ring import RingView
from weave_router.core.ports import Port


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
    # Beside a direct path: that of what stays in the tunnel.
    tunnel_mtu: int = 0


@dataclass(frozen=True, slots=True)
class Peer:
    """Another node: where its tunnel ends, preferred address first."""

    name: PeerName
    underlay: tuple[Prefix, ...]


@dataclass(frozen=True, slots=True)
class Endpoint:
    """What another node's router says of itself. `mtu` is that of its overlay, 0: not known."""

    overlay: tuple[Prefix, ...]
    mtu: int
    # It may be reached without a tunnel.
    is_direct: bool = False


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
    # Devices that have the underlay addresses.
    uplinks: tuple[str, ...] = ()
    # Peers on the same link may be reached without a tunnel.
    direct: bool = False


@dataclass(frozen=True, slots=True)
class Inputs:
    """All that the plan depends on. None: not known yet, so what was found stands."""

    options: Options
    overlay: tuple[Prefix, ...] | None = None
    rings: Mapping[Family, RingView] | None = None
    peers: tuple[Peer, ...] | None = None
    ports: tuple[Port, ...] = ()
    paths: Mapping[PeerName, Path] = field(default_factory=dict)
