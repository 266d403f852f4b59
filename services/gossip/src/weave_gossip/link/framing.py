"""Messages on a byte stream: a 4-byte big-endian length, then that many bytes (ADR 0001).

Knows nothing of what the bytes mean, nor whether TLS lies below.
"""

from __future__ import annotations

import asyncio
from typing import Protocol

from weave_gossip.core.messages import Refusal, RefusalCode
from weave_gossip.errors import LinkError
from weave_gossip.reasons import words_of

LENGTH_BYTES = 4
# ADR 0001: large enough for the largest document, small enough that 30 links that all send one at
# once stay below 32 MiB.
MAX_MESSAGE_BYTES = 1 << 20
# A greeting is tiny; who has not proved anything yet may not make us hold a megabyte.
MAX_GREETING_BYTES = 4096
# A hello with all its addresses, features and ranges is far below, and so is a verdict; without a
# secret anybody may say one.
MAX_HELLO_BYTES = 64 << 10
CLOSED_BY_PEER = Refusal(RefusalCode.UNSPECIFIED, "the peer closed the connection")
_CHUNK_BYTES = 1 << 16


class ByteStream(Protocol):
    """An ordered stream of bytes in both directions, plain or encrypted."""

    @property
    def received_at(self) -> float:
        """When the last bytes came in, on the event loop's clock."""
        ...

    @property
    def unsent(self) -> int:
        """Bytes that the kernel has not taken yet."""
        ...

    async def read_exactly(self, count: int) -> bytes:
        """Waits for `count` bytes. Raises asyncio.IncompleteReadError at the end, OSError."""
        ...

    def write(self, data: bytes) -> None:
        """Queues bytes; never blocks."""
        ...

    async def drain(self) -> None:
        """Waits until little is unsent. Raises OSError."""
        ...

    def finish(self) -> None:
        """Ends this side's direction after what was written. Idempotent."""
        ...

    def abort(self) -> None:
        """Ends the stream at once; what is unsent is lost. Idempotent."""
        ...


class PlainStream:
    """A byte stream straight over TCP."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer
        self._clock = asyncio.get_running_loop().time
        self.received_at = self._clock()

    @property
    def unsent(self) -> int:
        """See ByteStream."""
        return self._writer.transport.get_write_buffer_size()

    async def read_some(self, limit: int = _CHUNK_BYTES) -> bytes:
        """What has arrived, at least one byte; empty at the end."""
        data = await self._reader.read(limit)
        self.received_at = self._clock()
        return data

    async def read_exactly(self, count: int) -> bytes:
        """See ByteStream."""
        # Not StreamReader.readexactly: a large message on a slow link would look like silence.
        data = await self.read_some(count) if count else b""
        if len(data) == count:
            return data
        chunks = [data]
        missing = count - len(data)
        while missing:
            if not chunks[-1]:
                raise asyncio.IncompleteReadError(b"".join(chunks), count)
            chunks.append(await self.read_some(min(missing, _CHUNK_BYTES)))
            missing -= len(chunks[-1])
        return b"".join(chunks)

    def write(self, data: bytes) -> None:
        """See ByteStream."""
        self._writer.write(data)

    async def drain(self) -> None:
        """See ByteStream."""
        await self._writer.drain()

    def finish(self) -> None:
        """See ByteStream."""
        if not self._writer.is_closing():
            self._writer.write_eof()

    def abort(self) -> None:
        """See ByteStream."""
        self._writer.transport.abort()


def encode_message(payload: bytes) -> bytes:
    """The payload with its length before it. Raises ValueError over the limit."""
    if len(payload) > MAX_MESSAGE_BYTES:
        raise ValueError(
            f"a message of {len(payload)} bytes is over the limit, {MAX_MESSAGE_BYTES}"
        )
    return len(payload).to_bytes(LENGTH_BYTES, "big") + payload


async def read_message(stream: ByteStream, limit: int = MAX_MESSAGE_BYTES) -> bytes:
    """The next message.

    Raises LinkError: MALFORMED over the limit, else with what the network said.
    """
    try:
        length = int.from_bytes(await stream.read_exactly(LENGTH_BYTES), "big")
        if length > limit:
            reason = f"message of {length} bytes, over the limit of {limit}"
            raise LinkError(Refusal(RefusalCode.MALFORMED, reason))
        return await stream.read_exactly(length) if length else b""
    except asyncio.IncompleteReadError as error:
        raise LinkError(CLOSED_BY_PEER) from error
    except OSError as error:
        raise LinkError(network_refusal(error)) from error


def network_refusal(error: OSError) -> Refusal:
    """What the network said, in words."""
    return Refusal(RefusalCode.UNSPECIFIED, words_of(error))
