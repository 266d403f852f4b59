"""Devices: encoding of their creation and change, decoding of what the kernel tells of them."""

from __future__ import annotations

import errno
import socket
import struct
from dataclasses import dataclass

from weave_model.prefix import Family, Prefix
from weave_router.core.state import Link, LinkKind, Vxlan
from weave_router.kernel.netlink import wire
from weave_router.kernel.netlink.wire import Message, Request

RTM_NEWLINK = 16
RTM_DELLINK = 17
RTM_GETLINK = 18
RTM_GETNSID = 90

_IFINFO = struct.Struct("=BxHiII")
_IFF_UP = 0x1
_KINDS = frozenset(kind.value for kind in LinkKind)
# struct rtgenmsg, padded to where attributes begin.
_RTGENMSG = struct.Struct("=Bxxx")
_NETNSA_NSID = 1
_NETNSA_FD = 3

_IFLA_ADDRESS = 1
_IFLA_IFNAME = 3
_IFLA_MTU = 4
_IFLA_LINK = 5
_IFLA_MASTER = 10
_IFLA_LINKINFO = 18
_IFLA_IFALIAS = 20
_IFLA_AF_SPEC = 26
_IFLA_GROUP = 27
_IFLA_NET_NS_FD = 28
_IFLA_EXT_MASK = 29
_IFLA_LINK_NETNSID = 37
_IFLA_TARGET_NETNSID = 46

_IFLA_INFO_KIND = 1
_IFLA_INFO_DATA = 2
_VETH_INFO_PEER = 1

_IFLA_INET6_ADDR_GEN_MODE = 8
_ADDR_GEN_NONE = 1

_IFLA_VXLAN_ID = 1
_IFLA_VXLAN_LOCAL = 4
_IFLA_VXLAN_TTL = 5
_IFLA_VXLAN_LEARNING = 7
_IFLA_VXLAN_PORT = 15
_IFLA_VXLAN_LOCAL6 = 17
_IFLA_VXLAN_DF = 29
_DF_SET = 1

# Statistics make up most of a link message and nobody reads them.
_SKIP_STATS = 1 << 3


@dataclass(frozen=True, slots=True)
class FoundLink:
    """A device as the kernel tells of it. `link` is None for kinds the router never makes."""

    index: int
    name: str
    kind: str
    mac: bytes
    mtu: int
    up: bool
    alias: str
    link: Link | None
    # A veth's other end: its index there, and how the kernel numbers that namespace here.
    peer_index: int = 0
    peer_nsid: int | None = None


@dataclass(frozen=True, slots=True)
class VethPeer:
    """The sandbox end of a veth."""

    name: str
    mac: bytes
    mtu: int
    namespace_fd: int


def create(link: Link, peer: VethPeer | None = None) -> Request:
    """Creation of a device, down; `change` gives it what only an existing device can have."""
    info = wire.text(_IFLA_INFO_KIND, link.kind)
    if link.vxlan is not None:
        info += wire.nested(_IFLA_INFO_DATA, *_vxlan_data(link.vxlan))
    if peer is not None:
        attributes = [
            wire.text(_IFLA_IFNAME, peer.name),
            wire.attribute(_IFLA_ADDRESS, peer.mac),
            wire.u32(_IFLA_MTU, peer.mtu),
            wire.u32(_IFLA_NET_NS_FD, peer.namespace_fd),
        ]
        payload = _IFINFO.pack(0, 0, 0, 0, 0) + b"".join(attributes)
        info += wire.nested(_IFLA_INFO_DATA, wire.attribute(_VETH_INFO_PEER, payload))
    payload = b"".join(
        (
            _IFINFO.pack(0, 0, 0, 0, 0),
            wire.text(_IFLA_IFNAME, link.name),
            wire.attribute(_IFLA_ADDRESS, link.mac),
            wire.u32(_IFLA_MTU, link.mtu),
            wire.u32(_IFLA_GROUP, link.group),
            wire.nested(_IFLA_LINKINFO, info),
        )
    )
    return Request(RTM_NEWLINK, wire.NLM_F_CREATE | wire.NLM_F_EXCL, payload, link)


