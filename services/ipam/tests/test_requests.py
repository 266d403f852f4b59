"""Who is told what, and what is undone when nobody was told."""

import asyncio

import pytest

from weave_ipam import requests as module
from weave_ipam.core.effects import RequestId
from weave_ipam.core.results import Primed
from weave_ipam.errors import Overloaded
from weave_ipam.requests import Requests
from weave_ipam.testing.cluster import pod_key
from weave_model.errors import Invalid

KEY = pod_key("a")


def submitted(requests: Requests, generation_before: int = 0) -> RequestId:
    request, _ = requests.open(KEY)
    assert requests.submit(request, generation_before)
    return request


async def test_an_allocation_nobody_was_told_of_is_undone() -> None:
    requests = Requests()

    assert requests.end(submitted(requests), told=False) == KEY


async def test_an_allocation_somebody_was_told_of_stays() -> None:
    requests = Requests()

    assert requests.end(submitted(requests), told=True) is None


async def test_what_was_held_before_stays() -> None:
    requests = Requests()

    assert requests.end(submitted(requests, 7), told=False) is None


async def test_the_last_of_several_calls_decides() -> None:
    requests = Requests()
    first, second = submitted(requests), submitted(requests, 7)

    assert requests.end(first, told=False) is None
    assert requests.end(second, told=False) == KEY


async def test_one_told_call_keeps_the_allocation_of_all() -> None:
    requests = Requests()
    first, second = submitted(requests), submitted(requests)

    assert requests.end(first, told=True) is None
    assert requests.end(second, told=False) is None


async def test_a_call_that_ended_before_its_turn_is_left_out() -> None:
    requests = Requests()
    request, future = requests.open(KEY)
    future.cancel()

    assert not requests.submit(request, 0)
    assert requests.end(request, told=False) is None
    assert len(requests) == 0


async def test_an_answer_reaches_its_caller_once() -> None:
    requests = Requests()
    request, future = requests.open()

    requests.answer(request, Primed())
    requests.answer(request, Invalid("too late"))

    assert await future == Primed()


async def test_an_error_reaches_its_caller() -> None:
    requests = Requests()
    request, future = requests.open()

    requests.answer(request, Invalid("bad subnet"))

    with pytest.raises(Invalid, match="bad subnet"):
        await future


async def test_an_answer_for_nobody_is_no_error() -> None:
    Requests().answer(RequestId(7), Primed())


async def test_callers_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MAX_WAITING", 2)
    requests = Requests()
    requests.open()
    requests.open()

    with pytest.raises(Overloaded, match="2 calls"):
        requests.open()
    await asyncio.sleep(0)
