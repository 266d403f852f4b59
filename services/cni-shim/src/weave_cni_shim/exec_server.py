"""The socket of the host executable: one request per connection; root only."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import socket
import struct
from pathlib import Path
from typing import Protocol, Self

from weave_cni_shim.core.failure import CniError, Code
from weave_cni_shim.core.frame import (
    HEADER_BYTES,
    Answer,
    FrameError,
    Request,
    body_length,
    decode_request,
    encode_answer,
)
from weave_cni_shim.core.versions import NEWEST
from weave_runtime.server import claim_socket

# A runtime that starts many sandboxes at once must not be refused.
BACKLOG = 1024
READ_S = 10.0
WRITE_S = 10.0
# At the end, requests under way have this long to finish; then ADDs are undone. Both together must
# fit into the time a process has to stop (weave_runtime.process.GRACE_S).
DRAIN_S = 4.0

log = logging.getLogger(__name__)


class Handler(Protocol):
    """What carries requests out."""

    async def answer(self, request: Request) -> Answer:
        """Carries a request out. Raises nothing; a cancelled ADD is undone before it ends."""

    async def undo_unheard(self, request: Request) -> None:
        """Takes back what a request made, because nobody heard the answer."""


class ExecServer:
    """Serves the host executable while inside `async with`."""

    def __init__(self, path: Path, handler: Handler, *, drain_s: float = DRAIN_S) -> None:
        self._path = path
        self._handler = handler
        self._drain_s = drain_s
        self._server: asyncio.Server | None = None
        self._connections: set[asyncio.Task[None]] = set()

    async def __aenter__(self) -> Self:
        """Listens. Raises Conflict naming the path when another process does."""
        claim_socket(self._path)
        umask = os.umask(0o177)
        try:
            self._server = await asyncio.start_unix_server(
                self._accept, str(self._path), backlog=BACKLOG
            )
        finally:
            os.umask(umask)
        return self

    async def __aexit__(self, *_: object) -> None:
        """Stops listening, lets requests under way finish or be undone."""
        assert self._server
        # First the name: once the socket is closed, a successor may bind the same one.
        self._path.unlink(missing_ok=True)
        self._server.close()
        if self._connections:
            await asyncio.wait(self._connections, timeout=self._drain_s)
        for connection in self._connections:
            connection.cancel()
        while self._connections:
            await asyncio.wait(self._connections)

    def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        connection = asyncio.ensure_future(self._serve(reader, writer))
        self._connections.add(connection)
        connection.add_done_callback(self._connections.discard)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            if (uid := _peer_uid(writer)) not in (0, os.geteuid()):
                log.warning("connection refused", extra={"uid": uid})
                return
            request = await self._request(reader, writer)
            if request is None:
                return
            answer = await self._answer(request, reader)
            is_taken = answer is not None and await _write(writer, answer)
            if answer is not None and answer.exit_code == 0 and not is_taken:
                await self._handler.undo_unheard(request)
        finally:
            writer.close()
            with contextlib.suppress(OSError):
                await writer.wait_closed()

    async def _request(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> Request | None:
        """The request; none when it cannot be read, which the client is told where it can be."""
        try:
            async with asyncio.timeout(READ_S):
                return await _read(reader)
        except FrameError as error:
            log.warning("request not read: %s", error)
            failure = CniError(Code.INCOMPATIBLE_VERSION, f"weave-net executable: {error}")
            await _write(writer, Answer(1, failure.to_json(NEWEST)))
        except (TimeoutError, OSError, asyncio.IncompleteReadError) as error:
            log.warning("request not read: %s", str(error) or type(error).__name__)
        return None

    async def _answer(self, request: Request, reader: asyncio.StreamReader) -> Answer | None:
        """The answer, or None when the client left before it was there: then the work is undone."""
        work = asyncio.create_task(self._handler.answer(request))
        # Nothing more is sent by a client that is alive, so whatever ends the read is its end.
        left = asyncio.create_task(reader.read(1))
        try:
            await asyncio.wait({work, left}, return_when=asyncio.FIRST_COMPLETED)
            if not work.done() and request.environ.get("CNI_COMMAND") == "ADD":
                log.warning(
                    "client of an ADD left",
                    extra={"container": request.environ.get("CNI_CONTAINERID", "")},
                )
                return None
            return await asyncio.shield(work)
        finally:
            left.cancel()
            # A DEL goes on without its client, but an ADD is for nobody any more.
            work.cancel()
            await asyncio.wait({work, left})


async def _read(reader: asyncio.StreamReader) -> Request:
    header = await reader.readexactly(HEADER_BYTES)
    return decode_request(header, await reader.readexactly(body_length(header)))


async def _write(writer: asyncio.StreamWriter, answer: Answer) -> bool:
    """Did the client take the answer?"""
    try:
        writer.write(encode_answer(answer))
        async with asyncio.timeout(WRITE_S):
            await writer.drain()
    except (OSError, TimeoutError):
        return False
    return True


def _peer_uid(writer: asyncio.StreamWriter) -> int:
    peer: socket.socket = writer.get_extra_info("socket")
    raw = peer.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, struct.calcsize("3i"))
    return int(struct.unpack("3i", raw)[1])
