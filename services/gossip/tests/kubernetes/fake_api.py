"""A stand-in for an API server: TLS, tokens, resource versions, pages, watches in chunks."""

from __future__ import annotations

import asyncio
import json
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from weave_gossip.kubernetes.api import ApiClient

HOST = "127.0.0.1"
TOKEN = "a-token"
Object = dict[str, Any]


class Refuse(Exception):
    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


class FakeApiServer:
    """Objects by path. `is_away`: connections are cut as soon as they come."""

    def __init__(self, folder: Path) -> None:
        self.objects: dict[str, Object] = {}
        self.is_away = False
        self.token = TOKEN
        self.requests: list[str] = []
        self._folder = folder
        self._version = 100
        self._events: list[tuple[int, str, str, Object]] = []
        self._oldest = 0
        self._changed = asyncio.Condition()
        self._writers: set[asyncio.StreamWriter] = set()
        self._tasks: set[asyncio.Task[Any]] = set()
        self._server: asyncio.Server | None = None

    @property
    def port(self) -> int:
        assert self._server
        return int(self._server.sockets[0].getsockname()[1])

    def client(self) -> ApiClient:
        return ApiClient(HOST, self.port, self._folder)

    @asynccontextmanager
    async def running(self) -> AsyncIterator[FakeApiServer]:
        context = _write_account(self._folder)
        self._server = await asyncio.start_server(self._serve, HOST, 0, ssl=context)
        try:
            yield self
        finally:
            self._server.close()
            self.cut()
            for task in self._tasks:
                task.cancel()
            await asyncio.gather(*self._tasks, return_exceptions=True)

    def cut(self) -> None:
        """Ends all connections, as a server that dies does."""
        for writer in list(self._writers):
            writer.transport.abort()

    async def put(self, path: str, item: Object) -> Object:
        """Creates or replaces an object, as another client would."""
        self._version += 1
        kind = "MODIFIED" if path in self.objects else "ADDED"
        metadata = {**item.get("metadata", {}), "resourceVersion": str(self._version)}
        metadata.setdefault("name", path.rpartition("/")[2])
        self.objects[path] = {**item, "metadata": metadata}
        await self._tell(kind, path)
        return self.objects[path]

    async def delete(self, path: str) -> None:
        self._version += 1
        await self._tell("DELETED", path)
        del self.objects[path]

    async def forget_history(self) -> None:
        """Watches from older versions are answered with 410."""
        self._oldest = self._version
        self.cut()

    async def _tell(self, kind: str, path: str) -> None:
        item = json.loads(json.dumps(self.objects[path]))
        item["metadata"]["resourceVersion"] = str(self._version)
        self._events.append((self._version, kind, path, item))
        async with self._changed:
            self._changed.notify_all()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task
        self._tasks.add(task)
        self._writers.add(writer)
        try:
            if self.is_away:
                return
            method, target, headers = await _read_head(reader)
            body = await reader.readexactly(int(headers.get("content-length", "0")))
            self.requests.append(f"{method} {target}")
            url = urlsplit(target)
            query = {key: values[0] for key, values in parse_qs(url.query).items()}
            try:
                if headers.get("authorization") != f"Bearer {self.token}":
                    raise Refuse(401, "Unauthorized")
                if query.get("watch"):
                    await self._watch(writer, unquote(url.path), query)
                else:
                    answer = await self._answer(method, unquote(url.path), query, body)
                    _respond(writer, 200, answer)
            except Refuse as refusal:
                _respond(writer, refusal.status, {"kind": "Status", "message": str(refusal)})
            await writer.drain()
        except (OSError, asyncio.IncompleteReadError):
            pass
        finally:
            self._tasks.discard(task)
            self._writers.discard(writer)
            writer.close()

    async def _answer(self, method: str, path: str, query: dict[str, str], body: bytes) -> Object:
        match method:
            case "GET" if path in self.objects:
                return self.objects[path]
            case "GET" if path.rpartition("/")[2] in ("nodes", "configmaps", "pods"):
                return self._page(path, query)
            case "POST":
                item = json.loads(body)
                full = f"{path}/{item['metadata']['name']}"
                if full in self.objects:
                    raise Refuse(409, "already exists")
                return await self.put(full, item)
            case _:
                pass
        present = self.objects.get(path.removesuffix("/status"))
        if present is None:
            raise Refuse(404, f"{path} not found")
        if method == "DELETE":
            await self.delete(path)
            return {}
        item = json.loads(body)
        version = item.get("metadata", {}).get("resourceVersion")
        if version not in (None, present["metadata"]["resourceVersion"]):
            raise Refuse(409, "the object has been modified")
        if method == "PATCH":
            item = _merged(present, item)
        return await self.put(path.removesuffix("/status"), item)

    def _page(self, path: str, query: dict[str, str]) -> Object:
        found = [self.objects[name] for name in self._below(path, query)]
        start, limit = int(query.get("continue", "0")), int(query.get("limit", "500"))
        metadata = {"resourceVersion": str(self._version)}
        if len(found) > start + limit:
            metadata["continue"] = str(start + limit)
        return {"items": found[start : start + limit], "metadata": metadata}

    def _below(self, folder: str, query: dict[str, str]) -> list[str]:
        wanted = query.get("fieldSelector", "").removeprefix("metadata.name=")
        return [
            path
            for path in sorted(self.objects)
            if path.rpartition("/")[0] == folder and wanted in ("", path.rpartition("/")[2])
        ]

    async def _watch(
        self, writer: asyncio.StreamWriter, folder: str, query: dict[str, str]
    ) -> None:
        seen = int(query["resourceVersion"])
        head = "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked"
        writer.write(f"{head}\r\n\r\n".encode())
        if seen < self._oldest:
            gone = {"type": "ERROR", "object": {"code": 410, "message": "too old"}}
            _write_chunk(writer, json.dumps(gone).encode() + b"\n")
            return
        wanted = query.get("fieldSelector", "").removeprefix("metadata.name=")
        while True:
            for version, kind, path, item in self._events:
                place, _, name = path.rpartition("/")
                if version > seen and place == folder and wanted in ("", name):
                    line = json.dumps({"type": kind, "object": item}).encode() + b"\n"
                    # A line may be cut anywhere.
                    _write_chunk(writer, line[:7])
                    _write_chunk(writer, line[7:])
            seen = max(seen, self._version)
            await writer.drain()
            async with self._changed:
                await self._changed.wait_for(lambda seen=seen: self._version > seen)  # type: ignore[misc]


