"""Simulated meshes that tests begin with."""

from __future__ import annotations

from tests.sim.cluster import Cluster
from tests.sim.node import Node
from weave_gossip.core.messages import Digest, Documents


def formed(peers: int, **arguments: object) -> Cluster:
    cluster = Cluster(peers, 1, **arguments)  # type: ignore[arg-type]
    cluster.start()
    cluster.run_to(cluster.is_converged, within_s=30)
    return cluster


def say(node: Node, message: Documents | Digest) -> None:
    """Puts words in a node's mouth, to all its neighbours."""
    for stream in node.streams.values():
        node.network.send(stream, message)
