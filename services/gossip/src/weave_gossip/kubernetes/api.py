"""A client of the Kubernetes API server: requests and watches with JSON over HTTPS.

Each request has a connection of its own: requests are rare, and a connection that is never reused
is never stale.
"""

from __future__ import annotations

import asyncio
import json
import socket
import ssl
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias, TypeVar
from urllib.parse import urlencode

from weave_gossip.kubernetes.http import BodyReader, Head, HttpError, read_head
from weave_gossip.reasons import words_of
from weave_gossip.target import format_endpoint, parse_target
from weave_model.errors import Conflict, NotReady

ACCOUNT_DIR = Path("/var/run/secrets/kubernetes.io/serviceaccount")
DEFAULT_PORT = 443
# An API server under load answers a small request within a second or two.
TIMEOUT_S = 10.0
# The server ends a watch after this, and it is begun again where it stopped.
WATCH_S = 240
# Some Node objects have tens of kilobytes; the list of them is read in pages.
MAX_OBJECT_BYTES = 8 << 20
PAGE_ITEMS = 250
# A watch may be silent for minutes; the kernel notices a server that is gone.
_KEEPALIVE = {socket.TCP_KEEPIDLE: 15, socket.TCP_KEEPINTVL: 5, socket.TCP_KEEPCNT: 3}

Object = dict[str, Any]
T = TypeVar("T")
# With the resource version to watch from.
Listed: TypeAlias = tuple[list[T], str]


class ApiAway(NotReady):
    """The API server cannot be reached or does not answer."""


class ApiRefused(Conflict):
    """The API server said no; `status` is that of HTTP."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(f"the API server refused ({status}): {message}")
        self.status = status


@dataclass(frozen=True, slots=True)
class WatchEvent:
    """ADDED, MODIFIED, DELETED or BOOKMARK, with the object."""

    kind: str
    item: Object


class ApiClient:
    """Speaks for the service account of this pod. Every call raises ApiAway and ApiRefused."""

    def __init__(self, host: str, port: int, account_dir: Path = ACCOUNT_DIR) -> None:
        self._host = host
        self._port = port
        self._account_dir = account_dir
        self._tls: tuple[bytes, ssl.SSLContext] | None = None

    @classmethod
    def in_cluster(cls, environ: Mapping[str, str], account_dir: Path = ACCOUNT_DIR) -> ApiClient:
        """As the environment of a pod says; WEAVE_KUBE_API_SERVER names another way to it."""
        given = environ.get("WEAVE_KUBE_API_SERVER")
        if given:
            try:
                target = parse_target(given, DEFAULT_PORT)
            except ValueError as error:
                raise ApiAway(f"WEAVE_KUBE_API_SERVER: {error}") from error
            return cls(target.host, target.port, account_dir)
        host = environ.get("KUBERNETES_SERVICE_HOST", "")
        port = environ.get("KUBERNETES_SERVICE_PORT", str(DEFAULT_PORT))
        if not host or not port.isdecimal():
            raise ApiAway(
                "this is no pod of a Kubernetes cluster (KUBERNETES_SERVICE_HOST is not set); "
                "set WEAVE_KUBE_API_SERVER to host:port"
            )
        return cls(host, int(port), account_dir)

    async def request(
        self, method: str, path: str, body: Object | None = None, *, kind: str = "application/json"
    ) -> Object:
        """One request; the answer's object. `kind` is the media type of the body."""
        try:
            async with asyncio.timeout(TIMEOUT_S), self._exchange(method, path, body, kind) as got:
                head, reader = got
                return _object(head, await reader.read_all(MAX_OBJECT_BYTES))
        except (OSError, TimeoutError, HttpError) as error:
            raise self._away(error) from error

    async def list(self, path: str) -> tuple[list[Object], str]:
        """All objects below a path, and the resource version to watch from."""
        return await self.list_as(path, lambda item: item)

    async def list_as(self, path: str, parse: Callable[[Object], T]) -> Listed[T]:
        """What `parse` makes of each object: the objects are not held longer than their page."""
        items: list[T] = []
        query = {"limit": str(PAGE_ITEMS)}
        while True:
            page = await self.request("GET", _with_query(path, query))
            try:
                items += map(parse, _named(page.get("items") or []))
                metadata = _fields(page, "metadata")
            except HttpError as error:
                raise self._away(error) from error
            if not metadata.get("continue"):
                return items, str(metadata.get("resourceVersion", ""))
            query["continue"] = str(metadata["continue"])

    async def watch(self, path: str, version: str) -> AsyncIterator[WatchEvent]:
        """Changes after a version, until the server ends it. ApiRefused 410: list again."""
        query = {
            "watch": "1",
            "resourceVersion": version,
            "allowWatchBookmarks": "true",
            "timeoutSeconds": str(WATCH_S),
        }
        path = _with_query(path, query)
        try:
            async with self._exchange("GET", path, None, "") as (head, reader):
                if head.status != 200:
                    _object(head, await reader.read_all(MAX_OBJECT_BYTES))
                async for line in reader.lines(MAX_OBJECT_BYTES):
                    yield _event(_parsed(line))
        except (OSError, TimeoutError, HttpError) as error:
            raise self._away(error) from error

    @asynccontextmanager
    async def _exchange(
        self, method: str, path: str, body: Object | None, kind: str
    ) -> AsyncIterator[tuple[Head, BodyReader]]:
        async with asyncio.timeout(TIMEOUT_S):
            reader, writer = await asyncio.open_connection(
                self._host, self._port, ssl=self._context(), server_hostname=self._host
            )
        try:
            _keep_alive(writer)
            async with asyncio.timeout(TIMEOUT_S):
                writer.write(self._request_bytes(method, path, body, kind))
                await writer.drain()
                head = await read_head(reader)
            yield head, BodyReader(reader, head)
        finally:
            writer.transport.abort()

    def _request_bytes(self, method: str, path: str, body: Object | None, kind: str) -> bytes:
        payload = b"" if body is None else json.dumps(body).encode()
        lines = [
            f"{method} {path} HTTP/1.1",
            f"Host: {format_endpoint(self._host, self._port)}",
            # Tokens are replaced every hour: the file is read each time.
            f"Authorization: Bearer {self._read('token').decode().strip()}",
            "Accept: application/json",
            "User-Agent: weave-net-gossip",
            "Connection: close",
        ]
        if body is not None:
            lines += [f"Content-Type: {kind}", f"Content-Length: {len(payload)}"]
        return "\r\n".join([*lines, "", ""]).encode() + payload

    def _context(self) -> ssl.SSLContext:
        authority = self._read("ca.crt")
        if self._tls is None or self._tls[0] != authority:
            try:
                context = ssl.create_default_context(cadata=authority.decode())
            except (ssl.SSLError, ValueError) as error:
                raise ApiAway(f"{self._account_dir / 'ca.crt'} is no certificate") from error
            self._tls = (authority, context)
        return self._tls[1]

    def _read(self, name: str) -> bytes:
        path = self._account_dir / name
        try:
            return path.read_bytes()
        except OSError as error:
            raise ApiAway(f"{path} cannot be read: {error.strerror}") from error

    def _away(self, error: BaseException) -> ApiAway:
        place = format_endpoint(self._host, self._port)
        return ApiAway(f"the API server at {place} is away: {words_of(error)}")


