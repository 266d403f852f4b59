"""Links that break again and again, on real sockets."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from services.gossip.tests.shell.cluster import Node, is_linked
from weave.gossip.v1 import gossip_pb2


def has_lost(count: int, status: gossip_pb2.GetStatusResponse) -> bool:
    return status.terminated_connections == count


def open_descriptors() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


async def test_reconnects_leave_no_task_and_no_descriptor_behind(
    nodes: Callable[[int], list[Node]], wires: Any
) -> None:
    """Each lost connection leaked, so that a conflict which cost links cost all memory."""
    one, other = nodes(2)
    await one.start(no_discovery=True)
    wire = await wires(one)
    await other.start(wire.address, no_discovery=True)
    held = []

    for count in range(1, 41):
        for node in (one, other):
            await node.until(is_linked)
        held.append((len(asyncio.all_tasks()), open_descriptors()))
        wire.reset()
        for node in (one, other):
            await node.until(partial(has_lost, count))
        # At once, whatever the back-off says.
        await other.gossip.Connect(gossip_pb2.ConnectRequest(targets=[wire.address]))

    tasks, descriptors = zip(*held[10:], strict=True)
    assert max(tasks) - min(tasks) <= 8
    assert max(descriptors) - min(descriptors) <= 8
