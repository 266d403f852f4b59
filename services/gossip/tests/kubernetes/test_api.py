"""The client of the API server against a stand-in."""

from __future__ import annotations

import asyncio
import random
from pathlib import Path
from typing import Any

import pytest

from services.gossip.tests.kubernetes.fake_api import FakeApiServer, node
from weave_gossip.kubernetes import mirror
from weave_gossip.kubernetes.api import PAGE_ITEMS, ApiAway, ApiClient, ApiRefused
from weave_gossip.kubernetes.mirror import Mirror

NODES = "/api/v1/nodes"


class Followed:
    """A mirror at work, and what it has told."""

    def __init__(self, server: FakeApiServer) -> None:
        self.seen: list[set[str]] = []
        self._told = asyncio.Event()
        self._task = asyncio.ensure_future(
            Mirror[Any](
                server.client(), NODES, lambda item: item, self._changed, random.Random(1)
            ).run()
        )

    def _changed(self, objects: dict[str, Any]) -> None:
        self.seen.append(set(objects))
        self._told.set()

    async def until(self, names: set[str]) -> None:
        async with asyncio.timeout(10):
            while not self.seen or self.seen[-1] != names:
                await self._told.wait()
                self._told.clear()

    async def end(self) -> None:
        self._task.cancel()
        await asyncio.wait({self._task})


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mirror, "FIRST_RETRY_S", 0.01)
    monkeypatch.setattr(mirror, "LONGEST_RETRY_S", 0.05)


async def test_a_long_list_is_read_in_pages(server: FakeApiServer) -> None:
    for number in range(PAGE_ITEMS + 3):
        await server.put(f"{NODES}/n{number}", node(f"n{number}"))

    items, version = await server.client().list(NODES)

    assert len(items) == PAGE_ITEMS + 3
    assert version == str(100 + PAGE_ITEMS + 3)


async def test_a_refusal_bears_the_servers_words(server: FakeApiServer) -> None:
    with pytest.raises(ApiRefused, match=r"\(404\): /api/v1/nodes/x not found") as caught:
        await server.client().request("PATCH", f"{NODES}/x", {})
    assert caught.value.status == 404


async def test_a_wrong_token_is_refused(server: FakeApiServer, tmp_path: Path) -> None:
    (tmp_path / "token").write_text("other")

    with pytest.raises(ApiRefused, match="401"):
        await server.client().list(NODES)


async def test_an_absent_server_is_named(server: FakeApiServer) -> None:
    server.is_away = True

    with pytest.raises(ApiAway, match=f"the API server at 127.0.0.1:{server.port} is away"):
        await server.client().list(NODES)


async def test_a_missing_account_is_named(tmp_path: Path) -> None:
    client = ApiClient("127.0.0.1", 1, tmp_path / "none")

    with pytest.raises(ApiAway, match=r"none/ca\.crt cannot be read"):
        await client.list(NODES)


@pytest.mark.parametrize(
    ("environ", "message"),
    [({}, "WEAVE_KUBE_API_SERVER"), ({"WEAVE_KUBE_API_SERVER": "a b:1"}, "'a b:1'")],
)
def test_what_says_no_place_is_refused(environ: dict[str, str], message: str) -> None:
    with pytest.raises(ApiAway, match=message):
        ApiClient.in_cluster(environ)


async def test_a_mirror_follows_what_comes_and_goes(server: FakeApiServer) -> None:
    await server.put(f"{NODES}/a", node("a"))
    followed = Followed(server)
    await followed.until({"a"})

    await server.put(f"{NODES}/b", node("b"))
    await followed.until({"a", "b"})
    await server.delete(f"{NODES}/a")
    await followed.until({"b"})

    await followed.end()


async def test_a_change_of_what_nobody_looks_at_is_none(server: FakeApiServer) -> None:
    await server.put(f"{NODES}/a", node("a"))
    told: list[dict[str, str]] = []
    follower = Mirror(
        server.client(),
        NODES,
        lambda item: str(item["metadata"]["uid"]),
        lambda uids: told.append(dict(uids)),
        random.Random(1),
    )
    task = asyncio.ensure_future(follower.run())
    async with asyncio.timeout(10):
        while not told:  # noqa: ASYNC110 - polls
            await asyncio.sleep(0.01)

        await server.put(f"{NODES}/a", node("a", "10.0.0.1"))
        await server.put(f"{NODES}/a", node("a", uid="other"))
        while len(told) < 2:  # noqa: ASYNC110 - polls
            await asyncio.sleep(0.01)
    task.cancel()
    await asyncio.wait({task})

    assert told == [{"a": "uid-a"}, {"a": "other"}]


async def test_a_mirror_goes_on_after_the_server_was_away(server: FakeApiServer) -> None:
    await server.put(f"{NODES}/a", node("a"))
    followed = Followed(server)
    await followed.until({"a"})

    server.is_away = True
    server.cut()
    await server.put(f"{NODES}/b", node("b"))
    server.is_away = False

    await followed.until({"a", "b"})
    await followed.end()


async def test_a_mirror_goes_on_with_the_token_that_replaced_an_expired_one(
    server: FakeApiServer, tmp_path: Path
) -> None:
    """As after an hour without API server: the kubelet could not replace the token meanwhile."""
    await server.put(f"{NODES}/a", node("a"))
    followed = Followed(server)
    await followed.until({"a"})

    server.is_away, server.token = True, "of the next hour"
    server.cut()
    await server.put(f"{NODES}/b", node("b"))
    server.is_away = False
    refused = len(server.requests)
    async with asyncio.timeout(10):
        while len(server.requests) < refused + 3:  # noqa: ASYNC110 - polls the fake
            await asyncio.sleep(0.01)
    unseen = followed.seen[-1]
    (tmp_path / "token").write_text(server.token)

    await followed.until({"a", "b"})
    await followed.end()
    assert unseen == {"a"}


async def test_a_mirror_lists_again_when_history_is_gone(server: FakeApiServer) -> None:
    await server.put(f"{NODES}/a", node("a"))
    followed = Followed(server)
    await followed.until({"a"})

    await server.put(f"{NODES}/b", node("b"))
    await server.forget_history()
    await server.put(f"{NODES}/c", node("c"))

    await followed.until({"a", "b", "c"})
    await followed.end()
