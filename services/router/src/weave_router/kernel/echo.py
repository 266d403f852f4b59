"""Echo requests between tunnel ends, answered by the far kernel whatever its services do.

An unprivileged ICMP socket (Linux: `ping_group_range`) is enough, which saves the router
CAP_NET_RAW, and its kernel side checks that answers are to this socket's own requests.
"""

from __future__ import annotations

import os
import socket
import struct
from collections.abc import Iterator
from pathlib import Path

from weave_model.peer import PeerName
from weave_model.prefix import format_address
from weave_router.core import naming
from weave_router.kernel import sysctl

_GROUPS = "net/ipv4/ping_group_range"
# ICMPv6 (RFC 4443 section 4): type, code, checksum, identifier, sequence.
_HEADER = struct.Struct("!BBHHH")
_ECHO_REQUEST = 128
_ECHO_REPLY = 129
_IPV6_HEADER_BYTES = 40
_TOKEN_BYTES = 8
# linux/in6.h; the socket module does not know it.
_IPV6_MTU_DISCOVER = 23
# DF always, and never mind what the kernel has learnt of the path.
_IPV6_PMTUDISC_PROBE = 3
_RECEIVE_BYTES = 1 << 16
_BUFFER_BYTES = 1 << 18


class EchoSocket:
    """Sends probes through tunnels and hears their echoes. Never blocks."""

    def __init__(self, proc_sys: Path = sysctl.PROC_SYS) -> None:
        """Raises OSError where the kernel has no IPv6 or refuses ICMP sockets."""
        self._socket = _open(proc_sys)
        self._socket.setblocking(False)
        self._socket.setsockopt(socket.IPPROTO_IPV6, _IPV6_MTU_DISCOVER, _IPV6_PMTUDISC_PROBE)
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _BUFFER_BYTES)

    def fileno(self) -> int:
        """Readable when echoes have come."""
        return self._socket.fileno()

    def close(self) -> None:
        """Closes the socket. Idempotent."""
        self._socket.close()

    def send(self, peer: PeerName, link: str, size: int, token: int) -> None:
        """Sends one packet of `size` bytes to the end of a peer's tunnel.

        Raises OSError: no such device, or the packet is larger than it carries.
        """
        address = naming.tunnel_link_local(peer)
        target = format_address(address.family, address.address)
        payload = token.to_bytes(_TOKEN_BYTES, "big")
        # The kernel fills in identifier and checksum.
        message = _HEADER.pack(_ECHO_REQUEST, 0, 0, 0, 0) + payload
        message += bytes(max(0, size - _IPV6_HEADER_BYTES - len(message)))
        self._socket.sendto(message, (target, 0, 0, socket.if_nametoindex(link)))

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
            if len(message) >= end and message[0] == _ECHO_REPLY:
                yield int.from_bytes(message[_HEADER.size : end], "big")


def _open(proc_sys: Path) -> socket.socket:
    try:
        return _socket()
    except PermissionError:
        # The range is looked at when a socket is made, and never again: it is ours for a moment.
        before = sysctl.read(_GROUPS)
        group = os.getegid()
        sysctl.write(_GROUPS, f"{group} {group}", proc_sys)
        try:
            return _socket()
        finally:
            if before is not None:
                sysctl.write(_GROUPS, before, proc_sys)


def _socket() -> socket.socket:
    kind = socket.SOCK_DGRAM | socket.SOCK_CLOEXEC
    return socket.socket(socket.AF_INET6, kind, socket.IPPROTO_ICMPV6)
