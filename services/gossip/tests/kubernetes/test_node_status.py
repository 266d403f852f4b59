"""What is told of this node: its condition, its taint, Events."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from types import SimpleNamespace
from typing import Any, cast

import pytest

from services.gossip.tests.kubernetes.fake_api import FakeApiServer, Object, node
from weave_gossip.core.status import Connection, ConnectionState, PeerView
from weave_gossip.kubernetes import events, node_status
from weave_gossip.kubernetes.events import EVENTS, EventWriter, Observer
from weave_gossip.kubernetes.node_status import NodeStatus, why_not_ready
from weave_gossip.kubernetes.nodes import NodeFacts
from weave_gossip.kubernetes.notices import Notice
from weave_gossip.views import Views
from weave_model.peer import PeerName
from weave_runtime.http import HttpServer

NODE = "/api/v1/nodes/a"
OTHER = PeerName(bytes([0, 0, 0, 0, 0, 2]))


async def until(condition: Callable[[], object]) -> None:
    async with asyncio.timeout(10):
        while not condition():  # noqa: ASYNC110 - polls the fake
            await asyncio.sleep(0.01)


@asynccontextmanager
async def reporting(
    server: FakeApiServer, uid: Callable[[], str], port: int
) -> AsyncIterator[None]:
    task = asyncio.ensure_future(NodeStatus(server.client(), "a", uid, "wait", port).run())
    try:
        yield
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task


def conditions(server: FakeApiServer) -> list[Object]:
    found: list[Object] = server.objects[NODE]["status"].get("conditions", [])
    return found


async def test_condition_and_taint_follow_readiness(
    server: FakeApiServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    item = node("a", "127.0.0.1")
    item["spec"] = {"taints": [{"key": "wait"}, {"key": "other"}]}
    await server.put(NODE, item)
    monkeypatch.setattr(node_status, "ASK_S", 0.01)
    asked: list[str] = []
    reasons = ["not yet"]

    def ready() -> str:
        asked.append(reasons[0])
        return reasons[0]

    async with (
        HttpServer("127.0.0.1:0", ready=ready) as http,
        reporting(server, lambda: "uid-a", http.port),
    ):
        await until(lambda: len(asked) >= 3)
        before = list(server.requests)
        reasons[0] = ""
        await until(lambda: server.objects[NODE]["spec"]["taints"] == [{"key": "other"}])

    (condition,) = conditions(server)
    assert before == []
    assert (condition["type"], condition["status"]) == ("NetworkUnavailable", "False")
    assert condition["reason"] == "WeaveIsUp"


async def test_a_node_registered_anew_gets_the_condition_again(
    server: FakeApiServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(node_status, "ASK_S", 0.01)
    await server.put(NODE, node("a", "127.0.0.1"))
    uids = ["first"]
    async with (
        HttpServer("127.0.0.1:0", ready=lambda: "") as http,
        reporting(server, lambda: uids[0], http.port),
    ):
        await until(lambda: conditions(server))
        await server.delete(NODE)
        await server.put(NODE, node("a", "127.0.0.1"))
        uids[0] = "second"
        await until(lambda: conditions(server))


async def test_the_reason_of_an_unready_node_is_that_of_its_service() -> None:
    async with HttpServer("127.0.0.1:0", ready=lambda: "ipam: no space left") as http:
        port = http.port
        assert await why_not_ready(port) == "ipam: no space left"
    assert "cni-shim does not answer" in await why_not_ready(port)


async def test_a_notice_becomes_an_event_at_the_node(server: FakeApiServer) -> None:
    writer = EventWriter(server.client(), "a", lambda: "uid-a")

    await writer.tell(Notice("WeaveNotReady", "no space left", is_warning=True))

    (event,) = (item for path, item in server.objects.items() if path.startswith(EVENTS))
    assert event["involvedObject"]["kind"] == "Node"
    assert (event["involvedObject"]["name"], event["involvedObject"]["uid"]) == ("a", "uid-a")
    assert (event["type"], event["reason"]) == ("Warning", "WeaveNotReady")
    assert event["message"] == "no space left"


async def test_of_many_agents_that_see_the_same_one_tells(
    server: FakeApiServer, caplog: pytest.LogCaptureFixture
) -> None:
    notice = Notice("WeaveNodeDeparted", "gone", key="departed.1")

    for name in ("a", "b"):
        await EventWriter(server.client(), name, lambda: "").tell(notice)

    assert len([path for path in server.objects if path.startswith(EVENTS)]) == 1
    assert "no Event was made" not in caplog.text


async def test_an_event_that_cannot_be_told_stops_nothing(
    server: FakeApiServer, caplog: pytest.LogCaptureFixture
) -> None:
    server.is_away = True

    await EventWriter(server.client(), "a", lambda: "").tell(Notice("WeaveReady", "works"))

    assert "no Event was made" in caplog.text


async def test_a_node_out_of_reach_is_told_with_the_links_failure(
    server: FakeApiServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(events, "_PERIOD_S", 0.01)
    views = Views()
    views.peer_changed(PeerView(OTHER, "b", False, False, 1, "uid-b"))
    views.complete()
    failed = Connection("10.0.0.2:6783", True, ConnectionState.RETRYING, last_error="no route")
    clock = iter(range(0, 100000, 20))
    driver = SimpleNamespace(ask=lambda _: [failed], now=lambda: float(next(clock)))
    lost = NodeFacts("b", "uid-b", ("10.0.0.2",))
    membership = SimpleNamespace(unreached=lambda _: [lost], departures={})
    writer = EventWriter(server.client(), "a", lambda: "uid-a")
    async with HttpServer("127.0.0.1:0", ready=lambda: "") as http:
        observer = Observer(cast("Any", membership), writer, http.port)
        task = asyncio.ensure_future(observer.run(views, cast("Any", driver)))
        await until(lambda: len([p for p in server.objects if p.startswith(EVENTS)]) == 2)
        task.cancel()

    texts = [item["message"] for path, item in server.objects.items() if path.startswith(EVENTS)]
    assert "No mesh link leads to b: 10.0.0.2:6783: no route" in texts
