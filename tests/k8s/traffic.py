"""Runs inside pods and their namespaces: servers, and clients that count what fails.

traffic.py serve
traffic.py ping ADDRESS...      prints those that do not answer an echo request
traffic.py fetch ADDRESS...     prints those that do not answer over HTTP
traffic.py count ADDRESS        an echo request a millisecond until standard input ends; prints JSON
"""

from __future__ import annotations

import contextlib
import http.server
import itertools
import json
import socket
import struct
import sys
import threading
import time
import urllib.request

PORT = 8080
_PERIOD_S = 0.001
_LATE_S = 2.0
_ECHO_REQUEST = {socket.AF_INET: 8, socket.AF_INET6: 128}
_HEADER_BYTES = 8
_BUFFER_BYTES = 16 << 20
# SO_RCVBUFFORCE of Linux: beyond the limit of the machine, for who may.
_FORCE_BUFFER = 33


def serve() -> None:
    handler = type(
        "Quiet", (http.server.BaseHTTPRequestHandler,), {"do_GET": _page, "log_message": _mute}
    )
    server = type("Both", (http.server.ThreadingHTTPServer,), {"address_family": socket.AF_INET6})
    server(("::", PORT), handler).serve_forever()


def _page(handler: http.server.BaseHTTPRequestHandler) -> None:
    body = socket.gethostname().encode()
    handler.send_response(200)
    handler.send_header("Content-Length", str(len(body)))
    handler.end_headers()
    handler.wfile.write(body)


def _mute(*_: object) -> None:
    """Nobody reads these."""


def _echo_socket(address: str) -> socket.socket:
    """One of the kernel's echo sockets: it writes identifier and checksum, and gives us our own."""
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    protocol = socket.IPPROTO_ICMPV6 if ":" in address else socket.IPPROTO_ICMP
    client = socket.socket(family, socket.SOCK_DGRAM, protocol)
    client.connect((address, 0))
    client.settimeout(_LATE_S)
    return client


def _request(client: socket.socket, number: int) -> bytes:
    kind = _ECHO_REQUEST[client.family]
    return struct.pack("!BBHHHQ", kind, 0, 0, 0, number & 0xFFFF, number)


def ping(addresses: list[str]) -> None:
    for address in addresses:
        try:
            with _echo_socket(address) as client:
                client.send(_request(client, 1))
                client.recv(2048)
        except OSError as error:
            print(address, error)


def fetch(addresses: list[str]) -> None:
    for address in addresses:
        host = f"[{address}]" if ":" in address else address
        try:
            with urllib.request.urlopen(f"http://{host}:{PORT}/", timeout=5) as answer:
                answer.read()
        except OSError as error:
            print(address, error)


def count(address: str) -> None:
    client = _echo_socket(address)
    with contextlib.suppress(PermissionError):
        client.setsockopt(socket.SOL_SOCKET, _FORCE_BUFFER, _BUFFER_BYTES)
    stopped = threading.Event()
    threading.Thread(target=_wait_for_end, args=(stopped,), daemon=True).start()
    received: dict[int, float] = {}
    reader = threading.Thread(target=_receive, args=(client, received))
    reader.start()
    sent = 0
    refused = 0
    while not stopped.is_set():
        now = time.monotonic()
        try:
            client.send(_request(client, sent))
        except OSError:
            refused += 1
        sent += 1
        time.sleep(max(0.0, _PERIOD_S - (time.monotonic() - now)))
    reader.join()
    gaps = [later - earlier for earlier, later in itertools.pairwise(received.values())]
    missing = sorted(set(range(sent)) - received.keys())
    result = {
        "sent": sent,
        "lost": len(missing),
        "refused": refused,
        "longest_gap_s": round(max(gaps, default=0.0), 3),
        "first_lost": missing[:5],
    }
    print(json.dumps(result))


def _wait_for_end(stopped: threading.Event) -> None:
    sys.stdin.buffer.read()
    stopped.set()


def _receive(client: socket.socket, received: dict[int, float]) -> None:
    while True:
        try:
            answer = client.recv(2048)
        except TimeoutError:
            return
        except OSError:
            continue
        (number,) = struct.unpack_from("!Q", answer, _HEADER_BYTES)
        received[number] = time.monotonic()


if __name__ == "__main__":
    match sys.argv[1:]:
        case ["serve"]:
            serve()
        case ["ping", *addresses]:
            ping(addresses)
        case ["fetch", *addresses]:
            fetch(addresses)
        case ["count", address]:
            count(address)
        case _:
            sys.exit(__doc__)
