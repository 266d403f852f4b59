"""A simulated mesh: nodes, network and time of one seed, and the questions tests ask of it."""

from __future__ import annotations

from collections.abc import Callable
from random import Random

from tests.sim.codec import SimCodec
from tests.sim.conditions import Conditions
from tests.sim.network import Network
from tests.sim.node import Node
from tests.sim.scheduler import Scheduler
from weave_gossip.core.facts import PayloadCodec
from weave_gossip.core.options import MeshOptions
from weave_model.peer import PeerName


class Cluster:
    """All of it follows from the arguments: the same seed runs the same way again."""

    def __init__(
        self,
        peers: int,
        seed: int,
        *,
        seeds: int = 3,
        options: MeshOptions | None = None,
        conditions: Conditions | None = None,
        codec: PayloadCodec | None = None,
    ) -> None:
        """The first `seeds` nodes are the targets of all."""
        self.rng = Random(seed)
        self.scheduler = Scheduler()
        self.conditions = conditions or Conditions()
        self.network = Network(self.scheduler, Random(self.rng.getrandbits(64)), self.conditions)
        self.codec = codec or SimCodec()
        self._options = options or MeshOptions()
        self.nodes: list[Node] = []
        self._targets = tuple(f"10.0.{n // 256}.{n % 256}:6783" for n in range(1, seeds + 1))
        for _ in range(peers):
            self.add()

    @property
    def now(self) -> float:
        return self.scheduler.now

    @property
    def live(self) -> list[Node]:
        return [node for node in self.nodes if node.is_up]

    def add(self, name: PeerName | None = None) -> Node:
        """A machine more, not started yet."""
        node = Node(
            len(self.nodes),
            self.network,
            Random(self.rng.getrandbits(64)),
            self._options,
            self.codec,
            self._targets,
            name,
        )
        self.nodes.append(node)
        return node

    def start(self, *, within_s: float = 1.0) -> None:
        """Starts all nodes at random times; returns when the last has started."""
        for node in self.nodes:
            self.scheduler.after(self.rng.uniform(0, within_s), node.start)
        self.run(within_s)

    def run(self, seconds: float) -> None:
        self.scheduler.run_until(self.now + seconds)

    def run_to(
        self, condition: Callable[[], bool], *, within_s: float, every_s: float = 0.1
    ) -> float:
        """Runs until the condition holds; returns the seconds it took. Raises AssertionError."""
        start = self.now
        while not condition():
            if self.now - start >= within_s:
                raise AssertionError(f"not within {within_s} s: {self.describe()}")
            self.run(every_s)
        return self.now - start

    def is_converged(self) -> bool:
        """All live nodes hold the same documents and reach exactly each other."""
        live = self.live
        first = live[0].mesh.status()
        for node in live:
            status = node.mesh.status()
            if status.state_digest != first.state_digest:
                return False
            if status.reachable_peers != len(live):
                return False
        return True

    def describe(self) -> str:
        """One line on how far apart the nodes are."""
        live = [node.mesh.status() for node in self.live]
        digests = {status.state_digest for status in live}
        reachable = sorted(status.reachable_peers for status in live)
        links = sorted(status.links for status in live)
        return (
            f"{len(live)} live, {len(digests)} different states, reachable {reachable[0]} to "
            f"{reachable[-1]}, links {links[0]} to {links[-1]}"
        )
