"""Netlink framing: message headers and attributes as bytes, in host byte order.

Pure functions, no socket. See linux/netlink.h and netlink(7): a message is a 16-byte header and a
payload, an attribute a 4-byte header and a payload, both padded to 4 bytes.
"""

from __future__ import annotations

import struct
import sys
from collections.abc import Iterator
from dataclasses import dataclass

HEADER = struct.Struct("=IHHII")
ATTRIBUTE = struct.Struct("=HH")
_U32 = struct.Struct("=I")
_U16 = struct.Struct("=H")
_U8 = struct.Struct("=B")

NLMSG_ERROR = 2
NLMSG_DONE = 3

NLM_F_REQUEST = 0x1
NLM_F_ACK = 0x4
NLM_F_DUMP_INTR = 0x10
NLM_F_DUMP = 0x300
NLM_F_REPLACE = 0x100
NLM_F_EXCL = 0x200
NLM_F_CREATE = 0x400

NLM_F_CAPPED = 0x100
NLM_F_ACK_TLVS = 0x200
NLMSGERR_ATTR_MSG = 1

# The two top bits of an attribute type are flags (nested, network byte order).
_TYPE_MASK = 0x3FFF
_NESTED = 0x8000
_PADDING = (b"", b"\0\0\0", b"\0\0", b"\0")


@dataclass(frozen=True, slots=True)
class Request:
    """One message to the kernel, without its header.

    `flags` are those beyond NLM_F_REQUEST. `subject` names the object in errors.
    """

    kind: int
    flags: int
    payload: bytes
    subject: object = ""
    # Errors that mean the request is fulfilled already (ENOENT of a removal).
    tolerated: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class Message:
    """One message from the kernel."""

    kind: int
    flags: int
    sequence: int
    port: int
    payload: bytes


def attribute(kind: int, payload: bytes) -> bytes:
    """One attribute with its padding."""
    return ATTRIBUTE.pack(len(payload) + 4, kind) + payload + _PADDING[len(payload) & 3]


def nested(kind: int, *attributes: bytes) -> bytes:
    """An attribute that holds attributes."""
    return attribute(kind | _NESTED, b"".join(attributes))


def u32(kind: int, value: int) -> bytes:
    """A 32-bit attribute in host byte order."""
    return attribute(kind, _U32.pack(value))


def u16_big_endian(kind: int, value: int) -> bytes:
    """A 16-bit attribute in network byte order, as ports are."""
    return attribute(kind, value.to_bytes(2, "big"))


def u8(kind: int, value: int) -> bytes:
    """An 8-bit attribute."""
    return attribute(kind, _U8.pack(value))


def text(kind: int, value: str) -> bytes:
    """A string with its terminating zero."""
    return attribute(kind, value.encode() + b"\0")


def frame(request: Request, sequence: int, flags: int) -> bytes:
    """The whole message with header; `flags` come on top of the request's own."""
    length = HEADER.size + len(request.payload)
    header = HEADER.pack(length, request.kind, request.flags | flags | NLM_F_REQUEST, sequence, 0)
    return header + request.payload + _PADDING[length & 3]


def split_messages(buffer: bytes) -> Iterator[Message]:
    """The messages in one datagram. A truncated rest is dropped: the kernel sends whole
    messages."""
    offset, end = 0, len(buffer)
    while offset + HEADER.size <= end:
        length, kind, flags, sequence, port = HEADER.unpack_from(buffer, offset)
        if length < HEADER.size or offset + length > end:
            return
        yield Message(kind, flags, sequence, port, buffer[offset + HEADER.size : offset + length])
        offset += (length + 3) & ~3


def has_end(buffer: bytes) -> bool:
    """Is a message among these that ends a dump, by success or error? Costs less than reading
    them."""
    offset, end = 0, len(buffer)
    while offset + HEADER.size <= end:
        length, kind, _, _, _ = HEADER.unpack_from(buffer, offset)
        if length < HEADER.size:
            return False
        if kind in (NLMSG_ERROR, NLMSG_DONE):
            return True
        offset += (length + 3) & ~3
    return False


def parse_attributes(buffer: bytes, offset: int = 0) -> dict[int, bytes]:
    """Type to payload of all attributes from `offset` on; of equal types the last."""
    attributes: dict[int, bytes] = {}
    end = len(buffer)
    unpack = ATTRIBUTE.unpack_from
    while offset + 4 <= end:
        length, kind = unpack(buffer, offset)
        if length < 4 or offset + length > end:
            break
        attributes[kind & _TYPE_MASK] = buffer[offset + 4 : offset + length]
        offset += (length + 3) & ~3
    return attributes


def read_u32(payload: bytes) -> int:
    """A 32-bit number in host byte order."""
    return int(_U32.unpack_from(payload)[0])


def read_s32(payload: bytes) -> int:
    """A signed 32-bit number in host byte order."""
    return int.from_bytes(payload[:4], sys.byteorder, signed=True)


def read_u16(payload: bytes) -> int:
    """A 16-bit number in host byte order."""
    return int(_U16.unpack_from(payload)[0])


def read_text(payload: bytes) -> str:
    """A string up to its terminating zero."""
    return payload.partition(b"\0")[0].decode(errors="replace")