def _with_query(path: str, query: Mapping[str, str]) -> str:
    return f"{path}{'&' if '?' in path else '?'}{urlencode(query)}"


def _keep_alive(writer: asyncio.StreamWriter) -> None:
    raw = writer.get_extra_info("socket")
    with suppress(OSError):
        raw.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        for option, seconds in _KEEPALIVE.items():
            raw.setsockopt(socket.IPPROTO_TCP, option, seconds)


def _object(head: Head, body: bytes) -> Object:
    if 200 <= head.status < 300:
        return _parsed(body)
    try:
        message = str(_parsed(body).get("message"))
    except HttpError:
        message = head.reason
    if head.status >= 500 or head.status == 429:
        raise ApiAway(f"the API server cannot answer now ({head.status}): {message}")
    raise ApiRefused(head.status, message)


def _parsed(text: bytes) -> Object:
    try:
        found = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise HttpError("the answer is no JSON") from error
    if not isinstance(found, dict):
        raise HttpError("the answer is no JSON object")
    return found


def _event(event: Object) -> WatchEvent:
    """Raises ApiRefused for the server's own error, HttpError for what is no event."""
    kind, item = event.get("type"), _fields(event, "object")
    if kind == "ERROR":
        code = item.get("code")
        raise ApiRefused(code if isinstance(code, int) else 500, str(item.get("message")))
    if not isinstance(_fields(item, "metadata").get("resourceVersion"), str):
        raise HttpError("an event has no version")
    # A bookmark is about no object.
    if kind != "BOOKMARK":
        _named([item])
    return WatchEvent(str(kind), item)


def _named(items: Any) -> list[Object]:
    """Objects that have a name and a place for their other metadata. Raises HttpError."""
    if not isinstance(items, list):
        raise HttpError("what should be a list is none")
    for item in items:
        name = _fields(item, "metadata").get("name") if isinstance(item, dict) else None
        if not isinstance(name, str) or not name:
            raise HttpError("an object has no name")
    return items


def _fields(item: Object, name: str) -> Object:
    """The object within an object; absent is empty. Raises HttpError."""
    found = item.get(name) or {}
    if not isinstance(found, dict):
        raise HttpError(f"{name} is no JSON object")
    return found
