"""What this node knows: the facts that the plan is made of, and whether they suffice."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field

from weave_model.peer import PeerName
from weave_model.prefix import Family, Prefix
from weave_model.ring import RingView
from weave_router.core import ports, tunnels
from weave_router.core.attachments import Attachments, Phase
from weave_router.core.inputs import Endpoint, Inputs, Options, Path, Peer
from weave_router.core.path_choice import Reach
from weave_router.core.prober import Verdict
from weave_router.core.sandbox import GATEWAY
from weave_router.kernel.api import Uplink


@dataclass(slots=True)
class Node:
    """Facts, each None or empty until it is known. Belongs to the event loop."""

    ranges: tuple[Prefix, ...]
    # From the configuration; 0: from the uplinks.
    mtu_option: int = 0
    no_masq_local: bool = True
    direct: bool = False
    name: PeerName | None = None
    underlay: tuple[Prefix, ...] = ()
    uplinks: tuple[Uplink, ...] = ()
    overlay: tuple[Prefix, ...] | None = None
    # Set by `learn_rings` and `learn_peers`.
    rings: Mapping[Family, RingView] | None = None
    peers: tuple[Peer, ...] | None = None
    # Those of them that the mesh knows now.
    told: frozenset[PeerName] = frozenset()
    paths: Mapping[PeerName, Path] = field(default_factory=dict)
    # Peers with which the mesh has contact.
    present: frozenset[PeerName] = frozenset()
    # What the routers of other nodes say of themselves and of their tunnels.
    endpoints: Mapping[PeerName, Endpoint] = field(default_factory=dict)
    reaches: Mapping[PeerName, Reach] = field(default_factory=dict)
    # How often a path was replaced by another.
    path_changes: int = 0
    # What this node's probes say.
    verdicts: Mapping[PeerName, Verdict] = field(default_factory=dict)
    exposed: bool = True
    attachments: Attachments = field(default_factory=Attachments)
    # Devices, rules and the routes to all others have been in place at least once since the start.
    stands: bool = False
    # The process before left routes in the kernel; they stand until ring and peers are known.
    inherits: bool = False
    # After Reset: nothing is done any more.
    idle: bool = False
    on_change: Callable[[], None] = lambda: None

    @property
    def universes(self) -> tuple[Prefix, ...]:
        """The ranges as the ring has them, or as configured until it is known."""
        if not self.rings:
            return self.ranges
        return tuple(view.universe for _, view in sorted(self.rings.items()))

    @property
    def mtu(self) -> int:
        """MTU of the overlay: what the preferred underlay address's device allows; 0: not known."""
        if self.mtu_option:
            return self.mtu_option
        if not self.uplinks:
            return 0
        preferred = self.uplinks[0]
        return tunnels.tunnel_mtu(preferred.address.family, preferred.mtu)

    @property
    def tunnel_mtus(self) -> dict[Family, int]:
        """The most that a tunnel over each underlay family carries."""
        limits: dict[Family, int] = {}
        for uplink in self.uplinks:
            family = uplink.address.family
            limits.setdefault(family, tunnels.tunnel_mtu(family, uplink.mtu))
        return limits

    @property
    def families(self) -> frozenset[Family]:
        """Families of the overlay."""
        return frozenset(universe.family for universe in self.universes)

    def learn_peers(self, told: Iterable[Peer]) -> None:
        """Takes over what the mesh says now.

        A peer that it does not know stays while the ring gives it addresses: gossip may have lost
        its memory in a crash, and the peer's pods are where they were. Reclaim takes them away.
        """
        known = {peer.name: peer for peer in told}
        self.told = frozenset(known)
        self.peers = tuple(sorted({**self._owners(), **known}.values(), key=lambda peer: peer.name))

    def learn_rings(self, rings: Mapping[Family, RingView]) -> None:
        """Takes over who owns what; see `learn_peers`."""
        self.rings = rings
        if self.peers is not None:
            owners = self._owners()
            self.peers = tuple(p for p in self.peers if p.name in self.told or p.name in owners)

    def _owners(self) -> dict[PeerName, Peer]:
        names = {block.owner for ring in (self.rings or {}).values() for block in ring.blocks}
        return {peer.name: peer for peer in self.peers or () if peer.name in names}

    def gateways(self, addresses: tuple[Prefix, ...]) -> list[Prefix]:
        """Gateway per family in the order of the addresses."""
        return [GATEWAY[address.family] for address in addresses]

    def lacks(self) -> str:
        """Why there can be no plan; empty when there can."""
        if self.idle:
            return "reset: restart the router to use it again"
        if self.name is None:
            return "waiting for the name of this peer from gossip"
        if not self.underlay:
            return "this peer has no underlay address; see gossip's options"
        if not self.mtu:
            addresses = ", ".join(map(str, self.underlay))
            return f"no device has an underlay address of this peer ({addresses})"
        smallest = min([self.mtu, *self.tunnel_mtus.values()])
        if Family.IPV6 in self.families and smallest < tunnels.MIN_IPV6_MTU:
            return (
                f"MTU {smallest} of the overlay is below {tunnels.MIN_IPV6_MTU}, which IPv6 needs: "
                "raise the underlay's, or take the IPv6 range away"
            )
        return ""

    def not_ready(self) -> str:
        """Why an attach would fail; empty when it would succeed."""
        if reason := self.lacks():
            return reason
        if not self.stands:
            return self.awaits() or "the data plane is being set up"
        return ""

    def awaits(self) -> str:
        """What the routes to all others lack; empty when a round can put them in place."""
        if self.overlay is None:
            return "waiting for an overlay address from ipam"
        if self.inherits:
            return ""
        if self.peers is None:
            return "waiting for the peers from gossip"
        if not {address.family for address in self.overlay} <= (self.rings or {}).keys():
            return "waiting for the ring from ipam"
        return ""

    def options(self) -> Options:
        """The part of the plan's inputs that is small. Only when nothing is lacking."""
        assert self.name is not None
        return Options(
            name=self.name,
            underlay=tuple(u.address for u in self.uplinks) or self.underlay,
            mtu=self.mtu,
            universes=self.universes,
            tunnel_mtus=self.tunnel_mtus,
            exposed=self.exposed,
            no_masq_local=self.no_masq_local,
            uplinks=tuple(uplink.name for uplink in self.uplinks),
            direct=self.direct,
        )

    def inputs(self) -> Inputs:
        """What the plan is made of. Only when nothing is lacking."""
        return Inputs(
            options=self.options(),
            overlay=self.overlay,
            rings=self.rings,
            peers=self.peers,
            ports=tuple(
                ports.port(record)
                for record in self.attachments
                if record.phase is not Phase.PREPARING
            ),
            paths=self.paths,
        )
