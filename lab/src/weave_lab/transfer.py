"""A file over HTTP from one pod to another: `serve PORT BYTES` and `fetch URL`.

Both sides say the SHA-256 of what they sent or received, so that whoever started them can compare.
"""

from __future__ import annotations

import hashlib
import json
import random
import sys
import time
import urllib.request
from http.server import BaseHTTPRequestHandler
from socketserver import TCPServer

_TIMEOUT_S = 60.0
# Any will do: the bytes only must not compress or repeat.
_SEED = 6784


class _Server(TCPServer):
    """Not HTTPServer: that one asks for the name of its address, and a pod has no name server."""

    allow_reuse_address = True


def main(argv: list[str]) -> int:
    match argv:
        case ["serve", port, size]:
            serve(int(port), int(size))
        case ["fetch", url]:
            print(json.dumps(fetch(url)))
        case _:
            print("usage: transfer serve PORT BYTES | fetch URL", file=sys.stderr)
            return 2
    return 0


def serve(port: int, size: int) -> None:
    """Says the checksum once it listens, then answers GET with the same bytes until it is ended."""
    content = random.Random(_SEED).randbytes(size)

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.send_header("Content-Length", str(size))
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002
            """Nobody reads it."""

    with _Server(("", port), Handler) as server:
        print(json.dumps({"sha256": hashlib.sha256(content).hexdigest()}), flush=True)
        server.serve_forever()


def fetch(url: str) -> dict[str, float | str]:
    """Downloads into memory; seconds count the transfer alone."""
    begin = time.perf_counter()
    with urllib.request.urlopen(url, timeout=_TIMEOUT_S) as response:  # noqa: S310
        content = response.read()
    elapsed_s = time.perf_counter() - begin
    checksum = hashlib.sha256(content).hexdigest()
    return {"bytes": len(content), "seconds": elapsed_s, "sha256": checksum}


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
