"""What an uninstall leaves, and what is installed in other ways."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import yaml

from tests.k8s import figures, redis_image
from tests.k8s.agents import CHART, agents, all_ready, ready_nodes, wait_ready
from tests.k8s.cluster import ROOT, Cluster, KubeNode, wait
from tests.k8s.workload import addresses, deploy, failures, remove, running

MANIFEST = ROOT / "charts" / "weave-net.yaml"
UNINSTALL = ROOT / "charts" / "weave-net-uninstall.yaml"
KINDS = (
    "daemonsets,jobs,pods,serviceaccounts,roles,rolebindings,configmaps,"
    "clusterroles,clusterrolebindings"
)
# What a pod network leaves in the kernel, and what must be empty after it.
LOOKS = {
    "conflist": ("sh", "-c", "ls /etc/cni/net.d"),
    "executables": ("sh", "-c", "ls /opt/cni/bin | grep weave || true"),
    "links": ("sh", "-c", "ip -o link | grep -E 'weave|vxlan|vethwe' || true"),
    "tables": ("sh", "-c", "nft list tables | grep weave || true"),
    "rules": ("sh", "-c", "ip rule list pref 6784; ip -6 rule list pref 6784"),
    "routes": ("sh", "-c", "ip route show table all proto 84; ip -6 route show table all proto 84"),
    "pod namespaces": ("sh", "-c", "ls /run/netns"),
}


def residue(cluster: Cluster) -> list[str]:
    """What is left of weave-net, on nodes and in the cluster."""
    left = [f"{n.name}: {what}: {text}" for n in cluster.nodes for what, text in _left_on(n)]
    names = cluster.kubectl("get", KINDS, "-n", "kube-system", "-o", "name").split()
    return left + [name for name in names if "weave" in name]


def _left_on(node: KubeNode) -> list[tuple[str, str]]:
    found = [(what, node.exec(*command).strip()) for what, command in LOOKS.items()]
    return [(what, text) for what, text in found if text]


def _uninstall(cluster: Cluster, command: Callable[[], object]) -> float:
    """Seconds that it took; raises AssertionError when something is left."""
    start = time.monotonic()
    command()
    seconds = time.monotonic() - start
    wait("agents are gone", lambda: not agents(cluster))
    assert residue(cluster) == []
    wait("nodes are not Ready any more", lambda: ready_nodes(cluster) == set(), 60)
    return seconds


def _helm_uninstall(cluster: Cluster) -> float:
    return _uninstall(cluster, lambda: cluster.helm("uninstall", "weave-net", "--wait"))


def test_uninstall_leaves_nothing(cluster: Cluster) -> None:
    remove(cluster, "web")

    seconds = _helm_uninstall(cluster)

    figures.note("helm uninstall", f"{seconds:.1f} s")


def test_the_plain_manifest_installs_and_uninstalls(cluster: Cluster) -> None:
    options = ["-n", "kube-system", "--from-literal=password=of-this-test"]
    cluster.kubectl("create", "secret", "generic", "weave-net-mesh", *options)
    cluster.kubectl("apply", "-f", str(MANIFEST))
    wait_ready(cluster)
    deploy(cluster, "plain", 6)
    pods = running(cluster, "plain")
    assert failures(cluster, pods, pods, "ping", "fetch") == []
    remove(cluster, "plain")

    def uninstall() -> None:
        cluster.kubectl("apply", "-f", str(UNINSTALL))
        job = ["-n", "kube-system", "job/weave-net-uninstall", "--timeout=110s"]
        cluster.kubectl("wait", "--for=condition=complete", *job)
        cluster.kubectl("delete", "-f", str(UNINSTALL), "-f", str(MANIFEST))

    _uninstall(cluster, uninstall)
    cluster.kubectl("delete", "secret", "-n", "kube-system", "weave-net-mesh")


def _install(cluster: Cluster, tmp_path: Path, values: Any) -> None:
    path = tmp_path / "values.yaml"
    path.write_text(yaml.safe_dump(values))
    cluster.helm("install", "weave-net", str(ROOT / CHART), "-f", str(path))
    wait_ready(cluster)


def test_two_families_observed_and_with_a_startup_taint(cluster: Cluster, tmp_path: Path) -> None:
    taint = "example.com/network"
    for node in cluster.nodes:
        cluster.kubectl("taint", "node", node.name, f"{taint}=:NoSchedule")
    values = {
        "ipam": {"ranges": ["10.32.0.0/12", "fd00:6784::/48"]},
        "kubernetes": {"startupTaint": taint},
        "metrics": {"enabled": True},
        "log": {"format": "json"},
        # Nobody listens there: traces that cannot be sent must do no harm.
        "otlpEndpoint": "http://127.0.0.1:4317",
        "extraEnv": [{"name": "WEAVE_TEST", "value": "given"}],
    }

    _install(cluster, tmp_path, values)
    deploy(cluster, "both", 6)
    pods = running(cluster, "both")

    assert all(len(addresses(pod)) == 2 for pod in pods)
    assert failures(cluster, pods, pods, "ping", "fetch") == []
    taints = [node["spec"].get("taints", []) for node in cluster.get("nodes")["items"]]
    assert taint not in {item["key"] for items in taints for item in items}
    page = ["/usr/bin/python3", "-c", _FETCH_METRICS]
    assert "weave_" in cluster.nodes[0].exec(*page)
    agent = agents(cluster)[0]["metadata"]["name"]
    command = ["exec", "-n", "kube-system", agent, "-c", "ipam", "--", "printenv", "WEAVE_TEST"]
    assert cluster.kubectl(*command).strip() == "given"
    assert all_ready(cluster)
    remove(cluster, "both")
    _helm_uninstall(cluster)


_FETCH_METRICS = (
    "import urllib.request as r; print(r.urlopen('http://127.0.0.1:6782/metrics').read().decode())"
)


def test_a_redis_beside_the_services_keeps_their_state(cluster: Cluster, tmp_path: Path) -> None:
    _install(cluster, tmp_path, {"store": {"type": "redis", "redis": {"image": redis_image.NAME}}})
    deploy(cluster, "kept", 6)
    pods = running(cluster, "kept")

    for node in cluster.nodes:
        # Of the node's own pid namespace.
        node.exec("pkill", "-9", "-f", "^redis-server")
    wait_ready(cluster)
    deploy(cluster, "later", 3)
    later = running(cluster, "later")

    assert failures(cluster, pods + later, pods + later, "fetch") == []
    addresses_of = [addresses(pod)[0] for pod in pods + later]
    assert len(set(addresses_of)) == len(addresses_of)
    remove(cluster, "kept")
    remove(cluster, "later")
    _helm_uninstall(cluster)
