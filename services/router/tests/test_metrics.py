"""What a scraper reads of the router."""

from __future__ import annotations

from prometheus_client import generate_latest
from prometheus_client.registry import CollectorRegistry

from services.router.tests.test_router import World, attach, world
from services.router.tests.worlds import NAMES
from weave_router.core.inputs import Path, PathKind
from weave_router.core.liveness import State
from weave_router.core.prober import Verdict
from weave_router.core.state import Route
from weave_router.metrics import RouterCollector
from weave_router.router import Router

# A fixture.
__all__ = ["world"]


def scraped(router: Router) -> dict[str, float]:
    """All values by name and labels."""
    registry = CollectorRegistry()
    registry.register(RouterCollector(router))
    lines = generate_latest(registry).decode().splitlines()
    pairs = [line.rsplit(" ", 1) for line in lines if not line.startswith("#")]
    return {name: float(value) for name, value in pairs}


def connections(router: Router) -> dict[str, float]:
    """Peers that are counted, by their labels."""
    name, values = "weave_connections", scraped(router)
    return {key.removeprefix(name): v for key, v in values.items() if key.startswith(name) and v}


async def test_a_scrape_shows_ports_repairs_and_readiness(world: World) -> None:
    async with world.router() as router:
        await attach(router)
        gone = next(o for o in world.kernel.objects.values() if str(o) == "route 10.40.0.0/13")
        del world.kernel.objects[Route, gone.key]
        await router.reconciler.settled()
        values = scraped(router)

    assert values['weave_attachments{state="active"}'] == 1
    assert values['weave_attachments{state="prepared"}'] == 0
    assert values["weave_router_repairs_total"] == 1
    assert values["weave_router_ready"] == 1
    assert values["weave_router_rounds_total"] >= 2


async def test_peers_are_counted_by_the_state_of_their_path(world: World) -> None:
    peer = NAMES[1]
    async with world.router() as router:
        node = router.node
        assert connections(router) == {'{encryption="",state="pending",type="vxlan"}': 1}

        node.verdicts = {peer: Verdict(State.UP, 0.001, 1400, 1450)}
        node.paths = {peer: Path(PathKind.VXLAN, mtu=1400)}
        assert connections(router) == {'{encryption="",state="established",type="vxlan"}': 1}
        assert scraped(router)["weave_paths_narrowed"] == 1

        node.verdicts = {peer: Verdict(State.DOWN, 0.0, 0, 1450)}
        assert connections(router) == {'{encryption="",state="failed",type="vxlan"}': 1}

        node.paths = {peer: Path(PathKind.RELAY, via=NAMES[2])}
        assert connections(router) == {'{encryption="",state="established",type="relay"}': 1}
