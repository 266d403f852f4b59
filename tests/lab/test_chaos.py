"""Services die at random while pods come and go: no packet lost, no address twice, no leak."""

from __future__ import annotations

import random
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field

import pytest

from weave_lab import Lab, LabError, LabSpec, Node, Pod, traffic
from weave_lab.services import ALL, SERVICES

pytestmark = [pytest.mark.lab, pytest.mark.slow]

DURATION_S = 20.0
PING_INTERVAL_S = 0.02
# How long a service stays away: from hardly noticed to long enough for callers to give up.
AWAY_S = (0.0, 0.7)
# Kept DELs are tried every second, oldest first.
SETTLE_S = 15.0
NAMES = [*(service.name for service in SERVICES), ALL]


@pytest.fixture
def chaos_lab() -> Iterator[Lab]:
    """A cluster of its own: what happens here is nobody else's business."""
    with Lab.up(LabSpec(name="t-chaos", nodes=3)) as lab:
        yield lab


@dataclass
class Chaos:
    """Draws what happens next, does it, and remembers who should have which address."""

    nodes: list[Node]
    rng: random.Random
    alive: dict[tuple[str, str], str] = field(default_factory=dict)
    happened: Counter[str] = field(default_factory=Counter)
    doubles: list[str] = field(default_factory=list)

    def step(self) -> None:
        """One event on one node. A refused ADD is legal; the runtime tries again later."""
        node = self.rng.choice(self.nodes)
        draw = self.rng.random()
        if draw < 0.5:
            self._add(node)
        elif draw < 0.85 and self.alive:
            self._delete()
        else:
            self._kill(node)

    def _add(self, node: Node) -> None:
        name = f"p{self.happened.total()}"
        try:
            pod = node.add_pod(name)
        except LabError:
            self.happened["refused"] += 1
            return
        self.happened["added"] += 1
        if pod.address in self.alive.values():
            self.doubles.append(pod.address)
        self.alive[node.name, name] = pod.address

    def _delete(self) -> None:
        where, name = self.rng.choice(sorted(self.alive))
        node = next(node for node in self.nodes if node.name == where)
        node.delete_pod(name)
        del self.alive[where, name]
        self.happened["deleted"] += 1

    def _kill(self, node: Node) -> None:
        name = self.rng.choice(NAMES)
        node.kill(name)
        self.happened["killed"] += 1
        time.sleep(self.rng.uniform(*AWAY_S))
        node.launch(name)


def addresses_on(node: Node) -> Counter[str]:
    """What the node's own table of containers says."""
    listed = node.exec(["weave", "ps"]).stdout
    return Counter(line.split()[-1].partition("/")[0] for line in listed.splitlines() if line)


def routed_on(node: Node) -> int:
    """Pod routes in the kernel."""
    return node.exec(["ip", "route"]).stdout.count(" dev vethwepl")


def settles_on(node: Node, pods: set[str]) -> bool:
    """Do exactly these pods remain, once DELs kept while services were away are made up for?"""
    deadline = time.monotonic() + SETTLE_S
    while time.monotonic() < deadline:
        listed = addresses_on(node)
        # The node's own overlay address comes on top.
        if listed.total() == len(pods) + 1 and set(listed) > pods and routed_on(node) == len(pods):
            return True
        time.sleep(0.2)
    return False


@pytest.mark.parametrize("seed", [1])
def test_pods_keep_talking_while_services_die_and_pods_come_and_go(
    chaos_lab: Lab, seed: int
) -> None:
    nodes = chaos_lab.nodes()
    residents = [node.add_pod("resident") for node in nodes]
    chaos = Chaos(nodes, random.Random(seed))
    pairs: list[tuple[Pod, Pod]] = [(a, b) for a in residents for b in residents if a is not b]

    with traffic.flowing(pairs, PING_INTERVAL_S) as stop:
        deadline = time.monotonic() + DURATION_S
        while time.monotonic() < deadline:
            chaos.step()
        for node in nodes:
            node.wait_ready()
        flows = stop()

    assert chaos.happened["killed"] > 3
    assert chaos.happened["added"] > 3
    assert [flow for flow in flows if flow.lost] == []
    assert chaos.doubles == []
    for node in nodes:
        owed = {address for (where, _), address in chaos.alive.items() if where == node.name}
        owed |= {resident.address for resident in residents if resident.node.name == node.name}
        assert settles_on(node, owed)