def node(name: str, *addresses: str, uid: str = "") -> Object:
    """A Node object."""
    entries = [{"type": "InternalIP", "address": address} for address in addresses]
    entries.append({"type": "Hostname", "address": name})
    return {
        "metadata": {"name": name, "uid": uid or f"uid-{name}"},
        "status": {"addresses": entries},
    }


def _merged(present: Object, patch: Object) -> Object:
    """Enough of a merge patch."""
    merged = dict(present)
    for key, value in patch.items():
        both = isinstance(value, dict) and isinstance(merged.get(key), dict)
        merged[key] = _merged(merged[key], value) if both else value
    return merged


async def _read_head(reader: asyncio.StreamReader) -> tuple[str, str, dict[str, str]]:
    lines = (await reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")
    method, target, _ = lines[0].split(" ")
    fields = (line.partition(":") for line in lines[1:] if line)
    return method, target, {name.lower(): value.strip() for name, _, value in fields}


def _respond(writer: asyncio.StreamWriter, status: int, item: Object) -> None:
    body = json.dumps(item).encode()
    writer.write(f"HTTP/1.1 {status} X\r\nContent-Length: {len(body)}\r\n\r\n".encode() + body)


def _write_chunk(writer: asyncio.StreamWriter, part: bytes) -> None:
    writer.write(b"%x\r\n%b\r\n" % (len(part), part))


def _write_account(folder: Path) -> ssl.SSLContext:
    """The folder of a service account, and the server's side of its certificate."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "fake")])
    now = datetime(2020, 1, 1, tzinfo=UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now)
        .not_valid_after(now + timedelta(days=36500))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ip_address(HOST))]), False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), True)
        .sign(key, hashes.SHA256())
    )
    pem = certificate.public_bytes(serialization.Encoding.PEM)
    (folder / "ca.crt").write_bytes(pem)
    (folder / "token").write_text(f"{TOKEN}\n")
    secret = key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )
    (folder / "server.pem").write_bytes(pem + secret)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(folder / "server.pem")
    return context
