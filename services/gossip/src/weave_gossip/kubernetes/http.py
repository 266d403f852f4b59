"""The reading half of HTTP/1.1 (RFC 9112), as far as API servers use it."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator
from dataclasses import dataclass

_MAX_HEAD_LINES = 128
_READ_BYTES = 64 << 10
_CHUNK_SIZE = re.compile(r"[0-9A-Fa-f]{1,15}")


class HttpError(Exception):
    """What was read is not HTTP as it should be."""


@dataclass(frozen=True, slots=True)
class Head:
    """Status line and headers, names in lower case."""

    status: int
    reason: str
    headers: dict[str, str]


async def read_head(reader: asyncio.StreamReader) -> Head:
    """Raises HttpError."""
    version, _, rest = (await _line(reader)).partition(" ")
    status, _, reason = rest.partition(" ")
    if not version.startswith("HTTP/1.") or not status.isdecimal():
        raise HttpError("the answer is not HTTP/1.1")
    headers: dict[str, str] = {}
    for _ in range(_MAX_HEAD_LINES):
        line = await _line(reader)
        if not line:
            return Head(int(status), reason, headers)
        name, _, value = line.partition(":")
        headers[name.strip().lower()] = value.strip()
    raise HttpError(f"the answer has more than {_MAX_HEAD_LINES} headers")


class BodyReader:
    """The body that follows a head: of known length, in chunks, or to the end of the connection."""

    def __init__(self, reader: asyncio.StreamReader, head: Head) -> None:
        self._reader = reader
        self._is_chunked = head.headers.get("transfer-encoding", "").lower() == "chunked"
        self._length = head.headers.get("content-length", "")

    async def read_all(self, limit: int) -> bytes:
        """The whole body. Raises HttpError when it is over the limit."""
        parts = []
        async for part in self._parts():
            parts.append(part)
            if (limit := limit - len(part)) < 0:
                raise HttpError("the answer is too long")
        return b"".join(parts)

    async def lines(self, limit: int) -> AsyncIterator[bytes]:
        """Lines as they come. Raises HttpError when one is over the limit."""
        rest = b""
        async for part in self._parts():
            *whole, rest = (rest + part).split(b"\n")
            for line in whole:
                if line.strip():
                    yield line
            if len(rest) > limit:
                raise HttpError("a line of the answer is too long")

    async def _parts(self) -> AsyncIterator[bytes]:
        if self._is_chunked:
            while size := await self._chunk_size():
                async for part in self._exactly(size):
                    yield part
                await _line(self._reader)
        elif self._length.isdecimal():
            async for part in self._exactly(int(self._length)):
                yield part
        else:
            while part := await self._reader.read(_READ_BYTES):
                yield part

    async def _chunk_size(self) -> int:
        line = (await _line(self._reader)).partition(";")[0]
        # Not int() alone, which takes "-1": that would read without a limit.
        if not _CHUNK_SIZE.fullmatch(line.strip()):
            raise HttpError("the answer has a chunk without a size")
        return int(line, 16)

    async def _exactly(self, size: int) -> AsyncIterator[bytes]:
        while size:
            part = await self._reader.read(min(size, _READ_BYTES))
            if not part:
                raise HttpError("the answer ended too early")
            size -= len(part)
            yield part


async def _line(reader: asyncio.StreamReader) -> str:
    try:
        return (await reader.readuntil(b"\r\n"))[:-2].decode("latin-1")
    except asyncio.IncompleteReadError as error:
        raise HttpError("the connection ended") from error
    except asyncio.LimitOverrunError as error:
        raise HttpError("a line of the answer's head is too long") from error