def change(link: Link, found: Link | None = None) -> list[Request]:
    """Requests that give an existing device all changeable properties of `link`.

    With `found`, only those that differ are written. The device comes up last: it must not invent a
    link-local address.
    """
    attributes: list[bytes] = []
    if found is None or found.alias != link.alias:
        attributes.append(wire.attribute(_IFLA_IFALIAS, link.alias.encode()))
    if found is not None and found.mac != link.mac:
        attributes.append(wire.attribute(_IFLA_ADDRESS, link.mac))
    if found is not None and found.mtu != link.mtu:
        attributes.append(wire.u32(_IFLA_MTU, link.mtu))
    if found is not None and found.master != link.master:
        attributes.append(wire.u32(_IFLA_MASTER, 0))
    requests = []
    if attributes:
        requests.append(_set(link, b"".join(attributes)))
    if found is not None and found.group != link.group:
        # By itself: kernels before 5.19 give all that comes with a group to every device of it when
        # the named one is gone.
        requests.append(_set(link, wire.u32(_IFLA_GROUP, link.group)))
    if link.addrgen_none and (found is None or not found.addrgen_none):
        mode = wire.nested(socket.AF_INET6, wire.u8(_IFLA_INET6_ADDR_GEN_MODE, _ADDR_GEN_NONE))
        # Without IPv6 in the kernel there is nothing to turn off.
        requests.append(_set(link, wire.nested(_IFLA_AF_SPEC, mode), (errno.EAFNOSUPPORT,)))
    if link.up and (found is None or not found.up):
        requests.append(_set(link, b"", flags=_IFF_UP))
    return requests


def bring_up(index: int, subject: object) -> Request:
    """Brings the device with this index up."""
    return Request(RTM_NEWLINK, 0, _IFINFO.pack(0, 0, index, _IFF_UP, _IFF_UP), subject)


def restore(index: int, mac: bytes, mtu: int, subject: object) -> Request:
    """Gives the device with this index its address and MTU and brings it up."""
    payload = _IFINFO.pack(0, 0, index, _IFF_UP, _IFF_UP)
    payload += wire.attribute(_IFLA_ADDRESS, mac) + wire.u32(_IFLA_MTU, mtu)
    return Request(RTM_NEWLINK, 0, payload, subject)


def remove(name: str) -> Request:
    """Removal; a device that is gone already is success."""
    payload = _IFINFO.pack(0, 0, 0, 0, 0) + wire.text(_IFLA_IFNAME, name)
    return Request(RTM_DELLINK, 0, payload, f"link {name}", tolerated=(errno.ENODEV,))


def get(name: str) -> Request:
    """One device by name."""
    payload = _IFINFO.pack(0, 0, 0, 0, 0) + wire.u32(_IFLA_EXT_MASK, _SKIP_STATS)
    return Request(RTM_GETLINK, 0, payload + wire.text(_IFLA_IFNAME, name), f"link {name}")


def dump(nsid: int | None = None) -> Request:
    """All devices, of another namespace when the kernel's number of it is given."""
    payload = _IFINFO.pack(0, 0, 0, 0, 0) + wire.u32(_IFLA_EXT_MASK, _SKIP_STATS)
    if nsid is not None:
        payload += wire.u32(_IFLA_TARGET_NETNSID, nsid)
    return Request(RTM_GETLINK, 0, payload, "links")


def get_nsid(namespace_fd: int) -> Request:
    """How the kernel numbers another namespace here."""
    payload = _RTGENMSG.pack(socket.AF_UNSPEC) + wire.u32(_NETNSA_FD, namespace_fd)
    return Request(RTM_GETNSID, 0, payload, "namespace")


def decode_nsid(message: Message) -> int | None:
    """The number; None when the namespace has none, so no link leads there."""
    attributes = wire.parse_attributes(message.payload, 4)
    number = wire.read_s32(attributes[_NETNSA_NSID])
    return number if number >= 0 else None


