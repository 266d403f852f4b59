"""The API server is away for an hour, in virtual time: what is known stands, and nothing runs hot.

The timers that matter: the pauses between tries, up to `LONGEST_RETRY_S` and half as much again;
the 15 s after which a peer without a Node departs; the token, an hour old at most, which the
kubelet cannot replace meanwhile (test_api.py). The caches have no time limit (docs/adr/0010).
"""

from __future__ import annotations

import asyncio
import random
import selectors
from collections.abc import AsyncIterator, Callable, Coroutine
from pathlib import Path
from typing import Any

import pytest

from services.gossip.tests.kubernetes.fake_api import node
from weave_gossip.coordination.backend import Entry
from weave_gossip.core.status import PeerView
from weave_gossip.errors import CoordinationAwayError
from weave_gossip.kubernetes.api import ApiAway, ApiClient, Object, WatchEvent
from weave_gossip.kubernetes.configmap import ConfigMapCoordination, encode_key
from weave_gossip.kubernetes.membership import NODES, Membership
from weave_gossip.kubernetes.mirror import LONGEST_RETRY_S
from weave_gossip.views import Views
from weave_model.peer import PeerName
from weave_runtime.store import Store
from weave_runtime.store.memory import MemoryBackend
from weave_runtime.store.protocol import Format

HOUR_S = 3600.0
# Half as much again spreads the tries of many agents.
MOST_BETWEEN_TRIES_S = 1.5 * LONGEST_RETRY_S
SELF, OTHER = (PeerName(bytes([0, 0, 0, 0, 0, n])) for n in (1, 2))
CONFIGMAPS = "/api/v1/namespaces/ns/configmaps"


class SkippingSelector(selectors.DefaultSelector):
    """Never waits: the time that would have been waited passes at once."""

    def __init__(self) -> None:
        super().__init__()
        self.now = 0.0

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        assert timeout is not None, "nothing would ever happen"
        self.now += max(0.0, timeout)
        return super().select(0)


class VirtualLoop(asyncio.SelectorEventLoop):
    """Its clock is the selector's."""

    def __init__(self) -> None:
        self._skipping = SkippingSelector()
        super().__init__(self._skipping)

    def time(self) -> float:
        return self._skipping.now


class PlayedApi(ApiClient):
    """Answers from memory, or not at all; counts the lists."""

    def __init__(self) -> None:
        super().__init__("api.example", 443, Path("/nowhere"))
        self.is_away = False
        self.items: dict[str, list[Object]] = {NODES: [], CONFIGMAPS: []}
        self.lists: list[tuple[float, str]] = []
        self._broken = asyncio.Event()

    def leave(self) -> None:
        self.is_away = True
        self._broken.set()

    def come_back(self) -> None:
        self.is_away = False
        self._broken = asyncio.Event()

    async def request(
        self, method: str, path: str, body: Object | None = None, *, kind: str = ""
    ) -> Object:
        self._answers()
        folder = path.rpartition("/")[0]
        return next(i for i in self.items[folder] if path.endswith(i["metadata"]["name"]))

    async def list_as(self, path: str, parse: Callable[[Object], Any]) -> tuple[list[Any], str]:
        path = path.partition("?")[0]
        self.lists.append((asyncio.get_running_loop().time(), path))
        self._answers()
        return [parse(item) for item in self.items[path]], "1"

    async def watch(self, path: str, version: str) -> AsyncIterator[WatchEvent]:
        self._answers()
        await self._broken.wait()
        self._answers()
        yield WatchEvent("BOOKMARK", {})

    def _answers(self) -> None:
        if self.is_away:
            raise ApiAway("the API server at api.example:443 is away")


def in_virtual_time(work: Callable[[], Coroutine[Any, Any, None]]) -> None:
    with asyncio.Runner(loop_factory=VirtualLoop) as runner:
        runner.run(work())


def tries(api: PlayedApi, path: str, since: float) -> list[float]:
    return [moment for moment, listed in api.lists if listed == path and moment > since]


def test_no_peer_departs_and_the_nodes_are_seen_as_soon_as_the_server_is_back() -> None:
    async def hour() -> None:
        api, views = PlayedApi(), Views()
        api.items[NODES] = [node("a", "127.0.0.1"), node("b", "10.0.0.2")]
        member = Membership(api, "a", 6783, await Store.open(MemoryBackend(), Format()))
        await member.start()
        # Its machine does not answer, and its Node was there when the server was last seen.
        views.peer_changed(PeerView(SELF, "a", True, True, 1, "uid-a"))
        views.peer_changed(PeerView(OTHER, "b", False, False, 1, "uid-b"))
        views.complete()
        loop = asyncio.get_running_loop()
        declared: list[frozenset[PeerName]] = []
        follower = asyncio.ensure_future(member.follow())
        judge = asyncio.ensure_future(member.judge(views, loop.time, declared.append))
        await asyncio.sleep(60)

        api.leave()
        left = loop.time()
        await asyncio.sleep(HOUR_S)
        during = list(declared)
        moments = tries(api, NODES, left)
        api.items[NODES] = [node("a", "127.0.0.1")]
        api.come_back()
        back = loop.time()
        while not declared[-1]:  # noqa: ASYNC110 - virtual time
            await asyncio.sleep(1)

        assert set(during) == {frozenset()}
        # Often enough, and never hot.
        assert HOUR_S / MOST_BETWEEN_TRIES_S < len(moments) < 2 * HOUR_S / LONGEST_RETRY_S + 10
        assert declared[-1] == {OTHER}
        assert loop.time() - back < MOST_BETWEEN_TRIES_S + 30
        follower.cancel()
        judge.cancel()

    in_virtual_time(hour)


def test_what_coordination_last_held_is_answered_all_the_time_and_never_written() -> None:
    async def hour() -> None:
        api, loop = PlayedApi(), asyncio.get_running_loop()
        ring, later = Entry(1, b"ring"), Entry(2, b"ring")
        api.items[CONFIGMAPS] = [config_map(ring, "1")]
        coordination = ConfigMapCoordination(api, "ns", "weave-net", random.Random(1))
        follower = asyncio.ensure_future(coordination.follow())
        await asyncio.sleep(60)

        api.leave()
        for _ in range(60):
            await asyncio.sleep(HOUR_S / 60)
            assert await coordination.get("genesis/4") == ring
            with pytest.raises(CoordinationAwayError):
                await coordination.compare_and_swap("genesis/4", 1, b"other")
        api.items[CONFIGMAPS] = [config_map(later, "2")]
        api.come_back()
        back = loop.time()
        while coordination.entries.items.get("genesis/4") != later:  # noqa: ASYNC110 - virtual time
            await asyncio.sleep(1)

        assert loop.time() - back <= MOST_BETWEEN_TRIES_S + 1
        follower.cancel()

    in_virtual_time(hour)


def config_map(entry: Entry, version: str) -> Object:
    return {
        "metadata": {"name": "weave-net", "resourceVersion": version},
        "data": {encode_key("genesis/4"): f"{entry.revision}:cmluZw=="},
    }
