"""Coordination in one file: for a single node, or for peers that share a file system (a lab).

Writers take a lock beside the file, read it, and replace it by rename, so that a reader sees the
old or the new state and nothing else. Others notice a change by looking at the file's identity.
"""

from __future__ import annotations

import asyncio
import base64
import fcntl
import json
import logging
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from weave_gossip.coordination.backend import MAX_ENTRIES, Entry, check_limits
from weave_gossip.errors import CoordinationAwayError, RevisionConflictError
from weave_model.errors import Exhausted
from weave_runtime.logs import once_per
from weave_runtime.pulse import pulse
from weave_runtime.watch import Table

log = logging.getLogger(__name__)
# A file that cannot be read for a day is said once a minute.
log.addFilter(once_per(60))

SCHEMA = 1
# Oldest reader of what this release writes.
OLDEST_READER = 1
# A stat costs microseconds, to wake for it a hundred times as much; a ring or a fence may well take
# a second to be seen by others.
POLL_S = 1.0


class FileCoordination:
    """See Coordination. The folder must exist."""

    def __init__(self, path: Path, *, poll_s: float = POLL_S) -> None:
        self._path = path
        self._lock_path = path.with_name(path.name + ".lock")
        self._poll_s = poll_s
        self._entries: Table[str, Entry] = Table()
        # Orders reads and writes of this process, so that the mirror never steps back.
        self._serial = asyncio.Lock()

    @property
    def entries(self) -> Table[str, Entry]:
        """See Coordination."""
        return self._entries

    async def get(self, key: str) -> Entry | None:
        """See Coordination."""
        return (await self._refresh()).get(key)

    async def compare_and_swap(self, key: str, expected_revision: int, value: bytes) -> int:
        """See Coordination. Durable (file and folder are synced) before it returns."""
        check_limits(key, value)
        async with self._serial:
            entries = await asyncio.to_thread(self._swap, key, expected_revision, value)
            self._show(entries)
        return entries[key].revision

    async def follow(self) -> None:
        """See Coordination."""
        seen: tuple[int, int, int] | None = None
        first = True
        while True:
            try:
                present = self._identity()
                if first or present != seen:
                    await self._refresh()
                    seen, first = present, False
            except CoordinationAwayError as error:
                log.warning("%s", error)
            await pulse(self._poll_s)

    async def close(self) -> None:
        """See Coordination: nothing is held between calls."""

    async def _refresh(self) -> dict[str, Entry]:
        async with self._serial:
            entries = await asyncio.to_thread(self._read)
            self._show(entries)
        return entries

    def _show(self, entries: Mapping[str, Entry]) -> None:
        self._entries.replace(entries)
        self._entries.complete()

    def _identity(self) -> tuple[int, int, int] | None:
        try:
            status = self._path.stat()
        except FileNotFoundError:
            return None
        except OSError as error:
            raise self._away(error) from error
        return status.st_ino, status.st_mtime_ns, status.st_size

    def _swap(self, key: str, expected_revision: int, value: bytes) -> dict[str, Entry]:
        with self._locked():
            entries = self._read()
            present = entries[key].revision if key in entries else 0
            if present != expected_revision:
                raise RevisionConflictError(key, expected_revision, present)
            if key not in entries and len(entries) >= MAX_ENTRIES:
                raise Exhausted(f"{self._path} holds {MAX_ENTRIES} keys, the limit of Coordination")
            entries[key] = Entry(present + 1, value)
            try:
                self._write(entries)
            except OSError as error:
                raise self._away(error) from error
        return entries

    @contextmanager
    def _locked(self) -> Iterator[None]:
        try:
            descriptor = os.open(self._lock_path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise self._away(error) from error
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            yield
        finally:
            os.close(descriptor)

    def _read(self) -> dict[str, Entry]:
        try:
            text = self._path.read_bytes()
        except FileNotFoundError:
            return {}
        except OSError as error:
            raise self._away(error) from error
        try:
            return _decode(text)
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise CoordinationAwayError(
                f"{self._path} is not a coordination file ({error}); it was left as it is: "
                "move it away or name another with --coordination"
            ) from error

    def _write(self, entries: Mapping[str, Entry]) -> None:
        temporary = self._path.with_name(f".{self._path.name}.{os.getpid()}")
        with temporary.open("wb") as file:
            file.write(_encode(entries))
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(self._path)
        folder = os.open(self._path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)

    def _away(self, error: OSError) -> CoordinationAwayError:
        return CoordinationAwayError(f"{self._path}: {error.strerror or error}")


def _encode(entries: Mapping[str, Entry]) -> bytes:
    document = {
        "schema": SCHEMA,
        "oldest_reader": OLDEST_READER,
        "entries": {
            key: {"revision": entry.revision, "value": base64.b64encode(entry.value).decode()}
            for key, entry in sorted(entries.items())
        },
    }
    return json.dumps(document, indent=1).encode() + b"\n"


def _decode(text: bytes) -> dict[str, Entry]:
    document = json.loads(text)
    if document["oldest_reader"] > SCHEMA:
        raise ValueError(f"schema {document['schema']} is newer than this release, {SCHEMA}")
    entries = {}
    for key, fields in document["entries"].items():
        revision = fields["revision"]
        if not isinstance(revision, int) or revision < 1:
            raise ValueError(f"revision {revision!r} of {key!r}")
        entries[key] = Entry(revision, base64.b64decode(fields["value"], validate=True))
    return entries
