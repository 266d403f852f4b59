"""What only the SQLite store has: one file, one owner, damage."""

from __future__ import annotations

import contextlib
import sqlite3
import threading
from pathlib import Path

import pytest

from weave_runtime.store import Store, StoreError, open_store


async def open_in(directory: Path) -> Store:
    return await open_store("", directory, owner="toy")


async def with_entries(directory: Path) -> Path:
    """Makes a store with a few pages of entries and gives its file."""
    async with await open_in(directory) as store:
        await store.commit({f"key{n}": bytes(1000) for n in range(50)})
    return directory / "state.db"


async def assert_refused(path: Path, pattern: str) -> None:
    """The file is refused with a sentence that names it, and is left as it is."""
    before = contents_of(path)
    with pytest.raises(StoreError, match=pattern) as caught:
        await open_in(path.parent)
    assert str(caught.value).startswith(str(path))
    assert contents_of(path) == before


def contents_of(path: Path) -> bytes:
    return path.read_bytes()


def overwrite(path: Path, offset: int, data: bytes) -> None:
    with path.open("r+b") as file:
        file.seek(offset)
        file.write(data)


def read_with_another_program(path: Path) -> None:
    with contextlib.closing(sqlite3.connect(path, timeout=0)) as db:
        db.execute("SELECT * FROM entries")


def foreign_database(path: Path) -> None:
    with contextlib.closing(sqlite3.connect(path)) as db:
        db.execute("CREATE TABLE theirs (x)")


async def test_second_opener_is_told_at_once(tmp_path: Path) -> None:
    path = await with_entries(tmp_path)

    async with await open_in(tmp_path) as store:
        with pytest.raises(StoreError, match=f"{path} is in use by another process"):
            await open_in(tmp_path)

        assert len(await store.load()) == 50


async def test_store_can_be_opened_again_after_a_refusal(tmp_path: Path) -> None:
    async with await open_in(tmp_path):
        with pytest.raises(StoreError):
            await open_in(tmp_path)

    async with await open_in(tmp_path) as store:
        await store.commit({"a": b"1"})


async def test_file_held_by_another_program_is_told_at_once(tmp_path: Path) -> None:
    path = await with_entries(tmp_path)
    with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")

        with pytest.raises(StoreError, match=f"{path} is in use by another process"):
            await open_in(tmp_path)


async def test_other_programs_are_kept_out(tmp_path: Path) -> None:
    path = await with_entries(tmp_path)

    async with await open_in(tmp_path):
        with pytest.raises(sqlite3.OperationalError, match="locked"):
            read_with_another_program(path)


async def test_foreign_database_is_refused_and_kept(tmp_path: Path) -> None:
    path = tmp_path / "state.db"
    foreign_database(path)

    await assert_refused(path, "belongs to another program: move it away")


@pytest.mark.parametrize("contents", [b"", b"not a database", b"SQLite format 3\0" + bytes(84)])
async def test_file_that_is_no_database_is_refused_and_kept(
    tmp_path: Path, contents: bytes
) -> None:
    path = tmp_path / "state.db"
    path.write_bytes(contents)

    await assert_refused(path, "move it away")


async def test_damaged_page_is_refused_and_kept(tmp_path: Path) -> None:
    path = await with_entries(tmp_path)
    overwrite(path, 4096, b"\xff" * 4096)

    await assert_refused(path, "is damaged .*: move it away to start without its state")


async def test_truncated_file_is_refused_and_kept(tmp_path: Path) -> None:
    path = await with_entries(tmp_path)
    path.write_bytes(contents_of(path)[:5000])

    await assert_refused(path, "is damaged")


async def test_half_made_file_of_a_crash_is_no_obstacle(tmp_path: Path) -> None:
    (tmp_path / "state.new").write_bytes(b"half")

    async with await open_in(tmp_path) as store:
        assert await store.load() == {}


async def test_directory_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")

    with pytest.raises(StoreError, match=f"{tmp_path}/file/x/state.db cannot be opened: Not a dir"):
        await open_in(tmp_path / "file" / "x")


async def test_every_commit_is_flushed_to_the_disk(tmp_path: Path) -> None:
    async with await open_in(tmp_path) as store:
        settings = await store._backend._call(  # type: ignore[attr-defined]
            lambda: [
                store._backend._db.execute(f"PRAGMA {name}").fetchone()[0]  # type: ignore[attr-defined]
                for name in ("synchronous", "journal_mode", "locking_mode")
            ]
        )

    full = 2
    assert settings == [full, "wal", "exclusive"]


async def test_thread_ends_with_the_store(tmp_path: Path) -> None:
    store = await open_in(tmp_path)
    (thread,) = [each for each in threading.enumerate() if each.name.startswith("store")]

    await store.close()

    thread.join(5)
    assert not thread.is_alive()


async def test_state_is_for_its_owner_only(tmp_path: Path) -> None:
    await with_entries(tmp_path / "state")

    assert mode_of(tmp_path / "state") == 0o700


def mode_of(path: Path) -> int:
    return path.stat().st_mode & 0o777
