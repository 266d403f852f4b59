"""The agents of a cluster: their readiness, their command, the ring that they agree on."""

from __future__ import annotations

import ipaddress
import json
from itertools import pairwise
from typing import Any

from tests.k8s.cluster import Cluster, KubeNode, wait
from tests.k8s.workload import Object

CHART = "charts/weave-net"
_NAMESPACE = ("-n", "kube-system")


def ready_nodes(cluster: Cluster) -> set[str]:
    """Names of the Nodes that are Ready."""
    return {
        node["metadata"]["name"]
        for node in cluster.get("nodes")["items"]
        for condition in node["status"].get("conditions", [])
        if condition["type"] == "Ready" and condition["status"] == "True"
    }


def agents(cluster: Cluster) -> list[Object]:
    """The pods of the DaemonSet."""
    pods: list[Object] = cluster.get("pods", *_NAMESPACE, "-l", "name=weave-net")["items"]
    return pods


def all_ready(cluster: Cluster) -> bool:
    """Does every node that wants an agent have one that is ready and of the newest revision?"""
    found = cluster.get("daemonset", *_NAMESPACE, "weave-net")
    status, wanted = found["status"], found["status"]["desiredNumberScheduled"]
    is_seen = status.get("observedGeneration") == found["metadata"]["generation"]
    numbers = (status.get("numberReady", 0), status.get("updatedNumberScheduled", 0))
    return is_seen and wanted > 0 and numbers == (wanted, wanted)


def wait_ready(cluster: Cluster, nodes: int = 3, timeout_s: float = 120) -> float:
    """Seconds until all Nodes and agents were ready."""
    return wait(
        f"{nodes} nodes and their agents are ready",
        lambda: len(ready_nodes(cluster)) == nodes and all_ready(cluster),
        timeout_s,
    )


def weave(cluster: Cluster, node: KubeNode, *arguments: str) -> str:
    """Runs the `weave` command in the agent of a node."""
    name = next(
        agent["metadata"]["name"]
        for agent in agents(cluster)
        if agent["spec"].get("nodeName") == node.name
    )
    command = ["exec", *_NAMESPACE, name, "-c", "cni-shim", "--", "weave", *arguments]
    return cluster.kubectl(*command)


def report(cluster: Cluster, node: KubeNode) -> dict[str, Any]:
    """`weave report` of a node."""
    found: dict[str, Any] = json.loads(weave(cluster, node, "report"))
    return found


def owners(cluster: Cluster, node: KubeNode) -> dict[str, int]:
    """Addresses per peer name as a node sees the ring. Raises AssertionError.

    Every address of the range has one owner exactly: the blocks follow each other without overlap
    or gap from the first address to the last.
    """
    ipam = report(cluster, node)["IPAM"]
    whole = ipaddress.ip_network(ipam["Range"])
    blocks = sorted(
        (int(ipaddress.ip_address(entry["Token"])), int(entry["Size"]), entry["Peer"])
        for entry in ipam["Entries"]
    )
    assert blocks[0][0] == int(whole.network_address), blocks
    assert all(start + size == after for (start, size, _), (after, *_) in pairwise(blocks)), blocks
    assert blocks[-1][0] + blocks[-1][1] == int(whole.network_address) + whole.num_addresses
    shares: dict[str, int] = {}
    for _, size, peer in blocks:
        shares[peer] = shares.get(peer, 0) + size
    return shares


def peer_name(cluster: Cluster, node: KubeNode) -> str:
    """The durable name of a node's peer."""
    return str(report(cluster, node)["Router"]["Name"])
