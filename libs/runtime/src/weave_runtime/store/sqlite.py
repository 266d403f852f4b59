"""The embedded store: one SQLite file, exclusive to one process.

Every call of SQLite is made by one thread. A file is looked at read-only before it is opened for
writing, because a file that is not ours or is damaged is to stay as it is; a new one is made
aside and renamed, so that no half-made file is ever taken for a damaged one.
"""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import os
import sqlite3
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Self, TypeVar

from weave_runtime.store.protocol import StoreError

if TYPE_CHECKING:
    from weave_runtime.store.protocol import Batch

T = TypeVar("T")

FILE_NAME = "state.db"
# "weav": says whose file it is (SQLite's header, bytes 68 to 71).
_APPLICATION_ID = 0x77656176
_MOVE_AWAY = "move it away to start without its state"


class SqliteBackend:
    """Entries in `<directory>/state.db`."""

    def __init__(self, directory: Path) -> None:
        self._path = directory / FILE_NAME
        self.name = str(self._path)
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="store")
        self._db: sqlite3.Connection | None = None
        self._lock = -1

    @classmethod
    async def open(cls, directory: Path) -> Self:
        """Opens or makes the file. Never waits for another process. Raises StoreError."""
        self = cls(directory)
        try:
            await self._call(self._open)
        except BaseException:
            await self.close()
            raise
        return self

    async def read(self, prefix: str) -> dict[str, bytes]:
        return await self._call(lambda: self._read(prefix))

    async def write(self, batch: Batch) -> None:
        await self._call(lambda: self._write(batch))

    async def close(self) -> None:
        await self._call(self._close)
        self._thread.shutdown(wait=False)

    async def _call(self, work: Callable[[], T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._thread, work)

    def _open(self) -> None:
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            self._lock = os.open(self._path.parent, os.O_RDONLY | os.O_DIRECTORY)
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if not self._path.exists():
                _create(self._path)
            _inspect(self._path)
            self._db = _connect(self._path, "rw")
            # Keeps out other programs too, and does without the shared-memory file.
            self._db.execute("PRAGMA locking_mode=EXCLUSIVE")
            self._db.execute("PRAGMA journal_mode=WAL")
            self._db.execute("PRAGMA synchronous=FULL")
            self._db.execute("BEGIN EXCLUSIVE")
            self._db.execute("COMMIT")
        except BlockingIOError as error:
            raise StoreError(f"{self._path} is in use by another process") from error
        except OSError as error:
            raise StoreError(f"{self._path} cannot be opened: {error.strerror}") from error
        except sqlite3.Error as error:
            if error.sqlite_errorcode & 0xFF in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED):
                raise StoreError(f"{self._path} is in use by another process") from error
            if error.sqlite_errorcode & 0xFF in (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB):
                raise StoreError(f"{self._path} is damaged ({error}): {_MOVE_AWAY}") from error
            raise StoreError(f"{self._path} cannot be opened: {error}") from error

    def _read(self, prefix: str) -> dict[str, bytes]:
        assert self._db
        rows = self._db.execute("SELECT key, value FROM entries WHERE key >= ?", (prefix,))
        return {key: value for key, value in rows if key.startswith(prefix)}

    def _write(self, batch: Batch) -> None:
        assert self._db
        try:
            self._db.execute("BEGIN IMMEDIATE")
            for key, value in batch.items():
                if value is None:
                    self._db.execute("DELETE FROM entries WHERE key = ?", (key,))
                else:
                    self._db.execute("INSERT OR REPLACE INTO entries VALUES (?, ?)", (key, value))
            self._db.execute("COMMIT")
        except BaseException:
            if self._db.in_transaction:
                self._db.execute("ROLLBACK")
            raise

    def _close(self) -> None:
        if self._db:
            self._db.close()
        if self._lock >= 0:
            os.close(self._lock)
        self._db, self._lock = None, -1


def _connect(path: Path, mode: str) -> sqlite3.Connection:
    return sqlite3.connect(
        f"{path.absolute().as_uri()}?mode={mode}", uri=True, timeout=0, isolation_level=None
    )


def _create(path: Path) -> None:
    new = path.with_suffix(".new")
    new.unlink(missing_ok=True)
    with contextlib.closing(_connect(new, "rwc")) as db:
        db.execute(f"PRAGMA application_id={_APPLICATION_ID}")
        db.execute("CREATE TABLE entries (key TEXT PRIMARY KEY, value BLOB NOT NULL) WITHOUT ROWID")
    new.rename(path)
    directory = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
    os.fsync(directory)
    os.close(directory)


def _inspect(path: Path) -> None:
    with path.open("rb") as file:
        header = file.read(100)
    if not header.startswith(b"SQLite format 3\0"):
        raise StoreError(f"{path} is damaged or no state of this program: {_MOVE_AWAY}")
    if int.from_bytes(header[68:72], "big") != _APPLICATION_ID:
        raise StoreError(f"{path} belongs to another program: {_MOVE_AWAY}")
    with contextlib.closing(_connect(path, "ro")) as db:
        findings = [row[0] for row in db.execute("PRAGMA quick_check(1)")]
        if findings != ["ok"]:
            what = " ".join(findings[0].split())
            raise StoreError(f"{path} is damaged ({what}): {_MOVE_AWAY}")
