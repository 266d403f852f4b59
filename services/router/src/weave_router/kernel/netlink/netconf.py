"""Per-device switches of IPv4 as netlink tells them: one dump instead of a file for each device."""

from __future__ import annotations

import socket
import struct

from weave_router.kernel.netlink import wire
from weave_router.kernel.netlink.wire import Message, Request

RTM_NEWNETCONF = 80
RTM_GETNETCONF = 82

# struct netconfmsg: the family, padded.
_NETCONFMSG = struct.Struct("=Bxxx")
_NETCONFA_IFINDEX = 1
_NETCONFA_FORWARDING = 2
# The pseudo device of switches that hold for all.
ALL_DEVICES = -1


def dump() -> Request:
    """The IPv4 switches of all devices."""
    return Request(RTM_GETNETCONF, 0, _NETCONFMSG.pack(socket.AF_INET), "device switches")


def index(message: Message) -> int | None:
    """The device that a message is about; ALL_DEVICES, another negative one for `default`."""
    raw = wire.parse_attributes(message.payload, _NETCONFMSG.size).get(_NETCONFA_IFINDEX)
    return wire.read_s32(raw) if raw is not None else None


def forwards(message: Message) -> bool | None:
    """Whether the device forwards; None: the message does not say."""
    raw = wire.parse_attributes(message.payload, _NETCONFMSG.size).get(_NETCONFA_FORWARDING)
    return wire.read_s32(raw) > 0 if raw is not None else None