def decode(message: Message) -> FoundLink:
    """What a link message says."""
    _, _, index, flags, _ = _IFINFO.unpack_from(message.payload)
    attributes = wire.parse_attributes(message.payload, _IFINFO.size)
    info = wire.parse_attributes(attributes.get(_IFLA_LINKINFO, b""))
    kind = wire.read_text(info.get(_IFLA_INFO_KIND, b""))
    name = wire.read_text(attributes.get(_IFLA_IFNAME, b""))
    mac = attributes.get(_IFLA_ADDRESS, b"")
    mtu = wire.read_u32(attributes[_IFLA_MTU]) if _IFLA_MTU in attributes else 0
    alias = wire.read_text(attributes.get(_IFLA_IFALIAS, b""))
    link = None
    if kind in _KINDS:
        vxlan = None
        if kind == LinkKind.VXLAN:
            vxlan = _decode_vxlan(wire.parse_attributes(info.get(_IFLA_INFO_DATA, b"")))
        link = Link(
            name=name,
            kind=LinkKind(kind),
            mac=mac,
            mtu=mtu,
            up=bool(flags & _IFF_UP),
            alias=alias,
            vxlan=vxlan,
            addrgen_none=_is_addrgen_none(attributes.get(_IFLA_AF_SPEC, b"")),
            master=_IFLA_MASTER in attributes,
            group=wire.read_u32(attributes[_IFLA_GROUP]) if _IFLA_GROUP in attributes else 0,
        )
    nsid = attributes.get(_IFLA_LINK_NETNSID)
    peer = attributes.get(_IFLA_LINK)
    return FoundLink(
        index=index,
        name=name,
        kind=kind,
        mac=mac,
        mtu=mtu,
        up=bool(flags & _IFF_UP),
        alias=alias,
        link=link,
        peer_index=wire.read_u32(peer) if peer else 0,
        peer_nsid=wire.read_u32(nsid) if nsid else None,
    )


def _set(link: Link, attributes: bytes, tolerated: tuple[int, ...] = (), flags: int = 0) -> Request:
    payload = _IFINFO.pack(0, 0, 0, flags, flags) + wire.text(_IFLA_IFNAME, link.name) + attributes
    return Request(RTM_NEWLINK, 0, payload, link, tolerated)


def _vxlan_data(vxlan: Vxlan) -> list[bytes]:
    data = [
        wire.u32(_IFLA_VXLAN_ID, vxlan.vni),
        wire.u16_big_endian(_IFLA_VXLAN_PORT, vxlan.port),
        wire.u8(_IFLA_VXLAN_LEARNING, int(vxlan.learning)),
        wire.u8(_IFLA_VXLAN_TTL, vxlan.ttl),
        wire.u8(_IFLA_VXLAN_DF, _DF_SET if vxlan.dont_fragment else 0),
    ]
    if vxlan.local is not None:
        kind = _IFLA_VXLAN_LOCAL if vxlan.family is Family.IPV4 else _IFLA_VXLAN_LOCAL6
        data.append(wire.attribute(kind, vxlan.local.to_bytes()))
    return data


def _decode_vxlan(data: dict[int, bytes]) -> Vxlan:
    local, family = None, Family.IPV4
    if _IFLA_VXLAN_LOCAL6 in data:
        family = Family.IPV6
        local = Prefix.from_bytes(data[_IFLA_VXLAN_LOCAL6], 128)
    elif any(data.get(_IFLA_VXLAN_LOCAL, b"")):
        local = Prefix.from_bytes(data[_IFLA_VXLAN_LOCAL], 32)
    return Vxlan(
        vni=wire.read_u32(data[_IFLA_VXLAN_ID]) if _IFLA_VXLAN_ID in data else 0,
        port=int.from_bytes(data.get(_IFLA_VXLAN_PORT, b""), "big"),
        family=family,
        local=local,
        learning=any(data.get(_IFLA_VXLAN_LEARNING, b"")),
        dont_fragment=data.get(_IFLA_VXLAN_DF, b"\0")[0] == _DF_SET,
        ttl=data.get(_IFLA_VXLAN_TTL, b"\0")[0],
    )


def _is_addrgen_none(af_spec: bytes) -> bool:
    inet6 = wire.parse_attributes(af_spec).get(socket.AF_INET6)
    if inet6 is None:
        return True
    mode = wire.parse_attributes(inet6).get(_IFLA_INET6_ADDR_GEN_MODE)
    return mode is None or mode[0] == _ADDR_GEN_NONE
