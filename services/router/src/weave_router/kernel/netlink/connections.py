"""Entries of connection tracking: linux/netfilter/nfnetlink_conntrack.h.

A table of 100,000 entries is 20 MB of answers, hardly any of which matter. So a datagram is first
searched for addresses as a whole, some 100 entries at once, and read by attributes only then.
"""

from __future__ import annotations

import errno
import re
import socket
import struct
from dataclasses import dataclass

from weave_model.prefix import Prefix
from weave_router.core.connections import ALL_MESH_PORTS, Connection
from weave_router.kernel.netlink import wire
from weave_router.kernel.netlink.wire import Message, Request

_SUBSYSTEM = 1
_GET = _SUBSYSTEM << 8 | 1
_DELETE = _SUBSYSTEM << 8 | 2

# struct nfgenmsg: family, version, resource.
_NFGENMSG = struct.Struct("=BBH")
_TUPLE_ORIGINAL, _TUPLE_REPLY, _ID, _ZONE = 1, 2, 12, 18
_TUPLE_IP, _TUPLE_PROTO = 1, 2
_PROTO_NUMBER, _PROTO_SOURCE_PORT = 1, 2
_PORT = struct.Struct("!H")
# Source and destination of each family.
_IP_ENDS = ((1, 2), (3, 4))


def _ends_of_length(length: int, ends: tuple[int, int]) -> re.Pattern[bytes]:
    source, destination = (re.escape(wire.ATTRIBUTE.pack(4 + length, end)) for end in ends)
    return re.compile(b"(?:%b|%b)(?=(.{%d}))" % (source, destination, length), re.DOTALL)


_ENDS = tuple(_ends_of_length(length, ends) for length, ends in zip((4, 16), _IP_ENDS, strict=True))


# A source port of the mesh, which is where a connection leads to when it is an answer's.
_FROM_MESH_PORT = re.compile(
    re.escape(wire.ATTRIBUTE.pack(wire.ATTRIBUTE.size + _PORT.size, _PROTO_SOURCE_PORT))
    + b"(?:%b)" % b"|".join(re.escape(_PORT.pack(p)) for p in sorted(ALL_MESH_PORTS)),
    re.DOTALL,
)


@dataclass(frozen=True, slots=True)
class Tracked:
    """A connection and by what the kernel knows it again."""

    connection: Connection
    family: int
    # Attributes as they were read: the original tuple, the zone, the number of this very entry.
    handle: bytes


def dump() -> Request:
    """All entries of both families."""
    return Request(_GET, 0, _NFGENMSG.pack(socket.AF_UNSPEC, 0, 0), "tracked connections")


def mentioned(datagram: bytes) -> set[bytes]:
    """All addresses of connections in a datagram, 4 or 16 bytes each; perhaps more than those."""
    return {found for pattern in _ENDS for found in pattern.findall(datagram)}


def leads_to_mesh(datagram: bytes) -> bool:
    """May there be a connection to a port of the mesh in it?"""
    return _FROM_MESH_PORT.search(datagram) is not None


def decode(message: Message) -> Tracked | None:
    """One entry; None: it has no addresses that we could read."""
    family, _, _ = _NFGENMSG.unpack_from(message.payload)
    attributes = wire.parse_attributes(message.payload, _NFGENMSG.size)
    original = _ip_ends(attributes.get(_TUPLE_ORIGINAL, b""))
    reply = _ip_ends(attributes.get(_TUPLE_REPLY, b""))
    if original is None or reply is None:
        return None
    handle = wire.nested(_TUPLE_ORIGINAL, attributes[_TUPLE_ORIGINAL])
    handle += b"".join(
        wire.attribute(kind, attributes[kind]) for kind in (_ZONE, _ID) if kind in attributes
    )
    protocol, port = _answers_from(attributes[_TUPLE_REPLY])
    connection = Connection(*original, *reply, protocol=protocol, reply_source_port=port)
    return Tracked(connection, family, handle)


def remove(tracked: Tracked) -> Request:
    """Removes one entry; one that has ended meanwhile is success, also where another has taken its
    place."""
    # Without a tuple the kernel would take it for "all": a handle always has one.
    payload = _NFGENMSG.pack(tracked.family, 0, 0) + tracked.handle
    return Request(_DELETE, 0, payload, tracked.connection, (errno.ENOENT,))


def _ip_ends(tuple_: bytes) -> tuple[Prefix, Prefix] | None:
    ip = wire.parse_attributes(wire.parse_attributes(tuple_).get(_TUPLE_IP, b""))
    for source, destination in _IP_ENDS:
        if source in ip and destination in ip:
            return _host(ip[source]), _host(ip[destination])
    return None


def _answers_from(tuple_: bytes) -> tuple[int, int]:
    proto = wire.parse_attributes(wire.parse_attributes(tuple_).get(_TUPLE_PROTO, b""))
    number, port = proto.get(_PROTO_NUMBER, b"\0"), proto.get(_PROTO_SOURCE_PORT, b"\0\0")
    return number[0], _PORT.unpack(port)[0]


def _host(raw: bytes) -> Prefix:
    return Prefix.from_bytes(raw, len(raw) * 8)
