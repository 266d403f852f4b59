"""DELs kept on disk: applied in order, one by one, whatever else lies there."""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from weave_cni_shim.core.call import Call, removal
from weave_cni_shim.core.frame import Request, encode_request
from weave_cni_shim.spool import Spool
from weave_model.attachment import AttachmentKey, ContainerId
from weave_model.errors import NotReady


def key(name: str) -> AttachmentKey:
    return AttachmentKey("weave", ContainerId(name), "eth0")


REMOVAL = removal(key("c1"), "/run/netns/c1")


def put(folder: Path, name: str, content: bytes) -> None:
    """As the executable does it: under its name the file is whole."""
    folder.mkdir(exist_ok=True)
    (folder / "new").write_bytes(content)
    (folder / "new").rename(folder / name)


def names_in(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


class Worker:
    """Carries DELs out, or says that it cannot."""

    def __init__(self) -> None:
        self.done: list[str] = []
        self.errors: dict[str, Exception] = {}

    async def __call__(self, call: Call) -> None:
        if error := self.errors.get(call.container_id):
            raise error
        self.done.append(call.container_id)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "spool"


@pytest.fixture
def spool(folder: Path) -> Spool:
    return Spool(folder, retry_s=0.01, patience_s=0.1)


@pytest.fixture
def worker() -> Worker:
    return Worker()


@contextlib.asynccontextmanager
async def running(spool: Spool, worker: Worker) -> AsyncIterator[None]:
    task = asyncio.create_task(spool.run(worker))
    yield
    task.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await task


async def keep(spool: Spool, *names: str) -> None:
    for name in names:
        await spool.keep(removal(key(name), ""))


async def test_what_was_kept_is_applied_in_its_order(spool: Spool, worker: Worker) -> None:
    await keep(spool, "c1", "c2", "c3")

    async with running(spool, worker):
        await spool.settled(key("c3"))

    assert worker.done == ["c1", "c2", "c3"]
    assert len(spool) == 0


async def test_what_was_kept_survives_the_process(folder: Path, worker: Worker) -> None:
    await keep(Spool(folder), "c1")

    successor = Spool(folder)
    async with running(successor, worker):
        await successor.settled(key("c1"))

    assert worker.done == ["c1"]


async def test_nothing_is_settled_before_the_first_look(spool: Spool) -> None:
    """docs/adr/0003: the spool is applied before the first request is answered."""
    with pytest.raises(NotReady, match="weave/c1/eth0"):
        await spool.settled(key("c1"))


async def test_an_empty_spool_is_settled_at_once(spool: Spool, worker: Worker) -> None:
    async with running(spool, worker):
        await spool.settled(key("c1"))

    assert worker.done == []


async def test_a_del_that_must_wait_holds_up_an_add_of_its_key_only(
    spool: Spool, worker: Worker
) -> None:
    worker.errors["c1"] = NotReady("router does not answer")
    await keep(spool, "c1", "c2")

    async with running(spool, worker):
        await spool.settled(key("c2"))
        with pytest.raises(NotReady):
            await spool.settled(key("c1"))
        worker.errors.clear()
        await spool.settled(key("c1"))

    assert worker.done == ["c2", "c1"]


async def test_a_waiting_del_is_logged_once(
    spool: Spool, worker: Worker, caplog: pytest.LogCaptureFixture
) -> None:
    worker.errors["c1"] = NotReady("router does not answer")
    await keep(spool, "c1")

    async with running(spool, worker):
        with pytest.raises(NotReady):
            await spool.settled(key("c1"))

    assert caplog.text.count("kept DEL must wait: router does not answer") == 1


async def test_what_waits_is_tried_when_what_it_needs_is_there_again(
    folder: Path, worker: Worker
) -> None:
    spool = Spool(folder, retry_s=3600.0)
    worker.errors["c1"] = NotReady("router does not answer")
    await keep(spool, "c1", "c2")

    async with running(spool, worker):
        await spool.settled(key("c2"))
        worker.errors.clear()
        spool.try_again()
        await spool.settled(key("c1"))

    assert worker.done == ["c2", "c1"]


async def test_new_dels_do_not_put_off_those_that_wait(folder: Path, worker: Worker) -> None:
    spool = Spool(folder, retry_s=0.2, patience_s=3.0)
    worker.errors["c0"] = NotReady("router does not answer")
    await keep(spool, "c0")

    async with running(spool, worker):
        for number in range(1, 10):
            await keep(spool, f"c{number}")
            await spool.settled(key(f"c{number}"))
        worker.errors.clear()
        async with asyncio.timeout(10.0):
            # Without a sign, and without an ADD that asks: only the pause can bring this.
            while "c0" not in worker.done:  # noqa: ASYNC110 - the spool announces nothing
                await asyncio.sleep(0.01)


async def test_a_bug_in_one_removal_does_not_stop_the_others(
    spool: Spool, worker: Worker, caplog: pytest.LogCaptureFixture
) -> None:
    worker.errors["c1"] = RuntimeError("bug")
    await keep(spool, "c1", "c2")

    async with running(spool, worker):
        await spool.settled(key("c2"))

    assert worker.done == ["c2"]
    assert "RuntimeError: bug" in caplog.text


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"WVCN",
        b"\0" * 100,
        encode_request(REMOVAL)[:-1],
        encode_request(Request({"CNI_COMMAND": "DEL"}, b"{}")),
        encode_request(Request({**REMOVAL.environ, "CNI_COMMAND": "ADD"}, REMOVAL.stdin)),
    ],
)
async def test_an_unreadable_entry_is_set_aside(
    spool: Spool, worker: Worker, folder: Path, content: bytes
) -> None:
    await keep(spool, "c2")
    put(folder, "1.del", content)

    async with running(spool, worker):
        await spool.settled(key("c2"))

    assert worker.done == ["c2"]
    assert names_in(folder) == ["1.bad"]
    assert (folder / "1.bad").read_bytes() == content


async def test_an_entry_that_appears_later_is_found(
    spool: Spool, worker: Worker, folder: Path
) -> None:
    """The executable was refused just before the daemon began to listen."""
    async with running(spool, worker):
        await spool.settled(key("c1"))
        put(folder, "1.del", encode_request(removal(key("c1"), "")))

        await spool.settled(key("c1"))

    assert worker.done == ["c1"]


async def test_only_what_a_dead_writer_left_is_removed(
    spool: Spool, worker: Worker, folder: Path
) -> None:
    put(folder, "old.del.tmp", b"WV")
    put(folder, "new.del.tmp", b"WV")
    os.utime(folder / "old.del.tmp", (0, 0))

    async with running(spool, worker):
        await spool.settled(key("c1"))

    assert names_in(folder) == ["new.del.tmp"]


async def test_a_full_disk_is_reported_and_leaves_nothing(
    spool: Spool, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(_descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)

    with pytest.raises(OSError, match="No space left"):
        await keep(spool, "c1")

    assert names_in(folder) == []
