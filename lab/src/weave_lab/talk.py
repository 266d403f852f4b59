"""One TCP connection that is never silent: `serve PORT` and `ask ADDRESS PORT`.

The asking side sends a number about once a millisecond and waits for the same number to come back,
until its standard input ends; then it says how many came, and the longest silence between two.
"""

from __future__ import annotations

import contextlib
import json
import socket
import struct
import sys
import threading
import time

# A connection that is silent for so long is as good as broken.
_SILENCE_S = 10.0
_INTERVAL_S = 0.001
_NUMBER = struct.Struct("!Q")


def main(argv: list[str]) -> int:
    match argv:
        case ["serve", port]:
            serve(int(port))
        case ["ask", address, port]:
            print(json.dumps(ask(address, int(port))))
        case _:
            print("usage: talk serve PORT | ask ADDRESS PORT", file=sys.stderr)
            return 2
    return 0


def serve(port: int) -> None:
    """Says so once it listens; sends everything back to one client and ends with it."""
    with socket.create_server(("", port)) as listening:
        print("listening", flush=True)
        connection, _ = listening.accept()
        with connection:
            while data := connection.recv(65536):
                connection.sendall(data)


def ask(address: str, port: int) -> dict[str, float | str]:
    """Talks until standard input ends. `error` is empty unless the connection broke."""
    ended = threading.Event()

    def wait_for_end() -> None:
        sys.stdin.read()
        ended.set()

    threading.Thread(target=wait_for_end, daemon=True).start()
    count, longest_s, error = 0, 0.0, ""
    try:
        with socket.create_connection((address, port), _SILENCE_S) as connection:
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            print("connected", flush=True)
            while not ended.wait(_INTERVAL_S):
                begin = time.perf_counter()
                connection.sendall(_NUMBER.pack(count))
                _expect(connection, count)
                longest_s = max(longest_s, time.perf_counter() - begin)
                count += 1
    except OSError as broken:
        error = str(broken) or type(broken).__name__
    return {"exchanges": count, "longest_s": longest_s, "error": error}


def _expect(connection: socket.socket, number: int) -> None:
    data = b""
    while len(data) < _NUMBER.size:
        received = connection.recv(_NUMBER.size - len(data))
        if not received:
            raise ConnectionError("the other side has closed the connection")
        data += received
    if data != _NUMBER.pack(number):
        raise ConnectionError(f"{data.hex()} came instead of {number}")


if __name__ == "__main__":
    with contextlib.suppress(BrokenPipeError):
        sys.exit(main(sys.argv[1:]))
