"""What the router's process publishes of its paths, and what it makes of others' documents."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable
from pathlib import Path

from tests.kernel.namespaces import Netns
from tests.kernel.stand_ins import Facts
from tests.kernel.test_router_process import OTHER, SELF, UNIVERSE, facts, node, root, running
from weave.router.v1 import documents_pb2
from weave.router.v1 import router_pb2 as pb
from weave_model.peer import PeerName
from weave_model.prefix import Prefix
from weave_model.ring import OwnedBlock, RingView
from weave_router.core.inputs import Peer

# Fixtures.
__all__ = ["facts", "node", "root"]

THIRD = PeerName.parse("02:00:00:00:00:03")
_TIMEOUT_S = 20


async def until(holds: Callable[[], bool]) -> None:
    """Waits for what another process does."""
    async with asyncio.timeout(_TIMEOUT_S):
        while not holds():  # noqa: ASYNC110 - it is another process
            await asyncio.sleep(0.05)


async def test_a_peer_that_does_not_answer_is_published(
    node: Netns, root: Path, facts: Facts
) -> None:
    async with running(node, root, facts) as (_, stub):
        await until(lambda: ("paths", "") in facts.published)
        document = documents_pb2.Paths.FromString(facts.published["paths", ""])

        assert [(e.peer, e.mtu) for e in document.exceptions] == [(OTHER, 0)]
        status = await stub.GetStatus(pb.GetStatusRequest())
        assert status.paths[0].kind == pb.PATH_KIND_VXLAN
        assert status.paths[0].last_error == "no answer through the tunnel"


async def test_the_router_is_scraped(node: Netns, root: Path, facts: Facts) -> None:
    async with running(node, root, facts):
        request = "printf 'GET /metrics HTTP/1.1\\r\\n\\r\\n' >&3"
        page = node.run("bash", "-c", f"exec 3<>/dev/tcp/127.0.0.1/6784; {request}; cat <&3")

    assert page.startswith("HTTP/1.1 200")
    assert "weave_connections{" in page


async def test_a_document_that_cannot_be_read_is_set_aside(
    node: Netns, root: Path, facts: Facts
) -> None:
    facts.documents["paths", str(OTHER)] = b"\xff"
    facts.documents["endpoints", str(OTHER)] = documents_pb2.Endpoint(
        overlay_addresses=[b"123"]
    ).SerializeToString()
    async with running(node, root, facts):
        await until(lambda: len(facts.quarantined) >= 2)

    assert {text.split(":")[0].split()[0] for text in facts.quarantined} == {"paths", "endpoints"}


async def test_a_relay_in_use_outlives_a_restart(node: Netns, root: Path, facts: Facts) -> None:
    lower, upper = UNIVERSE.halves()
    third, fourth = upper.halves()
    facts.peers = [*facts.peers, Peer(THIRD, (Prefix.parse("10.99.0.3"),))]
    owners = (OwnedBlock(lower, SELF), OwnedBlock(third, OTHER), OwnedBlock(fourth, THIRD))
    facts.rings = [RingView(UNIVERSE, owners)]
    async with running(node, root, facts) as (router, stub):
        await until(lambda: str(fourth) in node.run("ip", "route"))
        router.kill()
        relayed = ["via", "10.99.0.2", "dev", "vxlan-6784", "onlink", "proto", "84"]
        node.run("ip", "route", "replace", str(fourth), *relayed, "src", "10.32.0.1")
        router.start()
        await router.ready(stub)

        def kind() -> str:
            return node.run("ip", "route", "show", str(fourth))

        # As long as nothing is known; no relay is to be had here, so the tunnel comes back then.
        assert "via 10.99.0.2" in kind()
        with contextlib.suppress(TimeoutError):
            await until(lambda: "via 10.99.0.3" in kind())
        assert "via 10.99.0.3" in kind()
