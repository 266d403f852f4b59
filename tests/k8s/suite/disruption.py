"""Agents come and go; the packets of running pods do not notice."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from tests.k8s import figures
from tests.k8s.agents import CHART, agents, all_ready
from tests.k8s.cluster import ROOT, Cluster, wait
from tests.k8s.workload import (
    IMAGE,
    Counting,
    Object,
    across,
    deploy,
    remove,
    running,
    tag_image,
)

MODULES = ["weave_gossip", "weave_ipam", "weave_router", "weave_cni_shim"]
NEXT = "0.2.0"


def lossless(what: str, result: Object) -> None:
    """Says what was counted, and that nothing is missing."""
    shown = f"{result['lost']} of {result['sent']} lost, gap {result['longest_gap_s']} s at most"
    figures.note(what, shown)
    assert result["sent"] > 1000
    assert (result["lost"], result["refused"]) == (0, 0), result


def test_no_packet_is_lost_when_all_agents_are_deleted(cluster: Cluster) -> None:
    before = {pod["metadata"]["uid"] for pod in agents(cluster)}
    with Counting(cluster, *across(running(cluster, "web"))) as traffic:
        cluster.kubectl("delete", "pods", "-n", "kube-system", "-l", "name=weave-net")
        wait("new agents are ready", lambda: all_ready(cluster), 120)
        result = traffic.result()

    assert before.isdisjoint(pod["metadata"]["uid"] for pod in agents(cluster))
    lossless("all agents deleted", result)


@pytest.mark.parametrize("module", MODULES)
def test_no_packet_is_lost_when_a_container_is_killed(cluster: Cluster, module: str) -> None:
    container = module.removeprefix("weave_").replace("_", "-")
    before = _restarts(cluster, container)
    with Counting(cluster, *across(running(cluster, "web"))) as traffic:
        for node in cluster.nodes:
            # Process ids of the node's own namespace: nothing outside of it is found.
            for pid in node.exec("pgrep", "-f", f"^python3 -m {module}( |$)").split():
                node.exec("kill", "-9", pid)
        wait("each is started again", lambda: _restarts(cluster, container) >= before + 3, 120)
        wait("all agents are ready", lambda: all_ready(cluster), 120)
        # New pods get addresses from what has just come back.
        deploy(cluster, f"after-{container}", 3)
        result = traffic.result()
    remove(cluster, f"after-{container}")

    lossless(f"kill -9 of every {container}", result)


def _restarts(cluster: Cluster, container: str) -> int:
    return sum(
        int(status["restartCount"])
        for pod in agents(cluster)
        for status in pod["status"]["containerStatuses"]
        if status["name"] == container
    )


def test_no_packet_is_lost_by_a_rolling_update(cluster: Cluster) -> None:
    before = {pod["metadata"]["uid"] for pod in agents(cluster)}
    with Counting(cluster, *across(running(cluster, "web"))) as traffic:
        start = time.monotonic()

        cluster.kubectl("rollout", "restart", "-n", "kube-system", "daemonset/weave-net")
        wait("the update is through", lambda: all_ready(cluster), 240)
        seconds = time.monotonic() - start
        result = traffic.result()

    figures.note("rolling update of three nodes", f"{seconds:.0f} s")
    assert before.isdisjoint(pod["metadata"]["uid"] for pod in agents(cluster))
    lossless("rolling update", result)


def test_no_packet_is_lost_by_upgrade_and_rollback(cluster: Cluster, tmp_path: Path) -> None:
    secret = cluster.get("secret", "-n", "kube-system", "weave-net-mesh")["data"]
    name = IMAGE.partition(":")[0]
    tag_image(cluster, f"{name}:{NEXT}")
    versions = ["--version", NEXT, "--app-version", NEXT]
    cluster.helm("package", str(ROOT / CHART), *versions, "-d", str(tmp_path))
    with Counting(cluster, *across(running(cluster, "web"))) as traffic:
        cluster.helm("upgrade", "weave-net", str(tmp_path / f"weave-net-{NEXT}.tgz"))
        wait("the upgrade is through", lambda: _images(cluster) == {f"{name}:{NEXT}"}, 240)
        upgraded = cluster.helm("list", "-o", "json")
        cluster.helm("rollback", "weave-net", "1")
        wait("the rollback is through", lambda: _images(cluster) == {IMAGE}, 240)
        result = traffic.result()

    assert f"weave-net-{NEXT}" in upgraded
    assert cluster.get("secret", "-n", "kube-system", "weave-net-mesh")["data"] == secret
    lossless("upgrade to the next chart, and back", result)


def _images(cluster: Cluster) -> set[str]:
    """Of all agents; none before all of them are ready."""
    if not all_ready(cluster):
        return set()
    return {item["image"] for pod in agents(cluster) for item in pod["spec"]["containers"]}
