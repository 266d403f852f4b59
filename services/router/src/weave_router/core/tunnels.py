"""The router's own devices and where the tunnels to other nodes end.

A tunnel is looked up by MAC address: one forwarding entry per peer says which underlay address has
it, permanent neighbours say which gateway has which MAC. Nothing is learned.

Each VXLAN device also has a link-local address made of the peer's name. Packets between two of
these go through the tunnel whatever the routes say, no node forwards them, and no pod can send one:
so probes use them.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from weave_model.peer import PeerName
from weave_model.prefix import Family, Prefix
from weave_router.core import naming
from weave_router.core.inputs import Inputs, Options, Peer
from weave_router.core.state import Address, FdbEntry, KernelState, Link, LinkKind, Neighbour, Vxlan

VNI = 6784
TUNNEL_PORT = 6784
# IP, UDP, VXLAN and the inner Ethernet header (RFC 7348) around a packet.
TUNNEL_OVERHEAD = {Family.IPV4: 50, Family.IPV6: 70}
# RFC 8200 section 5: every link that carries IPv6 has at least this; on others the kernel turns it
# off.
MIN_IPV6_MTU = 1280
# RFC 791: what every IPv4 host takes, and the least that the overlay may have.
MIN_IPV4_MTU = 576
# RFC 4291 section 2.5.6.
_LINK_LOCAL_LENGTH = 64


def tunnel_mtu(underlay: Family, mtu: int) -> int:
    """MTU of a tunnel over an underlay device with this MTU."""
    return mtu - TUNNEL_OVERHEAD[underlay]


def tunnel_to(options: Options, peer: Peer) -> tuple[str, Prefix] | None:
    """The VXLAN device for a peer and the address of its tunnel end: the peer's first whose family
    we have."""
    return next(_ends(options, peer), None)


def devices(options: Options) -> list[Link]:
    """The bridge and a VXLAN device per underlay family."""
    made = [Link(naming.BRIDGE, LinkKind.BRIDGE, naming.GATEWAY_MAC, options.mtu)]
    for family in Family:
        local = next((a for a in options.underlay if a.family is family), None)
        if local is None:
            continue
        # An IPv4 device leaves the source to routing: a node may have several uplinks.
        vxlan = Vxlan(VNI, TUNNEL_PORT, family, local if family is Family.IPV6 else None)
        made.append(
            Link(
                naming.VXLAN[family],
                LinkKind.VXLAN,
                naming.tunnel_mac(options.name),
                min(options.mtu, options.tunnel_mtus.get(family, options.mtu)),
                vxlan=vxlan,
                group=naming.TUNNEL_GROUP,
            )
        )
    return made


def addresses(inputs: Inputs, made: Iterable[Link], found: KernelState) -> frozenset[Address]:
    """Addresses of the devices; those of the overlay stand as found until they are known."""
    names = {device.name for device in made}
    wanted = {Address(name, naming.GATEWAY_IPV4, link_scope=True) for name in names}
    wanted |= {
        Address(
            device.name,
            naming.tunnel_link_local(inputs.options.name),
            _LINK_LOCAL_LENGTH,
            link_scope=True,
        )
        for device in made
        if carries_probes(device)
    }
    if inputs.overlay is None:
        places = {address.key for address in wanted}
        kept = {a for a in found.addresses if a.link in names and a.key not in places}
        return frozenset(wanted | kept)
    wanted |= {Address(name, prefix) for name in names for prefix in inputs.overlay}
    return frozenset(wanted)


def carries_probes(device: Link) -> bool:
    """Can the device have a link-local address?"""
    return device.kind is LinkKind.VXLAN and device.mtu >= MIN_IPV6_MTU


def entries(
    options: Options, peers: Iterable[Peer], made: Iterable[Link]
) -> tuple[list[Neighbour], list[FdbEntry]]:
    """What leads to the peers' ends, on every device that a peer may choose for its way here."""
    has_ipv6 = {device.name: carries_probes(device) for device in made}
    neighbours: list[Neighbour] = []
    fdb: list[FdbEntry] = []
    for peer in peers:
        mac = naming.tunnel_mac(peer.name)
        for link, address in _ends(options, peer):
            if link not in has_ipv6:
                continue
            fdb.append(FdbEntry(link, mac, address))
            if has_ipv6[link]:
                neighbours.append(Neighbour(link, naming.tunnel_link_local(peer.name), mac))
            if address.family is Family.IPV4:
                neighbours.append(Neighbour(link, address, mac))
    return neighbours, fdb


def hops(options: Options, peers: Iterable[Peer]) -> dict[PeerName, tuple[str, Prefix]]:
    """Device and tunnel end of each peer that has one."""
    found = ((peer.name, tunnel_to(options, peer)) for peer in peers)
    return {name: end for name, end in found if end is not None}


def _ends(options: Options, peer: Peer) -> Iterator[tuple[str, Prefix]]:
    families = {address.family for address in options.underlay}
    for address in peer.underlay:
        # This machine itself, under a name it had: the kernel takes no gateway of its own.
        if address in options.underlay:
            return
        if address.family in families:
            families.discard(address.family)
            yield naming.VXLAN[address.family], address
