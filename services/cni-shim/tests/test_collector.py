"""What is dead is removed without being asked; what may live is not."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import pytest

from weave_cni_shim.addresses import OwnAddresses
from weave_cni_shim.attach import Wanted
from weave_cni_shim.core.call import removal
from weave_cni_shim.testing.node import Node
from weave_model.attachment import AttachmentKey, ContainerId
from weave_model.errors import NotReady


def key(name: str, network: str = "weave") -> AttachmentKey:
    return AttachmentKey(network, ContainerId(name), "eth0")


@pytest.fixture
def node(tmp_path: Path) -> Node:
    return Node(tmp_path)


async def attach(node: Node, wanted: AttachmentKey) -> None:
    own = OwnAddresses(node.ipam)
    await node.attacher.attach(Wanted(wanted, "/n", removal(wanted, "/n"), own))


def kill(node: Node, dead: AttachmentKey) -> None:
    node.router.ports[dead].sandbox_exists = False


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(5):
        while not condition():  # noqa: ASYNC110 - the loop under test sleeps as well
            await asyncio.sleep(0.001)


async def test_the_dead_are_removed_in_all_networks(node: Node) -> None:
    for name in (key("c1"), key("c2"), key("c1", "other")):
        await attach(node, name)
    kill(node, key("c1"))
    kill(node, key("c1", "other"))

    for _ in range(2):
        assert await node.collector.collect_dead() == []

    assert list(node.router.ports) == [key("c2")]
    assert list(node.ipam.held) == [key("c2")]


async def test_nobody_is_declared_dead_at_first_sight(node: Node) -> None:
    """The runtime may be making the namespace anew."""
    await attach(node, key("c1"))
    kill(node, key("c1"))
    await node.collector.collect_dead()
    node.router.ports[key("c1")].sandbox_exists = True
    await node.collector.collect_dead()
    kill(node, key("c1"))

    await node.collector.collect_dead()

    assert key("c1") in node.ipam.held


async def test_what_is_made_anew_while_others_are_removed_lives(node: Node) -> None:
    for name in ("c1", "c2"):
        await attach(node, key(name))
        kill(node, key(name))
    await node.collector.collect_dead()
    arrived = node.stage.hold("ipam.release:before")
    collecting = asyncio.create_task(node.collector.collect_dead())
    await arrived.wait()

    await attach(node, key("c2"))
    node.stage.release("ipam.release:before")

    assert await collecting == []
    assert list(node.router.ports) == list(node.ipam.held) == [key("c2")]


async def test_what_is_being_removed_already_is_left_alone(node: Node) -> None:
    await attach(node, key("c1"))
    kill(node, key("c1"))
    await node.collector.collect_dead()
    arrived = node.stage.hold("router.detach:before")
    deleting = asyncio.create_task(node.attacher.detach(key("c1"), "", OwnAddresses(node.ipam)))
    await arrived.wait()
    node.stage.calls.clear()

    await node.collector.collect_dead()

    assert node.stage.calls == ["router.attachments"]
    node.stage.release("router.detach:before")
    await deleting


async def test_a_failure_is_told_and_tried_again(node: Node) -> None:
    for name in ("c1", "c2"):
        await attach(node, key(name))
        kill(node, key(name))
    node.stage.errors["ipam.release:before"] = NotReady("ipam does not answer")
    await node.collector.collect_dead()

    failures = await node.collector.collect_dead()

    assert failures == [
        "weave/c1/eth0: address: ipam does not answer",
        "weave/c2/eth0: address: ipam does not answer",
    ]


async def test_it_goes_on_though_the_router_is_away(node: Node) -> None:
    await attach(node, key("c1"))
    kill(node, key("c1"))
    node.stage.errors["router.attachments:before"] = NotReady("router does not answer")
    collecting = asyncio.create_task(node.collector.run(timedelta(milliseconds=1)))

    await until(lambda: node.stage.calls.count("router.attachments") > 2)
    node.stage.errors.clear()
    await until(lambda: not node.ipam.held)

    collecting.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await collecting
