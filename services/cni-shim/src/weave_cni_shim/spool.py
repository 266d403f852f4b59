"""DELs that could not be carried out when they came, kept on disk until they are.

The host executable writes here while no daemon answers, the daemon while ipam or router are away.
An entry is a request frame; it is removed after the DEL was carried out. One that cannot be carried
out yet holds up nobody but an ADD of the same attachment.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import time
from collections.abc import Awaitable, Callable
from pathlib import Path

from weave_cni_shim.core.call import Call, Command, parse_call
from weave_cni_shim.core.failure import CniError
from weave_cni_shim.core.frame import (
    HEADER_BYTES,
    FrameError,
    Request,
    decode_request,
    encode_request,
)
from weave_model.attachment import AttachmentKey
from weave_model.errors import DomainError, NotReady

SUFFIX = ".del"
# Doubled with each pass in vain, since a DEL may run another plugin. A new DEL brings a pass, too,
# but says nothing about the others; that ipam and router are back does.
RETRY_S = 1.0
MAX_RETRY_S = 30.0
# An ADD waits for this long for the DELs before it; then the runtime tries again.
PATIENCE_S = 20.0
# What an executable that was killed while writing leaves behind; no writer takes that long.
ABANDONED_S = 3600.0

log = logging.getLogger(__name__)


class Spool:
    """The kept DELs of one node."""

    def __init__(
        self, folder: Path, *, retry_s: float = RETRY_S, patience_s: float = PATIENCE_S
    ) -> None:
        self._folder = folder
        self._retry_s = retry_s
        self._patience_s = patience_s
        self._has_new = asyncio.Event()
        # Set and replaced at the end of each pass over all entries.
        self._pass = asyncio.Event()
        self._passes = 0
        self._sequence = 0
        # Entries whose failure was logged.
        self._waiting: set[Path] = set()
        self._pause_s = retry_s

    def __len__(self) -> int:
        return len(self._entries())

    async def settled(self, key: AttachmentKey) -> None:
        """Returns when nothing is owed for the attachment, and all found at start was tried once.

        Raises NotReady when that takes too long.
        """
        if self._is_settled(key):
            return
        self._has_new.set()
        try:
            async with asyncio.timeout(self._patience_s):
                while not self._is_settled(key):
                    await self._pass.wait()
        except TimeoutError:
            raise NotReady(f"an earlier DEL of {key} is not carried out yet") from None

    def try_again(self) -> None:
        """What a DEL needs is there again: all are tried now, and soon again if that was early."""
        self._pause_s = self._retry_s
        self._has_new.set()

    async def keep(self, request: Request) -> None:
        """Makes a DEL durable. Raises OSError when the disk does not take it."""
        self._sequence += 1
        name = f"{time.time():.9f}.{os.getpid()}-{self._sequence}{SUFFIX}"
        await asyncio.to_thread(_write, self._folder, name, encode_request(request))
        self._has_new.set()

    async def run(self, carry_out: Callable[[Call], Awaitable[None]]) -> None:
        """Applies entries for ever, oldest first; `carry_out` raises what keeps it from that."""
        await asyncio.to_thread(_remove_abandoned, self._folder)
        while True:
            self._has_new.clear()
            for path in self._entries():
                await self._apply(path, carry_out)
            self._passes += 1
            self._pass.set()
            self._pass = asyncio.Event()
            if not self._waiting:
                self._pause_s = self._retry_s
            try:
                async with asyncio.timeout(self._pause_s):
                    await self._has_new.wait()
            except TimeoutError:
                self._pause_s = min(self._pause_s * 2, MAX_RETRY_S)

    async def _apply(self, path: Path, carry_out: Callable[[Call], Awaitable[None]]) -> None:
        call = _read(path)
        if call is None:
            _set_aside(path)
            return
        attachment = {"attachment": str(call.key)}
        try:
            await carry_out(call)
        except Exception as error:  # whatever it is, it must not stop the others
            if path not in self._waiting:
                self._waiting.add(path)
                trace = None if isinstance(error, DomainError) else error
                log.warning("kept DEL must wait: %s", error, extra=attachment, exc_info=trace)
            return
        _remove(path)
        self._waiting.discard(path)
        log.info("kept DEL carried out", extra=attachment)

    def _is_settled(self, key: AttachmentKey) -> bool:
        if not self._passes:
            return False
        return not any(call and call.key == key for call in map(_read, self._entries()))

    def _entries(self) -> list[Path]:
        # Before every ADD and every second: a glob costs ten times as much.
        try:
            with os.scandir(self._folder) as entries:
                names = sorted(entry.name for entry in entries if entry.name.endswith(SUFFIX))
        except FileNotFoundError:
            return []
        return [self._folder / name for name in names]


def _read(path: Path) -> Call | None:
    """The DEL in a file; none when it cannot be read."""
    try:
        data = path.read_bytes()
        call = parse_call(decode_request(data[:HEADER_BYTES], data[HEADER_BYTES:]))
    except (FrameError, CniError, OSError) as error:
        log.debug("kept DEL cannot be read: %s", error, extra={"file": str(path)})
        return None
    return call if call.command is Command.DEL else None


def _set_aside(path: Path) -> None:
    bad = path.with_suffix(".bad")
    with contextlib.suppress(FileNotFoundError):
        path.rename(bad)
        log.warning("kept DEL cannot be read, set aside", extra={"file": str(bad)})


def _remove(path: Path) -> None:
    path.unlink(missing_ok=True)


def _write(folder: Path, name: str, data: bytes) -> None:
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    temporary = folder / f"{name}.tmp"
    try:
        with temporary.open("wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        temporary.rename(folder / name)
    except OSError:
        temporary.unlink(missing_ok=True)
        raise
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _remove_abandoned(folder: Path) -> None:
    for path in folder.glob("*.tmp"):
        with contextlib.suppress(FileNotFoundError):
            if path.stat().st_mtime < time.time() - ABANDONED_S:
                path.unlink()
