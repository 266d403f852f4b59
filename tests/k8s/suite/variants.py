"""Installs with other values than the defaults, each of them used and taken away again."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import yaml

from tests.k8s import redis_image
from tests.k8s.agents import CHART, agents, all_ready, wait_ready
from tests.k8s.cluster import HOST, ROOT, Cluster, wait
from tests.k8s.elsewhere import RedisElsewhere
from tests.k8s.monitoring import FETCH, pod_monitors, scraped
from tests.k8s.residue import clean_helm_uninstall
from tests.k8s.workload import addresses, deploy, failures, remove, running
from tests.otlp import Received, collecting, whole_add

# Router, gossip and ipam.
METRICS_OF_LOOPBACK = (6784, 6786, 6787)


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
    agent = agents(cluster)[0]["metadata"]["name"]
    command = ["-n", "kube-system", agent, "-c", "ipam"]
    printed = cluster.kubectl("exec", *command, "--", "printenv", "WEAVE_TEST")
    assert printed.strip() == "given"
    assert all(json.loads(line) for line in cluster.kubectl("logs", *command).splitlines())
    assert all_ready(cluster)
    remove(cluster, "both")
    clean_helm_uninstall(cluster)


def test_what_is_observed_arrives_where_the_values_say(cluster: Cluster, tmp_path: Path) -> None:
    spans: list[Received] = []
    values = {
        "metrics": {"enabled": True, "podMonitor": {"enabled": True, "interval": "10s"}},
        "otlpEndpoint": f"http://{HOST}:4317",
    }

    with pod_monitors(cluster):
        with collecting(f"{HOST}:4317", spans.append):
            _install(cluster, tmp_path, values)
            deploy(cluster, "seen", 3)
            wait("all spans of an ADD have arrived", lambda: whole_add(list(spans)), 30)

        pages = scraped(cluster)
        assert set(pages) == {node.name for node in cluster.nodes}
        assert all("weave_connections" in page for page in pages.values())
        for node in cluster.nodes:
            for port in METRICS_OF_LOOPBACK:
                url = f"http://127.0.0.1:{port}/metrics"
                page = node.exec("/usr/bin/python3", "-c", FETCH, url)
                assert "# TYPE weave_" in page, (node.name, port)
        remove(cluster, "seen")
        clean_helm_uninstall(cluster)


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
    clean_helm_uninstall(cluster)


def test_one_redis_elsewhere_keeps_the_state_of_all_nodes(cluster: Cluster, tmp_path: Path) -> None:
    """Its address holds a password, and comes from a Secret."""
    with RedisElsewhere(tmp_path) as redis:
        secret = ["secret", "-n", "kube-system", "generic", "state"]
        cluster.kubectl("create", *secret, f"--from-literal=url={redis.url}")
        _install(
            cluster, tmp_path, {"store": {"type": "redis", "redis": {"existingSecret": "state"}}}
        )
        deploy(cluster, "kept", 6)
        pods = running(cluster, "kept")
        shown = cluster.kubectl("get", "daemonset,pods", "-n", "kube-system", "-o", "yaml")

        cluster.kubectl("rollout", "restart", "-n", "kube-system", "daemonset/weave-net")
        wait("all agents have found their state", lambda: all_ready(cluster), 240)
        deploy(cluster, "later", 3)
        later = running(cluster, "later")

        assert redis.password not in shown
        owners = [key.split(":")[1] for key in redis.names()]
        assert sorted(owners) == sorted(["gossip", "ipam", "router"] * len(cluster.nodes))
        assert failures(cluster, pods + later, pods + later, "fetch") == []
        remove(cluster, "kept")
        remove(cluster, "later")
        clean_helm_uninstall(cluster)
        assert redis.names() == []
    cluster.kubectl("delete", "secret", "-n", "kube-system", "state")
