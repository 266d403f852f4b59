"""Permanent neighbour entries and the forwarding entries of VXLAN devices."""

from __future__ import annotations

import errno
import socket
import struct
from collections.abc import Mapping

from weave_model.prefix import Family, Prefix
from weave_router.core.state import FdbEntry, Neighbour
from weave_router.kernel.netlink import wire
from weave_router.kernel.netlink.addresses import AF, FAMILY
from weave_router.kernel.netlink.wire import Message, Request

RTM_NEWNEIGH = 28
RTM_DELNEIGH = 29
RTM_GETNEIGH = 30

_NDMSG = struct.Struct("=BxxxiHBB")
_NDA_DST = 1
_NDA_LLADDR = 2
_NUD_PERMANENT = 0x80
_NTF_SELF = 0x02


def set_neighbour(entry: Neighbour, index: int) -> Request:
    """Makes or corrects a permanent entry."""
    payload = _NDMSG.pack(AF[entry.address.family], index, _NUD_PERMANENT, 0, 0)
    payload += wire.attribute(_NDA_DST, entry.address.to_bytes())
    payload += wire.attribute(_NDA_LLADDR, entry.mac)
    return Request(RTM_NEWNEIGH, wire.NLM_F_CREATE | wire.NLM_F_REPLACE, payload, entry)


def remove_neighbour(entry: Neighbour, index: int) -> Request:
    """Removes an entry; one that is gone already is success."""
    payload = _NDMSG.pack(AF[entry.address.family], index, 0, 0, 0)
    payload += wire.attribute(_NDA_DST, entry.address.to_bytes())
    return Request(RTM_DELNEIGH, 0, payload, entry, (errno.ENOENT, errno.ENODEV, errno.ENXIO))


def dump_neighbours(family: Family) -> Request:
    """All neighbours of a family."""
    return Request(RTM_GETNEIGH, 0, _NDMSG.pack(AF[family], 0, 0, 0, 0), "neighbours")


def decode_neighbour(message: Message, names: Mapping[int, str]) -> Neighbour | None:
    """A permanent entry of one of the named devices; None for any other."""
    family_number, index, state, _, _ = _NDMSG.unpack_from(message.payload)
    name = names.get(index)
    if family_number not in FAMILY or not state & _NUD_PERMANENT or name is None:
        return None
    attributes = wire.parse_attributes(message.payload, _NDMSG.size)
    raw = attributes.get(_NDA_DST)
    if raw is None:
        return None
    address = Prefix.from_bytes(raw, len(raw) * 8)
    return Neighbour(name, address, attributes.get(_NDA_LLADDR, b""))


def set_fdb(entry: FdbEntry, index: int) -> Request:
    """Says which tunnel end has a MAC; another end of the same MAC is replaced."""
    flags = wire.NLM_F_CREATE | wire.NLM_F_REPLACE
    return Request(RTM_NEWNEIGH, flags, _fdb_payload(entry, index), entry)


def remove_fdb(entry: FdbEntry, index: int) -> Request:
    """Removes a forwarding entry; one that is gone already is success."""
    return Request(RTM_DELNEIGH, 0, _fdb_payload(entry, index), entry, (errno.ENOENT, errno.ENODEV))


def dump_fdb(index: int) -> Request:
    """The forwarding entries of one device."""
    payload = _NDMSG.pack(socket.AF_BRIDGE, index, 0, 0, 0)
    return Request(RTM_GETNEIGH, 0, payload, "forwarding entries")


def decode_fdb(message: Message, names: Mapping[int, str]) -> FdbEntry | None:
    """An entry of one of the named devices; None for any other, and for entries without a tunnel
    end."""
    _, index, _, flags, _ = _NDMSG.unpack_from(message.payload)
    name = names.get(index)
    attributes = wire.parse_attributes(message.payload, _NDMSG.size)
    raw = attributes.get(_NDA_DST)
    if name is None or raw is None or not flags & _NTF_SELF:
        return None
    remote = Prefix.from_bytes(raw, len(raw) * 8)
    return FdbEntry(name, attributes.get(_NDA_LLADDR, b""), remote)


def _fdb_payload(entry: FdbEntry, index: int) -> bytes:
    return (
        _NDMSG.pack(socket.AF_BRIDGE, index, _NUD_PERMANENT, _NTF_SELF, 0)
        + wire.attribute(_NDA_LLADDR, entry.mac)
        + wire.attribute(_NDA_DST, entry.remote.to_bytes())
    )
