"""What is measured at a thousand peers: each scenario takes a formed mesh and returns its rows."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from random import Random

from tests.sim.cluster import Cluster
from tests.sim.invariants import Watchman
from tests.sim.node import Node
from weave_gossip.core.documents import Document, DocumentId
from weave_gossip.core.options import MeshOptions
from weave_model.peer import PeerName

SMALL_PEERS = 100
TARGETS = 10
RING_BYTES = 200
UPDATES = 20
SPLIT_S = 300.0
CRASH_DRAWS = 100
# Nodes at which all invariants are checked: looking at each of a thousand would take twice as long.
WATCHED = 20


@dataclass(frozen=True, slots=True)
class Row:
    """One line of the table."""

    scenario: str
    must: str
    found: str
    passed: bool


def form(seed: int, peers: int) -> tuple[Cluster, float]:
    """A mesh of peers that each hold a ring document; seconds from the last start to agreement.

    Invariants are checked at some of the peers from then on; a broken one raises.
    """
    cluster = Cluster(peers, seed, seeds=TARGETS)
    # Not drawn from what the run is drawn from: it is the same whoever is watched.
    watched = Random(seed).sample(cluster.nodes, min(WATCHED, peers))
    Watchman(cluster, MeshOptions().connection_limit, watched)
    for node in cluster.nodes:
        cluster.scheduler.after(cluster.rng.uniform(0, 1), _start, node)
    cluster.run(1)
    took = cluster.run_to(cluster.is_converged, within_s=120, every_s=0.5)
    return cluster, took


def _start(node: Node) -> None:
    node.start()
    node.publish("ring", "4", node.name * (RING_BYTES // 6))


def measure_update(cluster: Cluster) -> list[Row]:
    """How long one update takes to reach everybody, with one frame in a hundred lost."""
    cluster.conditions.loss = 0.01
    latencies: list[float] = []
    missing = 0
    for number in range(UPDATES):
        arrived: dict[int, float] = {}
        wanted: list[Document] = []

        def note(
            node: Node,
            document: Document,
            arrived: dict[int, float] = arrived,
            wanted: list[Document] = wanted,
        ) -> None:
            if wanted and document.id == wanted[0].id and document.order == wanted[0].order:
                arrived[node.number] = cluster.now

        for node in cluster.nodes:
            node.on_document = note
        writer = cluster.rng.choice(cluster.nodes)
        start = cluster.now
        wanted.append(writer.publish("ring", "4", b"update %d" % number + bytes(RING_BYTES)))
        cluster.run(3)
        latencies += [when - start for when in arrived.values()]
        missing += len(cluster.nodes) - 1 - len(arrived)
    latencies.sort()
    p99 = latencies[int(0.99 * len(latencies))]
    found = (
        f"{p99:.2f} s (median {latencies[len(latencies) // 2]:.2f} s, last {latencies[-1]:.2f} s)"
    )
    name = f"{len(cluster.nodes)} peers, 1 % loss, 50 ms RTT: one update reaches all, p99"
    return [Row(name, "<= 2 s", found, p99 <= 2 and missing == 0)]


def measure_idle(cluster: Cluster) -> list[Row]:
    """Bytes of frames that a peer sends and receives while nothing happens, and the simulator's
    speed.
    """
    peers = len(cluster.nodes)
    large, large_speed = _idle_bytes(cluster)
    small_cluster, _ = form(cluster.rng.getrandbits(32), SMALL_PEERS)
    small_cluster.run(30)
    small, small_speed = _idle_bytes(small_cluster)
    bound = math.log(peers) / math.log(SMALL_PEERS) if peers > SMALL_PEERS else 1.5
    growth = large / small
    return [
        Row(
            f"idle payload per peer at {peers} peers",
            "<= 1 kB/s",
            f"{large:.0f} B/s",
            large <= 1000,
        ),
        Row(
            f"its growth from {SMALL_PEERS} to {peers} peers",
            f"<= {bound:.2f} times (logarithmic)",
            f"{growth:.2f} times",
            growth <= bound,
        ),
        Row(
            f"simulator speed, idle, {SMALL_PEERS} and {peers} peers",
            "reported",
            f"{small_speed:.1f} and {large_speed:.2f} virtual s per s of CPU",
            passed=True,
        ),
    ]


def _idle_bytes(cluster: Cluster) -> tuple[float, float]:
    seconds = 20.0
    # Of the processor: what else the machine does is no matter.
    started = time.process_time()
    before = cluster.network.payload_bytes
    cluster.run(seconds)
    took = time.process_time() - started
    # Sent by one is received by another: a peer's share is both.
    payload = 2 * (cluster.network.payload_bytes - before)
    return payload / seconds / len(cluster.nodes), seconds / took


def measure_split(cluster: Cluster) -> list[Row]:
    """Two halves apart for five minutes, both written to, then whole again."""
    half = len(cluster.nodes) // 2
    cluster.conditions.groups.update(dict.fromkeys(range(half), 1))
    end = cluster.now + SPLIT_S
    while cluster.now < end:
        cluster.rng.choice(cluster.nodes).publish("ring", "6", cluster.rng.randbytes(RING_BYTES))
        cluster.run(3)
    cluster.conditions.heal()
    took = _seconds_to_agree(cluster, within_s=60)
    name = "50/50 split for 5 minutes with writes on both sides, then heal: converged"
    return [Row(name, "<= 10 s", f"{took:.1f} s", took <= 10)]


def measure_slow_peers(cluster: Cluster) -> list[Row]:
    """A tenth of the peers stand still for 2 s again and again: nobody may be declared gone."""
    slow = cluster.rng.sample(cluster.nodes, len(cluster.nodes) // 10)
    gone: list[tuple[int, PeerName]] = []
    for node in cluster.nodes:
        node.on_peer = lambda node, name, up: None if up else gone.append((node.number, name))
    end = cluster.now + 60
    for node in slow:
        when = cluster.now + cluster.rng.uniform(0, 4)
        while when < end:
            cluster.scheduler.at(when, node.stall, 2.0)
            when += 2.0 + cluster.rng.uniform(1, 4)
    cluster.run(65)
    name = "10 % of peers slow (2 s stalls, for a minute): live peers declared gone"
    return [Row(name, "0", str(len(gone)), not gone)]


def measure_crash(cluster: Cluster) -> list[Row]:
    """A machine goes dark: how long until the last peer knows."""
    victim = cluster.rng.choice(cluster.nodes)
    noticed: dict[int, float] = {}

    def note(node: Node, name: PeerName, up: bool) -> None:
        if name == victim.name and not up:
            noticed.setdefault(node.number, cluster.now)

    for node in cluster.nodes:
        node.on_peer = note
    start = cluster.now
    victim.crash(dark=True)
    cluster.run(20)
    last = max(noticed.values(), default=math.inf) - start
    all_know = len(noticed) == len(cluster.nodes) - 1
    found = f"{last:.1f} s" if all_know else f"{len(noticed)} of {len(cluster.nodes) - 1} know"
    return [Row("crash of a peer: noticed by all", "<= 10 s", found, all_know and last <= 10)]


def measure_mass_crash(cluster: Cluster) -> list[Row]:
    """Three peers of ten crash at once: the rest must still be one mesh, before any repair."""
    peers = len(cluster.nodes)
    graph = {node.name: [link.peer for link in node.mesh._links] for node in cluster.nodes}
    whole = 0
    for draw in range(CRASH_DRAWS):
        crashed = set(Random(draw).sample(sorted(graph), 3 * peers // 10))
        whole += _is_connected(graph, crashed)
    for node in cluster.rng.sample(cluster.nodes, 3 * peers // 10):
        node.crash(dark=True)
    took = _seconds_to_reach(cluster, within_s=120)
    return [
        Row(
            "30 % of peers crash at once: the rest still one connected mesh",
            f"always ({CRASH_DRAWS} draws)",
            f"{whole} of {CRASH_DRAWS}",
            whole == CRASH_DRAWS,
        ),
        Row(
            "the same: survivors reach exactly each other", "reported", f"{took:.1f} s", passed=True
        ),
    ]


def _is_connected(graph: dict[PeerName, list[PeerName]], without: set[PeerName]) -> bool:
    left = [name for name in graph if name not in without]
    found = {left[0]}
    queue = [left[0]]
    while queue:
        for other in graph[queue.pop()]:
            if other not in found and other not in without:
                found.add(other)
                queue.append(other)
    return len(found) == len(left)


def _seconds_to_agree(cluster: Cluster, within_s: float) -> float:
    """Until all hold the same documents of topic ring and reach each other, links aside."""
    start = cluster.now
    while not _agrees(cluster):
        if cluster.now - start > within_s:
            return math.inf
        cluster.run(0.25)
    return cluster.now - start


def _agrees(cluster: Cluster) -> bool:
    live = cluster.live
    if any(node.mesh.status().reachable_peers != len(live) for node in live):
        return False
    newest = {document.id: document.order for node in live for document in _own_rings(node)}
    return all(_holds(node, newest) for node in live)


def _own_rings(node: Node) -> list[Document]:
    return [document for document in node.stored.values() if document.id.topic == "ring"]


def _holds(node: Node, newest: dict[DocumentId, tuple[int, int, bytes]]) -> bool:
    replica = node.mesh._knowledge.replica
    for document_id, order in newest.items():
        held = replica.get(document_id)
        if held is None or held.order != order:
            return False
    return True


def _seconds_to_reach(cluster: Cluster, within_s: float) -> float:
    live = cluster.live
    start = cluster.now
    while any(node.mesh.status().reachable_peers != len(live) for node in live):
        if cluster.now - start > within_s:
            return math.inf
        cluster.run(0.25)
    return cluster.now - start


SCENARIOS: tuple[Callable[[Cluster], list[Row]], ...] = (
    measure_update,
    measure_idle,
    measure_slow_peers,
    measure_crash,
    measure_mass_crash,
    measure_split,
)
