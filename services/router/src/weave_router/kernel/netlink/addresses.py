"""Addresses of devices."""

from __future__ import annotations

import errno
import socket
import struct
from dataclasses import dataclass

from weave_model.prefix import Family, Prefix
from weave_router.kernel.netlink import wire
from weave_router.kernel.netlink.wire import Message, Request

RTM_NEWADDR = 20
RTM_DELADDR = 21
RTM_GETADDR = 22

_IFADDR = struct.Struct("=BBBBI")
_IFA_ADDRESS = 1
_IFA_LOCAL = 2
_IFA_FLAGS = 8
_IFA_TARGET_NETNSID = 10
_IFA_F_NODAD = 0x02

SCOPE_GLOBAL = 0
SCOPE_LINK = 253

AF = {Family.IPV4: socket.AF_INET, Family.IPV6: socket.AF_INET6}
FAMILY = {int(value): key for key, value in AF.items()}


@dataclass(frozen=True, slots=True)
class FoundAddress:
    """An address of the device with this index; `length` is that of its on-link prefix."""

    index: int
    address: Prefix
    length: int
    scope: int


def add(
    index: int, prefix: Prefix, *, link_scope: bool, subject: object, length: int = 0
) -> Request:
    """Gives a device an address, at once usable; one that is there already is success.

    `length` is that of the network on the link; 0: full.
    """
    scope = SCOPE_LINK if link_scope else SCOPE_GLOBAL
    payload = _payload(index, prefix, length or prefix.length, scope)
    if prefix.family is Family.IPV6:
        # No duplicate detection: it takes a second, and fails where a device has no carrier.
        payload += wire.u32(_IFA_FLAGS, _IFA_F_NODAD)
    flags = wire.NLM_F_CREATE | wire.NLM_F_EXCL
    return Request(RTM_NEWADDR, flags, payload, subject, tolerated=(errno.EEXIST,))


def remove(index: int, prefix: Prefix, length: int, subject: object) -> Request:
    """Takes an address away; one that is gone already is success."""
    payload = _IFADDR.pack(AF[prefix.family], length, 0, 0, index)
    payload += wire.attribute(_IFA_LOCAL, prefix.to_bytes())
    tolerated = (errno.EADDRNOTAVAIL, errno.ENODEV)
    return Request(RTM_DELADDR, 0, payload, subject, tolerated)


def dump(nsid: int | None = None) -> Request:
    """All addresses of both families, of another namespace when the kernel's number of it is
    given."""
    payload = _IFADDR.pack(socket.AF_UNSPEC, 0, 0, 0, 0)
    if nsid is not None:
        payload += wire.u32(_IFA_TARGET_NETNSID, nsid)
    return Request(RTM_GETADDR, 0, payload, "addresses")


def decode(message: Message) -> FoundAddress | None:
    """What an address message says; None for other families."""
    family_number, length, _, scope, index = _IFADDR.unpack_from(message.payload)
    family = FAMILY.get(family_number)
    attributes = wire.parse_attributes(message.payload, _IFADDR.size)
    raw = attributes.get(_IFA_LOCAL, attributes.get(_IFA_ADDRESS))
    if family is None or raw is None:
        return None
    return FoundAddress(index, Prefix.from_bytes(raw, family.bits), length, scope)


def _payload(index: int, prefix: Prefix, length: int, scope: int) -> bytes:
    raw = prefix.to_bytes()
    return (
        _IFADDR.pack(AF[prefix.family], length, 0, scope, index)
        + wire.attribute(_IFA_LOCAL, raw)
        + wire.attribute(_IFA_ADDRESS, raw)
    )
