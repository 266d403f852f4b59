"""Nodes leave the cluster, come back, and are replaced."""

from __future__ import annotations

import time

from tests.k8s import figures
from tests.k8s.agents import owners, peer_name, wait_ready
from tests.k8s.cluster import Cluster, KubeNode, wait
from tests.k8s.suite.disruption import lossless
from tests.k8s.workload import Counting, deploy, failures, remove, running

UNIVERSE = 1 << 20
RETURNED_S = 60


def _uid(cluster: Cluster, node: KubeNode) -> str:
    found = cluster.kubectl("get", "node", node.name, "-o", "jsonpath={.metadata.uid}", check=False)
    return found.strip()


def _condition(cluster: Cluster, node: KubeNode) -> str:
    """Reason of NetworkUnavailable=False."""
    conditions = cluster.get("node", node.name)["status"]["conditions"]
    found = [item for item in conditions if item["type"] == "NetworkUnavailable"]
    return str(found[0]["reason"]) if found else ""


def _departures(cluster: Cluster) -> str:
    """What Events say of departed Nodes."""
    found = cluster.get("events", "--field-selector", "reason=WeaveNodeDeparted")["items"]
    return "\n".join(event["message"] for event in found)


def _owners(cluster: Cluster) -> dict[str, int]:
    """Addresses per peer, once all nodes see the same."""
    views: list[dict[str, int]] = []

    def agree() -> bool:
        views[:] = [owners(cluster, node) for node in cluster.nodes]
        return all(view == views[0] for view in views)

    wait("all nodes see one ring", agree)
    return views[0]


def _owns(cluster: Cluster, peer: str, observers: list[KubeNode]) -> bool:
    return any(peer in owners(cluster, node) for node in observers)


def test_a_node_registered_anew_keeps_its_space_and_its_pods(cluster: Cluster) -> None:
    node = cluster.nodes[1]
    pods = running(cluster, "web")
    here = [pod for pod in pods if pod["spec"]["nodeName"] == node.name]
    there = [pod for pod in pods if pod["spec"]["nodeName"] != node.name]
    before, name, uid = _owners(cluster), peer_name(cluster, node), _uid(cluster, node)
    with Counting(cluster, here[0], there[0]) as traffic:
        cluster.kubectl("delete", "node", node.name)
        cluster.restart_kubelet(node)
        wait("the node is registered anew", lambda: _uid(cluster, node) not in ("", uid), 60)
        wait_ready(cluster)
        # Twice what is waited before space is taken back.
        time.sleep(30)
        result = traffic.result()

    lossless("Node deleted and registered anew", result)
    assert peer_name(cluster, node) == name
    assert _owners(cluster) == before
    assert _condition(cluster, node) == "WeaveIsUp"
    kept = {pod["metadata"]["uid"] for pod in running(cluster, "web")}
    assert {pod["metadata"]["uid"] for pod in here} <= kept
    deploy(cluster, "anew", 3)
    assert failures(cluster, running(cluster, "anew"), here + there[:2], "ping", "fetch") == []
    remove(cluster, "anew")


def test_the_space_of_a_deleted_node_returns_within_60_seconds(cluster: Cluster) -> None:
    gone, left = cluster.nodes[2], cluster.nodes[:2]
    peer = peer_name(cluster, gone)
    assert _owns(cluster, peer, left)
    cluster.remove_machine(gone)

    cluster.kubectl("delete", "node", gone.name)
    seconds = wait("node3 owns nothing", lambda: not _owns(cluster, peer, left), 90)

    figures.note("space of a deleted node returned after", f"{seconds:.0f} s")
    assert seconds <= RETURNED_S
    wait("an Event tells of it", lambda: gone.name in _departures(cluster), 30)
    assert _departures(cluster).count(gone.name) == 1
    # `owners` has seen that each address has one owner exactly.
    assert [sum(owners(cluster, node).values()) for node in left] == [UNIVERSE] * 2


def test_a_new_machine_takes_the_name_of_a_deleted_node(cluster: Cluster) -> None:
    node = cluster.nodes[2]

    cluster.start_node(node)
    seconds = wait_ready(cluster)
    deploy(cluster, "new", 6)
    new = running(cluster, "new")

    figures.note("a node joined and was Ready after", f"{seconds:.1f} s")
    assert failures(cluster, new, new, "ping", "fetch") == []
    shares = _owners(cluster)
    assert shares[peer_name(cluster, node)] > 0
    assert sum(shares.values()) == UNIVERSE
    remove(cluster, "new")


def test_the_space_of_a_machine_replaced_at_once_returns(cluster: Cluster) -> None:
    """Though a node of its name is there all the time."""
    node, left = cluster.nodes[2], cluster.nodes[:2]
    old = peer_name(cluster, node)
    assert _owns(cluster, old, left)
    cluster.remove_machine(node)
    cluster.kubectl("delete", "node", node.name)

    cluster.start_node(node)
    start = time.monotonic()
    wait_ready(cluster)
    wait("the old peer owns nothing", lambda: not _owns(cluster, old, left), 90)
    seconds = time.monotonic() - start
    deploy(cluster, "replaced", 6)
    new = running(cluster, "replaced")

    figures.note("space of a replaced machine returned after", f"{seconds:.0f} s")
    assert seconds <= RETURNED_S
    assert peer_name(cluster, node) != old
    assert failures(cluster, new, new, "ping", "fetch") == []
    assert sum(_owners(cluster).values()) == UNIVERSE
    remove(cluster, "replaced")
