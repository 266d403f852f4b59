"""Accepts connections at a bounded pace; only so many may be in their handshake at once."""

from __future__ import annotations

import asyncio
import errno
import functools
import logging
import socket
from collections import Counter
from collections.abc import Awaitable, Callable

from weave_gossip.errors import StartError
from weave_gossip.link.framing import PlainStream
from weave_gossip.target import format_endpoint
from weave_runtime.logs import once_per

log = logging.getLogger(__name__)
log.addFilter(once_per(60))

# A restarted peer is dialled by all its neighbours at once: that many pass without delay; after
# them one per refill, so that a storm costs a bounded share of the processor.
ACCEPT_TOKENS = 20
ACCEPT_REFILL_S = 0.05
# Handshakes under way; a step takes 5 s at most, so that strangers who say nothing cannot fill
# memory.
MAX_HANDSHAKES = 64
# Of them from one address: a stranger who opens connections and says nothing leaves room for peers.
MAX_HANDSHAKES_PER_HOST = 32
# The kernel holds connections beyond the bucket: a mesh of a hundred that dials a restarted peer.
_BACKLOG = 128
# The kernel gives a connection up when sent bytes stay unacknowledged for as long as a link may be
# silent.
_USER_TIMEOUT_MS = 8000
# Out of descriptors or memory: pausing is all that helps.
_PAUSE_S = 1.0


class TokenBucket:
    """Lets `size` through at once, then one per `refill_s`."""

    def __init__(self, size: int, refill_s: float, now: float) -> None:
        self._refill_s = refill_s
        # The bucket as one number: when it would be full. Each token taken puts that off.
        self._full_at = now
        self._window_s = size * refill_s

    def take(self, now: float) -> float:
        """Takes a token; returns how many seconds to wait before using it."""
        self._full_at = max(self._full_at, now) + self._refill_s
        return max(0.0, self._full_at - now - self._window_s)


def bind(host: str, port: int) -> list[socket.socket]:
    """Listening sockets, one per family. Raises StartError naming the port."""
    sockets: list[socket.socket] = []
    families = [socket.AF_INET6 if ":" in host else socket.AF_INET]
    if not host and socket.has_ipv6:
        families.append(socket.AF_INET6)
    try:
        for family in families:
            try:
                listening = socket.socket(family, socket.SOCK_STREAM)
            except OSError:
                # A kernel without IPv6.
                continue
            sockets.append(listening)
            listening.setblocking(False)
            listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            if family == socket.AF_INET6:
                listening.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
            # Port 0 (tests): the second family takes what the first was given.
            listening.bind((host, port or sockets[0].getsockname()[1]))
            listening.listen(_BACKLOG)
    except OSError as error:
        for listening in sockets:
            listening.close()
        where = format_endpoint(host, port) if host else f"TCP port {port}"
        if error.errno == errno.EADDRINUSE:
            raise StartError(
                f"{where} is in use by another process: stop that one or choose another with --port"
            ) from error
        raise StartError(f"cannot listen on {where}: {error.strerror}") from error
    return sockets


def tune(connection: socket.socket) -> None:
    """What every mesh connection needs of the kernel."""
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, _USER_TIMEOUT_MS)


class Listener:
    """Hands accepted connections to `serve`, which owns them; call `run` per listening socket."""

    def __init__(
        self,
        serve: Callable[[PlainStream, str], Awaitable[None]],
        *,
        bucket: TokenBucket,
        max_handshakes: int = MAX_HANDSHAKES,
        max_per_host: int = MAX_HANDSHAKES_PER_HOST,
    ) -> None:
        self._serve = serve
        self._bucket = bucket
        self._slots = asyncio.Semaphore(max_handshakes)
        self._max_per_host = max_per_host
        self._hosts: Counter[str] = Counter()
        self._tasks: set[asyncio.Task[None]] = set()
        self._accepting: set[asyncio.Task[None]] = set()

    async def run(self, listening: socket.socket) -> None:
        """Accepts until cancelled or stopped, then closes the socket."""
        loop = asyncio.get_running_loop()
        current = asyncio.current_task()
        assert current is not None
        self._accepting.add(current)
        try:
            while True:
                await self._slots.acquire()
                connection, address = await self._accept(loop, listening)
                host = address[0]
                if self._hosts[host] >= self._max_per_host:
                    self._slots.release()
                    connection.close()
                    log.warning("too many connections at once from %s: one was closed", host)
                    await asyncio.sleep(self._bucket.take(loop.time()))
                    continue
                self._hosts[host] += 1
                task = loop.create_task(
                    self._handle(connection, format_endpoint(address[0], address[1])),
                    name=f"accept {host}",
                )
                self._tasks.add(task)
                task.add_done_callback(functools.partial(self._finished, host))
                await asyncio.sleep(self._bucket.take(loop.time()))
        finally:
            self._accepting.discard(current)
            listening.close()

    async def stop(self) -> None:
        """Accepts no more and ends the handshakes under way. Idempotent."""
        tasks = self._accepting | self._tasks
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks)

    async def _accept(
        self, loop: asyncio.AbstractEventLoop, listening: socket.socket
    ) -> tuple[socket.socket, tuple[str, int]]:
        while True:
            try:
                return await loop.sock_accept(listening)
            except OSError as error:
                if error.errno not in (errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM):
                    # The connection was reset before we took it.
                    continue
                log.warning("connections cannot be accepted: %s", error.strerror)
                await asyncio.sleep(_PAUSE_S)

    async def _handle(self, connection: socket.socket, address: str) -> None:
        connection.setblocking(False)
        tune(connection)
        reader, writer = await asyncio.open_connection(sock=connection)
        await self._serve(PlainStream(reader, writer), address)

    def _finished(self, host: str, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        self._hosts[host] -= 1
        if not self._hosts[host]:
            del self._hosts[host]
        self._slots.release()
        if not task.cancelled() and (error := task.exception()):
            log.error("an inbound connection failed unexpectedly", exc_info=error)
