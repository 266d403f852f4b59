"""Health, readiness and metrics over HTTP/1.1 for kubelets and scrapers; GET and HEAD only."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Callable
from http import HTTPStatus
from typing import TYPE_CHECKING, Self

from weave_model.errors import Conflict, Invalid

if TYPE_CHECKING:
    from prometheus_client.registry import Collector

# A probe's request is about 150 bytes; nobody else is served.
_MAX_HEAD_BYTES = 8192
_MAX_CONNECTIONS = 32
_TIMEOUT_S = 5.0
_MAX_PORT = 0xFFFF
_TEXT = "text/plain; charset=utf-8"

log = logging.getLogger(__name__)


class HttpServer:
    """Serves /healthz, /readyz and /metrics on `host:port` while inside `async with`.

    `ready` says why not, or nothing. `metrics` is called at the first scrape, so that a service
    needs to import prometheus_client no earlier; without it there is no /metrics.
    """

    def __init__(
        self,
        address: str,
        *,
        ready: Callable[[], str],
        metrics: Callable[[], Collector] | None = None,
        option: str = "--http-addr",
    ) -> None:
        host, colon, port = address.rpartition(":")
        if not (colon and port.isdecimal() and int(port) <= _MAX_PORT):
            raise Invalid(f"{option} {address}: expected host:port")
        self._host, self._port = host.strip("[]") or None, int(port)
        self._name = f"{option} {address}"
        self._ready = ready
        self._metrics = metrics
        self._scrape: Callable[[], tuple[bytes, str]] | None = None
        self._open = 0
        self._server: asyncio.Server | None = None

    @property
    def port(self) -> int:
        """The port listened on; differs from the configured one if that is 0."""
        assert self._server
        return int(self._server.sockets[0].getsockname()[1])

    async def __aenter__(self) -> Self:
        """Listens. Raises Conflict naming address and option."""
        try:
            self._server = await asyncio.start_server(
                self._serve, self._host, self._port, limit=_MAX_HEAD_BYTES
            )
        except OSError as error:
            raise Conflict(f"cannot listen on {self._name}: {error.strerror}") from error
        return self

    async def __aexit__(self, *_: object) -> None:
        """Stops listening; a request takes no longer than its time limit."""
        assert self._server
        self._server.close()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._open += 1
        try:
            async with asyncio.timeout(_TIMEOUT_S):
                if self._open <= _MAX_CONNECTIONS:
                    head = await reader.readuntil(b"\r\n\r\n")
                    writer.write(self._respond(head.split(b"\r\n", 1)[0]))
                    await writer.drain()
        except (TimeoutError, OSError, asyncio.IncompleteReadError, asyncio.LimitOverrunError):
            pass  # the other side's fault and loss
        finally:
            self._open -= 1
            writer.close()
            with contextlib.suppress(OSError):
                await writer.wait_closed()

    def _respond(self, request_line: bytes) -> bytes:
        method, _, rest = request_line.decode("latin-1").partition(" ")
        path = rest.partition(" ")[0].partition("?")[0]
        if method not in ("GET", "HEAD"):
            status, body, kind = (HTTPStatus.METHOD_NOT_ALLOWED, b"GET and HEAD only\n", _TEXT)
        else:
            status, body, kind = self._page(path)
        head = (
            f"HTTP/1.1 {status.value} {status.phrase}\r\nContent-Type: {kind}\r\n"
            f"Content-Length: {len(body)}\r\nConnection: close\r\n\r\n"
        )
        return head.encode() + (b"" if method == "HEAD" else body)

    def _page(self, path: str) -> tuple[HTTPStatus, bytes, str]:
        if path == "/healthz":
            return HTTPStatus.OK, b"ok\n", _TEXT
        if path == "/readyz":
            reason = self._ready()
            status = HTTPStatus.SERVICE_UNAVAILABLE if reason else HTTPStatus.OK
            return status, f"{reason or 'ok'}\n".encode(), _TEXT
        if path == "/metrics" and self._metrics:
            self._scrape = self._scrape or _scraper(self._metrics())
            return HTTPStatus.OK, *self._scrape()
        return HTTPStatus.NOT_FOUND, b"not found\n", _TEXT


def _scraper(collector: Collector) -> Callable[[], tuple[bytes, str]]:
    from prometheus_client import CONTENT_TYPE_LATEST, REGISTRY, generate_latest
    from prometheus_client.registry import CollectorRegistry

    registry = CollectorRegistry()
    registry.register(collector)
    return lambda: (generate_latest(REGISTRY) + generate_latest(registry), CONTENT_TYPE_LATEST)
