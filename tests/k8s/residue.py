"""What is left of weave-net on nodes and in the cluster, and how an uninstall is checked for it."""

from __future__ import annotations

import time
from collections.abc import Callable

from tests.k8s.agents import agents, ready_nodes
from tests.k8s.cluster import Cluster, ClusterError, KubeNode, wait

KINDS = (
    "daemonsets,jobs,pods,serviceaccounts,roles,rolebindings,configmaps,secrets,"
    "clusterroles,clusterrolebindings"
)
# What a pod network leaves on a node, and what must be empty after it.
LOOKS = {
    "conflist": ("sh", "-c", "ls /etc/cni/net.d"),
    "executables": ("sh", "-c", "ls /opt/cni/bin | grep weave || true"),
    "state": ("find", "/var/lib/weave", "-mindepth", "1"),
    "links": ("sh", "-c", "ip -o link | grep -E 'weave|vxlan|vethwe' || true"),
    "tables": ("sh", "-c", "nft list tables | grep weave || true"),
    "rules": ("sh", "-c", "ip rule list pref 6784; ip -6 rule list pref 6784"),
    "routes": ("sh", "-c", "ip route show table all proto 84; ip -6 route show table all proto 84"),
    "pod namespaces": ("sh", "-c", "ls /run/netns"),
}


def found(cluster: Cluster) -> list[str]:
    """One line for each thing."""
    left = [f"{n.name}: {what}: {text}" for n in cluster.nodes for what, text in _left_on(n)]
    names = cluster.kubectl("get", KINDS, "-n", "kube-system", "-o", "name").split()
    return left + [name for name in names if "weave" in name]


def _left_on(node: KubeNode) -> list[tuple[str, str]]:
    shown = [(what, node.exec(*command).strip()) for what, command in LOOKS.items()]
    return [(what, text) for what, text in shown if text]


def clean_uninstall(cluster: Cluster, command: Callable[[], object]) -> float:
    """Seconds that it took; raises ClusterError that names what is left."""
    start = time.monotonic()
    command()
    seconds = time.monotonic() - start
    wait("agents are gone", lambda: not agents(cluster))
    if left := found(cluster):
        raise ClusterError(f"left: {left}")
    wait("nodes are not Ready any more", lambda: ready_nodes(cluster) == set(), 60)
    return seconds


def clean_helm_uninstall(cluster: Cluster) -> float:
    """The same with Helm."""
    return clean_uninstall(cluster, lambda: cluster.helm("uninstall", "weave-net", "--wait"))
