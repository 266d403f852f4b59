"""What a store promises, and the part of it that is the same for all: grouping and versions."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol, Self, TypeAlias

from weave_model.errors import NotReady

Batch: TypeAlias = Mapping[str, bytes | None]

# Where the format of the entries is kept, beside them. Keys of services never begin like this.
_FORMAT_KEY = "\x01format"


class StoreError(NotReady):
    """A store cannot be opened or cannot write; the text names it and says what to do."""


@dataclass(frozen=True, slots=True)
class Format:
    """Version of the entries of a service, and the oldest version of it that can read them."""

    version: int = 1
    oldest_reader: int = 1


class Backend(Protocol):
    """What each kind of store does its own way. Calls of `write` never overlap."""

    @property
    def name(self) -> str:
        """Names the store in errors: a path, a URL without password."""
        ...

    async def read(self, prefix: str) -> dict[str, bytes]:
        """Gives the entries whose keys begin with `prefix`, as of one moment."""
        ...

    async def write(self, batch: Batch) -> None:
        """Writes all or nothing; durable when it returns."""
        ...

    async def close(self) -> None:
        """Gives up files and connections."""
        ...


class Store:
    """Durable entries, text to bytes. Belongs to one event loop, which it never blocks.

    `found` is the format found at opening; version 0: the store was empty. The first commit stamps
    the store with the service's own, so a service converts older entries in its first commit.
    """

    def __init__(self, backend: Backend, own: Format, found: Format) -> None:
        self.found = found
        self._backend = backend
        self._stamp: dict[str, bytes | None] = {}
        if found.version < own.version:
            self._stamp[_FORMAT_KEY] = b"%d %d" % (own.version, own.oldest_reader)
        self._pending: dict[str, bytes | None] = {}
        self._waiting: list[asyncio.Future[None]] = []
        self._writer: asyncio.Task[None] | None = None
        self._is_closed = False

    @classmethod
    async def open(cls, backend: Backend, own: Format) -> Self:
        """Checks the format. Raises StoreError, with the backend closed and nothing changed."""
        try:
            entry = (await _read(backend, _FORMAT_KEY)).get(_FORMAT_KEY, b"0 0")
            try:
                found = Format(*map(int, entry.split()))
            except (ValueError, TypeError):
                raise StoreError(f"{backend.name} has an unreadable format, {entry!r}") from None
            if found.oldest_reader > own.version:
                raise StoreError(
                    f"{backend.name} was written by a newer version (format {found.version}, needs "
                    f"{found.oldest_reader} to read, this is {own.version}): run that version, or "
                    "move the state away to start without it"
                )
        except BaseException:
            await backend.close()
            raise
        return cls(backend, own, found)

    async def load(self, prefix: str = "") -> dict[str, bytes]:
        """Gives all committed entries whose keys begin with `prefix`, as of one moment.

        Raises StoreError.
        """
        entries = await _read(self._backend, prefix)
        entries.pop(_FORMAT_KEY, None)
        return entries

    async def commit(self, batch: Batch) -> None:
        """Sets the given keys (None: removes them), all or none, durably when it returns.

        Concurrent commits share one write, in the order of the calls. A cancelled one may be
        written all the same. Raises StoreError, after which the store is as before and usable.
        """
        if self._is_closed:
            raise StoreError(f"{self._backend.name} is closed")
        done = asyncio.get_running_loop().create_future()
        self._pending.update(batch)
        self._waiting.append(done)
        if self._writer is None or self._writer.done():
            self._writer = asyncio.create_task(self._write_groups(), name="store")
        await done

    async def close(self) -> None:
        """Waits for the commits under way, then closes. Idempotent."""
        if not self._is_closed:
            self._is_closed = True
            if self._writer:
                await self._writer
            await self._backend.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def _write_groups(self) -> None:
        while self._waiting:
            batch, self._pending = self._stamp | self._pending, {}
            group, self._waiting = self._waiting, []
            failure = ""
            try:
                await self._backend.write(batch)
                self._stamp = {}
            except Exception as error:  # noqa: BLE001 - every caller of the group is told
                failure = f"{self._backend.name} cannot be written: {error}"
            for done in group:
                if done.cancelled():
                    continue
                if failure:
                    done.set_exception(StoreError(failure))
                else:
                    done.set_result(None)


async def _read(backend: Backend, prefix: str) -> dict[str, bytes]:
    try:
        return await backend.read(prefix)
    except Exception as error:
        raise StoreError(f"{backend.name} cannot be read: {error}") from error
