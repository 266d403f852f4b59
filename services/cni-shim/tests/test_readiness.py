"""One truth: STATUS, the conflist and the probes say what an ADD would."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from weave_cni_shim.install import Conflist
from weave_cni_shim.readiness import PERIODS_PER_QUESTION, Readiness
from weave_model.errors import NotReady


class Services:
    """What ipam and router say; every judgement asks once."""

    def __init__(self) -> None:
        self.reason = "ipam: awaiting consensus"
        self.error = ""
        self.now = 0.0
        self.asked = asyncio.Event()

    async def why_not_ready(self) -> str:
        self.asked.set()
        if self.error:
            raise NotReady(self.error)
        return self.reason

    async def judged(self, readiness: Readiness, times: int = 2) -> None:
        """Returns when the next whole judgement has had its effect."""
        for _ in range(times):
            self.asked.clear()
            readiness.doubt()
            async with asyncio.timeout(5):
                await self.asked.wait()


@pytest.fixture
def services() -> Services:
    return Services()


@pytest.fixture
def conflist(tmp_path: Path) -> Conflist:
    return Conflist(tmp_path / "10-weave.conflist", "{}")


@pytest.fixture
async def readiness(services: Services, conflist: Conflist) -> AsyncIterator[Readiness]:
    made = Readiness([services.why_not_ready], conflist, patience_s=3.0, clock=lambda: services.now)
    task = asyncio.create_task(made.run())
    yield made
    task.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await task


async def test_the_conflist_appears_when_an_add_would_succeed(
    services: Services, readiness: Readiness, conflist: Conflist
) -> None:
    await services.judged(readiness)
    assert not conflist.path.exists()
    assert readiness.last == ["ipam: awaiting consensus"]

    services.reason = ""
    await services.judged(readiness)
    assert conflist.path.exists()
    assert readiness.last == []


async def test_it_stays_while_a_service_restarts(
    services: Services, readiness: Readiness, conflist: Conflist
) -> None:
    services.reason = ""
    await services.judged(readiness)

    services.error = "ipam does not answer"
    services.now += 2.9
    await services.judged(readiness)
    assert readiness.last == ["ipam does not answer"]
    assert conflist.path.exists()

    services.error = ""
    await services.judged(readiness)
    services.error = "ipam does not answer"
    services.now += 2.9
    await services.judged(readiness)
    assert conflist.path.exists()


async def test_it_goes_when_adds_go_on_failing(
    services: Services, readiness: Readiness, conflist: Conflist
) -> None:
    services.reason = ""
    await services.judged(readiness)

    services.error = "ipam does not answer"
    services.now += 100.0
    await services.judged(readiness)
    assert conflist.path.exists()

    services.now += 3.0
    await services.judged(readiness)
    assert not conflist.path.exists()


async def test_what_a_predecessor_left_goes_as_well(services: Services, conflist: Conflist) -> None:
    conflist.publish()
    services.error = "router does not answer"
    made = Readiness([services.why_not_ready], conflist, patience_s=0.0)
    task = asyncio.create_task(made.run())

    await services.judged(made)

    assert not conflist.path.exists()
    task.cancel()


async def test_it_is_told_when_an_add_becomes_possible(
    services: Services, conflist: Conflist
) -> None:
    told: list[bool] = []
    made = Readiness(
        [services.why_not_ready], conflist, on_ready=lambda: told.append(not made.last)
    )
    services.reason = ""
    task = asyncio.create_task(made.run())

    await services.judged(made)
    await services.judged(made)
    services.reason = "router does not answer"
    await services.judged(made)
    services.reason = ""
    await services.judged(made)

    assert told == [True, True]
    task.cancel()


async def test_a_conflist_that_cannot_be_written_is_a_reason(
    services: Services, tmp_path: Path
) -> None:
    services.reason = ""
    (tmp_path / "net.d").write_text("in the way")
    made = Readiness([services.why_not_ready], Conflist(tmp_path / "net.d/x.conflist", "{}"))
    task = asyncio.create_task(made.run())

    await services.judged(made)
    async with asyncio.timeout(5):
        # The services are fine; the reason follows when the write has failed in its thread.
        while not made.last:  # noqa: ASYNC110 - the property announces nothing
            await asyncio.sleep(0)

    assert "x.conflist cannot be written: Not a directory" in made.last[0]
    task.cancel()


async def test_changes_are_logged_once(
    services: Services, readiness: Readiness, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    await services.judged(readiness, times=5)
    services.reason = ""
    await services.judged(readiness, times=5)

    assert caplog.text.count("not ready: ipam: awaiting consensus") == 1
    assert caplog.text.count("ready: ADD succeeds from now on") == 1


async def test_it_ends_also_when_a_service_is_lost_at_the_same_moment(
    services: Services, conflist: Conflist
) -> None:
    readiness = Readiness([services.why_not_ready], conflist)
    task = asyncio.create_task(readiness.run())
    async with asyncio.timeout(5):
        await services.asked.wait()
    for _ in range(20):
        await asyncio.sleep(0)

    readiness.doubt()
    await asyncio.sleep(0)
    task.cancel()
    done, _ = await asyncio.wait({task}, timeout=2)

    assert done == {task}
    assert task.cancelled()


async def test_while_all_is_well_this_host_is_looked_at_more_often_than_services_are_asked(
    services: Services, conflist: Conflist, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("weave_cni_shim.readiness.PERIOD_READY_S", 0.01)
    services.reason = ""
    asked, looked = 0, 0

    async def ask() -> str:
        nonlocal asked
        asked += 1
        return ""

    async def look() -> str:
        nonlocal looked
        looked += 1
        return ""

    task = asyncio.create_task(Readiness([ask], conflist, local=[look]).run())
    async with asyncio.timeout(5):
        while looked < 12:  # noqa: ASYNC110 - nothing is announced
            await asyncio.sleep(0.01)

    assert looked / PERIODS_PER_QUESTION - 1 <= asked <= looked / PERIODS_PER_QUESTION + 1
    conflist.path.unlink()
    async with asyncio.timeout(5):
        while not conflist.path.exists():  # noqa: ASYNC110 - nothing is announced
            await asyncio.sleep(0.01)
    task.cancel()
