"""Packets made by hand, and sockets inside namespaces: what a hostile pod or host can do."""

from __future__ import annotations

import contextlib
import socket
import struct
from collections.abc import Iterator

from tests.kernel.namespaces import Netns

_ETH_P_ALL = 0x0003
_ETH_P_IP = 0x0800
_UDP = 17
_ICMP = 1
_REDIRECT_HOST = b"\x05\x01"
# Nothing in these namespaces takes longer than a few milliseconds.
WAIT_S = 0.2
# A connection's first packet may have to be repeated after a second only if it was lost.
_TCP_WAIT_S = 0.7


def udp_packet(source: str, destination: str, port: int, payload: bytes) -> bytes:
    """IPv4 and UDP (checksum 0: none) around a payload."""
    datagram = struct.pack("!HHHH", 40000, port, 8 + len(payload), 0) + payload
    return ipv4_packet(source, destination, _UDP, datagram)


def ipv4_packet(source: str, destination: str, protocol: int, payload: bytes) -> bytes:
    """An IPv4 packet (RFC 791)."""
    head = struct.pack("!BBHHHBB", 0x45, 0, 20 + len(payload), 0, 0x4000, 64, protocol)
    addresses = socket.inet_aton(source) + socket.inet_aton(destination)
    checksum = _checksum(head + b"\0\0" + addresses)
    return head + struct.pack("!H", checksum) + addresses + payload


def frame(source_mac: bytes, destination_mac: bytes, packet: bytes) -> bytes:
    """An Ethernet frame with an IPv4 packet."""
    return destination_mac + source_mac + struct.pack("!H", _ETH_P_IP) + packet


def vxlan(inner: bytes, vni: int = 6784) -> bytes:
    """Payload of a VXLAN datagram (RFC 7348)."""
    return struct.pack("!II", 0x08000000, vni << 8) + inner


def redirect(gateway: str, of: bytes) -> bytes:
    """An ICMP redirect for the host that `of`, an IPv4 packet, was sent to (RFC 792)."""
    body = socket.inet_aton(gateway) + of[:28]
    checksum = _checksum(_REDIRECT_HOST + b"\0\0" + body)
    return _REDIRECT_HOST + struct.pack("!H", checksum) + body


def send_frame(space: Netns, device: str, data: bytes) -> None:
    """Sends a frame as it is."""
    with packet_socket(space, device) as sender:
        sender.send(data)


def send_datagram(space: Netns, destination: str, port: int, payload: bytes) -> None:
    """Sends UDP by the namespace's own network stack."""
    with udp_socket(space) as sender:
        sender.sendto(payload, (destination, port))


def send_icmp(space: Netns, source: str, destination: str, message: bytes) -> None:
    """Sends an ICMP message by the namespace's own network stack, from one of its addresses."""
    with space.call(lambda: socket.socket(socket.AF_INET, socket.SOCK_RAW, _ICMP)) as sender:
        sender.bind((source, 0))
        sender.sendto(message, (destination, 0))


@contextlib.contextmanager
def packet_socket(space: Netns, device: str) -> Iterator[socket.socket]:
    """Sees and sends all frames of a device."""

    def make() -> socket.socket:
        made = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(_ETH_P_ALL))
        made.bind((device, _ETH_P_ALL))
        made.settimeout(WAIT_S)
        return made

    with space.call(make) as opened:
        yield opened


@contextlib.contextmanager
def udp_socket(space: Netns, port: int = 0) -> Iterator[socket.socket]:
    """A UDP socket of a namespace, on all addresses."""

    def make() -> socket.socket:
        made = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        made.bind(("", port))
        made.settimeout(WAIT_S)
        return made

    with space.call(make) as opened:
        yield opened


def received(listener: socket.socket) -> tuple[bytes, tuple[str, int]] | None:
    """The next datagram and who sent it; None when none comes."""
    try:
        data, sender = listener.recvfrom(65536)
    except TimeoutError:
        return None
    return data, sender[:2]


def can_talk_tcp(client: Netns, server: Netns, address: str, size: int = 100_000) -> bool:
    """Does a TCP connection carry some bytes there and back?"""
    family = socket.AF_INET6 if ":" in address else socket.AF_INET

    def listen() -> socket.socket:
        made = socket.socket(family, socket.SOCK_STREAM)
        made.bind(("", 0))
        made.listen()
        made.settimeout(_TCP_WAIT_S)
        return made

    def connect(port: int) -> socket.socket:
        made = socket.socket(family, socket.SOCK_STREAM)
        made.settimeout(_TCP_WAIT_S)
        made.connect((address, port))
        return made

    with server.call(listen) as listener:
        port = listener.getsockname()[1]
        try:
            with client.call(lambda: connect(port)) as near, listener.accept()[0] as far:
                far.settimeout(_TCP_WAIT_S)
                return _echoed(near, far, size)
        except OSError:
            return False


def _echoed(near: socket.socket, far: socket.socket, size: int) -> bool:
    near.setblocking(False)
    sent = got = 0
    while got < size:
        with contextlib.suppress(BlockingIOError):
            sent += near.send(b"x" * min(size - sent, 16384)) if sent < size else 0
        data = far.recv(65536)
        if not data:
            return False
        got += len(data)
    far.sendall(b"ok")
    near.settimeout(_TCP_WAIT_S)
    return near.recv(2) == b"ok"


def _checksum(data: bytes) -> int:
    total: int = sum(struct.unpack(f"!{len(data) // 2}H", data + b"\0" * (len(data) % 2)))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF
