"""Runs inside pods: an echo server for UDP and HTTP, and a client that counts what is lost.

traffic.py serve
traffic.py count ADDRESS SECONDS      one datagram a millisecond; prints a JSON object
traffic.py fetch ADDRESS...           prints those that do not answer over HTTP
"""

from __future__ import annotations

import http.server
import itertools
import json
import socket
import sys
import threading
import time
import urllib.request

PORT = 8080
_PERIOD_S = 0.001
_LATE_S = 1.0


def serve() -> None:
    threading.Thread(target=_echo, daemon=True).start()
    handler = type(
        "Quiet", (http.server.BaseHTTPRequestHandler,), {"do_GET": _page, "log_message": _mute}
    )
    http.server.ThreadingHTTPServer(("", PORT), handler).serve_forever()


def _echo() -> None:
    server = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    server.bind(("", PORT))
    while True:
        data, source = server.recvfrom(2048)
        server.sendto(data, source)


def _page(handler: http.server.BaseHTTPRequestHandler) -> None:
    body = socket.gethostname().encode()
    handler.send_response(200)
    handler.send_header("Content-Length", str(len(body)))
    handler.end_headers()
    handler.wfile.write(body)


def _mute(*_: object) -> None:
    """Nobody reads these."""


def count(address: str, seconds: float) -> None:
    client = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    client.connect((address, PORT))
    client.settimeout(_LATE_S)
    received: list[float] = []
    sent = 0
    thread = threading.Thread(target=_receive, args=(client, received))
    thread.start()
    end = time.monotonic() + seconds
    while (now := time.monotonic()) < end:
        client.send(b"%d" % sent)
        sent += 1
        time.sleep(max(0.0, _PERIOD_S - (time.monotonic() - now)))
    thread.join()
    gaps = [later - earlier for earlier, later in itertools.pairwise(received)]
    result = {"sent": sent, "lost": sent - len(received), "longest_gap_s": round(max(gaps), 3)}
    print(json.dumps(result))


def _receive(client: socket.socket, received: list[float]) -> None:
    while True:
        try:
            client.recv(2048)
        except TimeoutError:
            return
        except ConnectionRefusedError:
            continue
        received.append(time.monotonic())


def fetch(addresses: list[str]) -> None:
    for address in addresses:
        try:
            with urllib.request.urlopen(f"http://{address}:{PORT}/", timeout=5) as answer:
                answer.read()
        except OSError as error:
            print(address, error)


if __name__ == "__main__":
    match sys.argv[1:]:
        case ["serve"]:
            serve()
        case ["count", address, seconds]:
            count(address, float(seconds))
        case ["fetch", *addresses]:
            fetch(addresses)
        case _:
            sys.exit(__doc__)
