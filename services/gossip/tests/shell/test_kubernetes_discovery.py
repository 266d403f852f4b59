"""Whole services that find each other by the Nodes of a cluster, over a stand-in API server."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from services.gossip.tests.kubernetes.fake_api import FakeApiServer, node
from services.gossip.tests.shell.cluster import Node, errors
from weave_gossip.kubernetes import membership
from weave_gossip.kubernetes.api import ApiClient

NODES = "/api/v1/nodes"
# Borne by several Nodes at a time, as keepalived's and kube-vip's; Weave Net took it for itself.
VIRTUAL = "127.0.0.99"
ADDRESSES = {"a": "127.0.0.2", "b": "127.0.0.3", "c": "::1", "d": "127.0.0.4"}

Agents = Callable[[str], list[Node]]


@pytest.fixture
async def api(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[FakeApiServer]:
    async with FakeApiServer(tmp_path).running() as running:
        monkeypatch.setattr(ApiClient, "in_cluster", lambda *_: running.client())
        # How long an agent that starts waits for an API server that is away.
        monkeypatch.setattr(membership, "FIRST_LIST_S", 0.5)
        yield running


@pytest.fixture
def agents(nodes: Any, free_port: Callable[[], int]) -> Agents:
    """`agents("abc")`: an agent per Node, each at its own address and all at one port."""
    port = free_port()

    def make(names: str) -> list[Node]:
        made: list[Node] = nodes(len(names))
        for name, agent in zip(names, made, strict=True):
            agent.config = replace(
                agent.config,
                host=ADDRESSES[name],
                port=port,
                nickname="",
                underlay_address=(),
                kube_node=name,
            )
        return made

    return make


@pytest.fixture
def register(api: FakeApiServer) -> Callable[[str], Awaitable[object]]:
    """`await register("a")`: the Node as a kubelet registers it."""

    async def put(name: str) -> None:
        item = node(name, VIRTUAL, ADDRESSES[name])
        await api.put(f"{NODES}/{name}", item)

    return put


def targets_of(agent: Node, *names: str) -> list[str]:
    shown = {"c": f"[{ADDRESSES['c']}]"}
    return [f"{shown.get(name, ADDRESSES[name])}:{agent.config.port}" for name in names]


async def test_nodes_of_both_families_find_each_other_behind_a_shared_address(
    agents: Agents, register: Any
) -> None:
    members = agents("abc")
    for name in "abc":
        await register(name)

    for agent in members:
        await agent.start()

    for name, agent in zip("abc", members, strict=True):
        status = await agent.until_connected(3)
        assert status.targets == targets_of(agent, *(each for each in "abc" if each != name))
        assert {peer.nickname for peer in status.peers} == set("abc")
        # Nobody takes the shared address for an own one, or for anybody else's.
        assert "cannot connect to ourself" not in errors(status)
        own = next(peer for peer in status.peers if peer.nickname == name)
        assert len(own.underlay_addresses) == 1


async def test_agents_outlive_an_api_server_that_comes_and_goes(
    agents: Agents, register: Any, api: FakeApiServer
) -> None:
    one, other, late = agents("abd")
    for name in "ab":
        await register(name)
    for agent in (one, other):
        await agent.start()
    await one.until_connected(2)

    # An agent that restarts meanwhile goes by what it was told before.
    api.is_away = True
    api.cut()
    await one.stop()
    await one.start()
    await one.until_connected(2)
    assert (await one.status()).targets == targets_of(one, "b")

    # A Node that came while nobody could be told is heard of when the server is back, and so is
    # one that comes after its history was forgotten.
    await register("d")
    api.is_away = False
    for agent in (one, other):
        await agent.until(lambda status: targets_of(one, "d")[0] in status.targets)
    await api.forget_history()
    await late.start()
    for agent in (one, other, late):
        await agent.until_connected(3)

    await api.delete(f"{NODES}/d")
    for agent in (one, other):
        await agent.until(lambda status: targets_of(one, "d")[0] not in status.targets)
