"""Echo requests at a steady rate: `echo ADDRESS INTERVAL_S`, until standard input ends.

The far kernel answers. Prints, as `ping` does, a line for each answer and how many were sent; but
where ping asks the kernel without a pause when packets are a millisecond apart, this one sleeps.
"""

from __future__ import annotations

import ipaddress
import itertools
import socket
import struct
import sys
import threading
import time
from pathlib import Path

# An answer that takes longer counts as lost.
_LATE_S = 2.0
_ECHO_REQUEST = {socket.AF_INET: 8, socket.AF_INET6: 128}
_ICMP = {socket.AF_INET: socket.IPPROTO_ICMP, socket.AF_INET6: socket.IPPROTO_ICMPV6}
# Type, code, checksum, identifier, sequence number (RFC 792), and the whole number as data.
_HEADER = struct.Struct("!BBHHH")
_NUMBER = struct.Struct("!Q")
# SO_RCVBUFFORCE of Linux: beyond the limit of the machine, for who may.
_FORCE_BUFFER = 33
_WHO_MAY = Path("/proc/sys/net/ipv4/ping_group_range")
_BUFFER_BYTES = 4 << 20


def main(argv: list[str]) -> int:
    address, interval_s = argv[0], float(argv[1])
    is_v6 = ipaddress.ip_address(address).version == 6
    family = socket.AF_INET6 if is_v6 else socket.AF_INET
    # Of this network namespace: who may have one of the kernel's echo sockets, which write
    # identifier and checksum, and give us only our own answers.
    _WHO_MAY.write_text("0 2147483647")
    with socket.socket(family, socket.SOCK_DGRAM, _ICMP[family]) as client:
        client.setsockopt(socket.SOL_SOCKET, _FORCE_BUFFER, _BUFFER_BYTES)
        client.connect((address, 0))
        answered: list[int] = []
        threading.Thread(target=_read, args=(client, answered), daemon=True).start()
        sent = _send(client, family, interval_s)
        deadline = time.monotonic() + _LATE_S
        while answered[-1:] != [sent] and time.monotonic() < deadline:
            time.sleep(0.01)
    for number in answered.copy():
        print(f"icmp_seq={number} time=?")
    print(f"{sent} packets transmitted")
    return 0


def _send(client: socket.socket, family: socket.AddressFamily, interval_s: float) -> int:
    ended = threading.Event()

    def wait_for_end() -> None:
        sys.stdin.read()
        ended.set()

    threading.Thread(target=wait_for_end, daemon=True).start()
    for number in itertools.count(1):
        packet = _HEADER.pack(_ECHO_REQUEST[family], 0, 0, 0, number & 0xFFFF)
        try:
            client.send(packet + _NUMBER.pack(number))
        except OSError:
            # What the kernel refuses to send is lost like any other.
            time.sleep(0)
        if ended.wait(interval_s):
            return number
    raise AssertionError("numbers do not end")


def _read(client: socket.socket, answered: list[int]) -> None:
    while client.fileno() >= 0:
        try:
            answer = client.recv(2048)
        except OSError:
            # "Unreachable" is told here, too; the loss itself is counted.
            continue
        answered.append(_NUMBER.unpack_from(answer, _HEADER.size)[0])


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
