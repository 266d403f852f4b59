"""Peers from Nodes, over outages of the API server."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from services.gossip.tests.kubernetes.fake_api import FakeApiServer, node
from weave_gossip.core.status import PeerView
from weave_gossip.kubernetes import membership, uninstall
from weave_gossip.kubernetes.configmap import ConfigMapCoordination, decode_key, encode_key
from weave_gossip.kubernetes.membership import DEPARTED_FOR_S, Membership, Start
from weave_gossip.views import Views
from weave_model.errors import Invalid
from weave_model.peer import PeerName
from weave_runtime.store import Store, open_store

NODES = "/api/v1/nodes"
SELF, OTHER = (PeerName(bytes([0, 0, 0, 0, 0, n])) for n in (1, 2))


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[Store]:
    async with await open_store("", tmp_path / "state", owner="test") as opened:
        yield opened


def member(server: FakeApiServer, store: Store) -> Membership:
    return Membership(server.client(), "a", 6783, store)


async def test_the_other_nodes_are_the_first_targets(server: FakeApiServer, store: Store) -> None:
    await server.put(f"{NODES}/a", node("a", "127.0.0.1"))
    await server.put(f"{NODES}/b", node("b", "10.0.0.2"))

    start = await member(server, store).start()

    assert start == Start("uid-a", ("10.0.0.2:6783",), (bytes([127, 0, 0, 1]),))


async def test_without_the_api_server_what_was_known_counts(
    server: FakeApiServer, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    await server.put(f"{NODES}/a", node("a", "127.0.0.1"))
    await server.put(f"{NODES}/b", node("b", "10.0.0.2"))
    before = await member(server, store).start()
    monkeypatch.setattr(membership, "FIRST_LIST_S", 0.05)
    server.is_away = True

    assert await member(server, store).start() == before


async def test_a_peer_departs_after_a_while_only(server: FakeApiServer, store: Store) -> None:
    await server.put(f"{NODES}/a", node("a", "127.0.0.1"))
    cluster = member(server, store)
    await cluster.start()
    views = Views()
    views.peer_changed(PeerView(SELF, "a", True, True, 1, "uid-a"))
    views.peer_changed(PeerView(OTHER, "b", False, False, 1, "uid-b"))
    views.complete()

    assert cluster._gone_for_good(views, 100.0) == frozenset()
    assert cluster._gone_for_good(views, 100.0 + DEPARTED_FOR_S) == {OTHER}


async def test_departures_are_remembered_though_the_mesh_forgets_the_peer(
    server: FakeApiServer, store: Store
) -> None:
    cluster = member(server, store)
    views = Views()
    views.peer_changed(PeerView(OTHER, "b", False, False, 1, "uid-b"))

    cluster._remember(views, frozenset({OTHER}))
    views.peers.remove(OTHER)
    cluster._remember(views, frozenset())
    after = dict(cluster.departures)
    views.peer_changed(PeerView(OTHER, "b", False, True, 2, "uid-b"))
    cluster._remember(views, frozenset())

    assert after == {OTHER: "b"}
    assert cluster.departures == {}


async def test_an_empty_list_of_nodes_lets_nobody_depart(
    server: FakeApiServer, store: Store
) -> None:
    cluster = member(server, store)
    await cluster.start()
    views = Views()
    views.peer_changed(PeerView(OTHER, "b", False, False, 1, "uid-b"))
    views.complete()

    cluster._gone_for_good(views, 100.0)

    assert cluster._gone_for_good(views, 1000.0) == frozenset()


def test_watchers_are_told_who_departed_until_it_comes_back() -> None:
    views = Views()
    views.peer_changed(PeerView(OTHER, "b", False, False, 1))

    views.declare_departed(frozenset({OTHER}))
    departed = views.peers.items[OTHER].departed
    views.peer_changed(PeerView(OTHER, "b", False, True, 1))

    assert departed
    assert not views.peers.items[OTHER].departed


async def test_uninstall_waits_for_each_node_and_deletes_the_configmap(
    server: FakeApiServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(uninstall, "_POLL_S", 0.01)
    for name in ("n1", "n2"):
        pod = {"spec": {"nodeName": name}, "status": {"phase": "Running"}}
        await server.put(f"/api/v1/namespaces/ns/pods/{name}", pod)
    agents = ConfigMapCoordination(server.client(), "ns", "weave-net", random.Random(1))
    path = "/api/v1/namespaces/ns/configmaps/weave-net"

    hook = asyncio.ensure_future(
        uninstall.uninstall(server.client(), "ns", "weave-net", "name=weave-net")
    )
    async with asyncio.timeout(5):
        while await agents.get(uninstall.KEY) is None:  # noqa: ASYNC110
            await asyncio.sleep(0.01)
        await agents.compare_and_swap(uninstall.DONE_PREFIX + "n1", 0, b"clean")
        waits = not hook.done() and path in server.objects
        await agents.compare_and_swap(uninstall.DONE_PREFIX + "n2", 0, b"clean")
        status = await hook

    assert waits
    assert status == 0
    assert path not in server.objects


@pytest.mark.parametrize("key", ["a", "ipam/reclaim/7a:9f:c0:d4:b8:39", "_2f", "ä\n"])
def test_keys_of_any_kind_become_keys_of_a_configmap(key: str) -> None:
    encoded = encode_key(key)

    assert encoded.replace("_", "").replace("-", "").replace(".", "").isalnum()
    assert encoded.isascii()
    assert decode_key(encoded) == key


def test_a_key_that_does_not_fit_is_refused() -> None:
    with pytest.raises(Invalid, match="too long for a ConfigMap"):
        encode_key("/" * 100)


async def test_a_configmap_of_somebody_else_is_named(server: FakeApiServer) -> None:
    data: dict[str, Any] = {"data": {"key": "no revision"}}
    await server.put("/api/v1/namespaces/ns/configmaps/weave-net", data)
    coordination = ConfigMapCoordination(server.client(), "ns", "weave-net", random.Random(1))

    with pytest.raises(Exception, match="ConfigMap ns/weave-net holds something else"):
        await coordination.get("a")
