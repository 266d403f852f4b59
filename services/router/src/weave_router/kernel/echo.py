"""Echo requests, answered by the far kernel whatever its services do.

An unprivileged ICMP socket (Linux: `ping_group_range`) is enough, which saves the router
CAP_NET_RAW, and its kernel side checks that answers are to this socket's own requests.
"""

from __future__ import annotations

import os
import socket
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from weave_model.prefix import Family, format_address
from weave_router.core.prober import Target
from weave_router.kernel import sysctl

_GROUPS = "net/ipv4/ping_group_range"
# ICMP (RFC 792) and ICMPv6 (RFC 4443 section 4): type, code, checksum, identifier, sequence.
_HEADER = struct.Struct("!BBHHH")
_TOKEN_BYTES = 8
# linux/in.h and linux/in6.h; the socket module does not know all of it.
_IP_MTU_DISCOVER = 10
_IP_PKTINFO = 8
_IPV6_MTU_DISCOVER = 23
# DF always, and never mind what the kernel has learnt of the path.
_PMTUDISC_PROBE = 3
# struct in_pktinfo: device, source address, destination of a received packet.
_PKTINFO = struct.Struct("=I4s4x")
_RECEIVE_BYTES = 1 << 16
_BUFFER_BYTES = 1 << 18


@dataclass(frozen=True, slots=True)
class _Protocol:
    """What differs between the families."""

    domain: int
    protocol: int
    level: int
    mtu_discover: int
    request: int
    reply: int
    ip_header_bytes: int


_PROTOCOLS = {
    Family.IPV4: _Protocol(
        socket.AF_INET, socket.IPPROTO_ICMP, socket.IPPROTO_IP, _IP_MTU_DISCOVER, 8, 0, 20
    ),
    Family.IPV6: _Protocol(
        socket.AF_INET6,
        socket.IPPROTO_ICMPV6,
        socket.IPPROTO_IPV6,
        _IPV6_MTU_DISCOVER,
        128,
        129,
        40,
    ),
}


class EchoSocket:
    """Sends probes to addresses of one family and hears their echoes. Never blocks."""

    def __init__(self, family: Family, proc_sys: Path = sysctl.PROC_SYS) -> None:
        """Raises OSError where the kernel lacks the family or refuses ICMP sockets."""
        self._family = family
        self._protocol = protocol = _PROTOCOLS[family]
        self._socket = _open(protocol, proc_sys)
        self._socket.setblocking(False)
        self._socket.setsockopt(protocol.level, protocol.mtu_discover, _PMTUDISC_PROBE)
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _BUFFER_BYTES)

    def fileno(self) -> int:
        """Readable when echoes have come."""
        return self._socket.fileno()

    def close(self) -> None:
        """Closes the socket. Idempotent."""
        self._socket.close()

    def send(self, target: Target, size: int, token: int) -> None:
        """Sends one packet of `size` bytes over the target's device, whatever the routes say.

        Raises OSError: no such device, or the packet is larger than it carries.
        """
        # The kernel fills in identifier and checksum.
        message = _HEADER.pack(self._protocol.request, 0, 0, 0, 0)
        message += token.to_bytes(_TOKEN_BYTES, "big")
        message += bytes(max(0, size - self._protocol.ip_header_bytes - len(message)))
        address = format_address(target.address.family, target.address.address)
        index = socket.if_nametoindex(target.link)
        if self._family is Family.IPV6:
            self._socket.sendto(message, (address, 0, 0, index))
            return
        # With a device and no route over it, IPv4 takes the address to be on the link.
        source = target.source.to_bytes() if target.source is not None else bytes(4)
        info = (socket.IPPROTO_IP, _IP_PKTINFO, _PKTINFO.pack(index, source))
        self._socket.sendmsg([message], [info], 0, (address, 0))

    def received(self) -> Iterator[int]:
        """The tokens of all echoes that have come."""
        while True:
            try:
                message = self._socket.recv(_RECEIVE_BYTES)
            except OSError:
                # Nothing is left, or an ICMP error about a probe that will be missed anyway: what
                # is behind that makes the socket readable again.
                return
            end = _HEADER.size + _TOKEN_BYTES
            if len(message) >= end and message[0] == self._protocol.reply:
                yield int.from_bytes(message[_HEADER.size : end], "big")


def _open(protocol: _Protocol, proc_sys: Path) -> socket.socket:
    try:
        return _socket(protocol)
    except PermissionError:
        # The range is looked at when a socket is made, and never again: it is ours for a moment.
        before = sysctl.read(_GROUPS)
        group = os.getegid()
        sysctl.write(_GROUPS, f"{group} {group}", proc_sys)
        try:
            return _socket(protocol)
        finally:
            if before is not None:
                sysctl.write(_GROUPS, before, proc_sys)


def _socket(protocol: _Protocol) -> socket.socket:
    kind = socket.SOCK_DGRAM | socket.SOCK_CLOEXEC
    return socket.socket(protocol.domain, kind, protocol.protocol)
