"""Runs by itself, with nothing but the standard library: ends of TCP connections.

`ends.py open FD listen|connect ADDRESS PORT` makes a socket in the network namespace that it is
started in and hands it over to whoever holds the other end of the Unix socket FD.
`ends.py drain BURST FD...` reads bursts of BURST bytes from the connections named by the lines on
standard input, and answers each with one byte.
"""

from __future__ import annotations

import socket
import sys

TIMEOUT_S = 30
CHUNK = 1 << 20


def open_end(giver: int, role: str, address: str, port: int) -> None:
    """A listening socket, or one that is connected."""
    where = (address, port)
    if role == "listen":
        end = socket.create_server(where)
    else:
        end = socket.create_connection(where, timeout=TIMEOUT_S)
        end.setblocking(True)
    with socket.socket(fileno=giver) as to:
        socket.send_fds(to, [b"."], [end.fileno()])


def drain(burst: int, descriptors: list[int]) -> None:
    """Until standard input ends, or a connection does."""
    ends = {descriptor: socket.socket(fileno=descriptor) for descriptor in descriptors}
    buffer = memoryview(bytearray(CHUNK))
    for line in sys.stdin:
        end = ends[int(line)]
        left = burst
        while left:
            received = end.recv_into(buffer[: min(left, CHUNK)])
            if not received:
                return
            left -= received
        end.sendall(b".")


if __name__ == "__main__":
    if sys.argv[1] == "open":
        open_end(int(sys.argv[2]), sys.argv[3], sys.argv[4], int(sys.argv[5]))
    else:
        drain(int(sys.argv[2]), list(map(int, sys.argv[3:])))
