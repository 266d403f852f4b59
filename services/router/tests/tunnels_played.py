"""Tunnels between nodes on a clock of their own: each node probes, publishes and chooses."""

from __future__ import annotations

import heapq
import itertools
import random
from collections.abc import Iterable
from dataclasses import dataclass, field

from weave_model.peer import PeerName
from weave_model.prefix import Prefix
from weave_router.core import path_choice
from weave_router.core.inputs import Path, PathKind
from weave_router.core.path_choice import Reach
from weave_router.core.prober import Probe, Prober, Target

MTU = 1450
# From a change of what a node publishes until all others know it.
SPREAD_S = 1.5


def target(floor: int = 1280, ceiling: int = MTU) -> Target:
    """The end of a tunnel."""
    return Target("vxlan-6784", Prefix.parse("fe80::1"), floor, ceiling)


def names(count: int) -> list[PeerName]:
    """Peer names in order."""
    return [PeerName(b"\x02\0\0\0" + number.to_bytes(2, "big")) for number in range(1, count + 1)]


@dataclass
class PlayedNode:
    """What one router knows."""

    name: PeerName
    prober: Prober
    reaches: dict[PeerName, Reach] = field(default_factory=dict)
    published: Reach | None = None
    paths: dict[PeerName, Path] = field(default_factory=dict)
    seen: int = -1
    # Times at which a path changed.
    changes: list[float] = field(default_factory=list)
    sent: int = 0
    sent_bytes: int = 0


class Network:
    """Nodes all of which have tunnels to each other."""

    def __init__(self, count: int, seed: int, *, loss: float = 0.0, delay_s: float = 0.005) -> None:
        self.rng = random.Random(seed)
        self.now = 0.0
        self.loss, self.delay_s = loss, delay_s
        self.nodes = {name: PlayedNode(name, Prober(self.rng)) for name in names(count)}
        # Ordered pairs between which nothing passes, and the largest packet for others.
        self.cut: set[tuple[PeerName, PeerName]] = set()
        self.limits: dict[tuple[PeerName, PeerName], int] = {}
        self.present = set(self.nodes)
        self._counter = itertools.count()
        self._events: list[tuple[float, int, PeerName, object]] = []
        for name in self.nodes:
            self.aim(name, MTU)
            self._at(self.now, name, None)

    def aim(self, name: PeerName, ceiling: int, floor: int = 1280) -> None:
        """A node begins to probe all others."""
        others = {other: target(floor, ceiling) for other in self.nodes}
        del others[name]
        self.nodes[name].prober.follow(others, self.now)

    def cut_between(self, one: PeerName, other: PeerName) -> None:
        """Nothing passes between two nodes."""
        self.cut |= {(one, other), (other, one)}

    def run(self, seconds: float) -> None:
        """Lets time pass."""
        end = self.now + seconds
        while self._events and self._events[0][0] <= end:
            self.now, _, name, what = heapq.heappop(self._events)
            node = self.nodes[name]
            match what:
                case int():
                    node.prober.answered(what, self.now)
                case (PeerName() as writer, Reach() as reach):
                    node.reaches[writer] = reach
                    node.seen = -1
                case _:
                    self._send(node, node.prober.due(self.now))
            self._decide(node)
            next_at = node.prober.next_at()
            if next_at is not None and what is None:
                self._at(max(next_at, self.now + 0.02), name, None)
        self.now = end

    def kinds(self, name: PeerName) -> dict[PeerName, PathKind]:
        """How a node reaches the others."""
        return {peer: path.kind for peer, path in self.nodes[name].paths.items()}

    def delivers(self, source: PeerName, target: PeerName) -> bool:
        """Would a packet come through, by the routes of all nodes and what they let transit?"""
        path = self.nodes[source].paths.get(target, Path())
        hop = target if path.via is None else path.via
        if (source, hop) in self.cut:
            return False
        if hop == target:
            return True
        # Transit knows tunnels only.
        onward = self.nodes[hop].paths.get(target, Path())
        return onward.kind is PathKind.VXLAN and (hop, target) not in self.cut

    def _send(self, node: PlayedNode, probes: Iterable[Probe]) -> None:
        for probe in probes:
            node.sent += 1
            node.sent_bytes += probe.size
            there, back = (node.name, probe.peer), (probe.peer, node.name)
            is_swallowed = (
                {there, back} & self.cut
                or probe.size > self.limits.get(there, MTU)
                or probe.size > self.limits.get(back, MTU)
                or self.rng.random() < self.loss
            )
            if not is_swallowed and probe.peer in self.present:
                self._at(self.now + 2 * self.delay_s, node.name, probe.token)

    def _decide(self, node: PlayedNode) -> None:
        if node.seen == node.prober.changes:
            return
        node.seen = node.prober.changes
        verdicts = node.prober.verdicts()
        chosen = path_choice.choose(node.name, verdicts, node.reaches, self.present, node.paths)
        if chosen != node.paths:
            node.changes.append(self.now)
        node.paths = chosen
        reach = path_choice.own_reach(verdicts, self.present)
        if reach is not None and reach != node.published:
            node.published = reach
            for other in self.nodes:
                if other != node.name:
                    self._at(self.now + SPREAD_S, other, (node.name, reach))

    def _at(self, at: float, name: PeerName, what: object) -> None:
        heapq.heappush(self._events, (at, next(self._counter), name, what))
