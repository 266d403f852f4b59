"""The API server goes away and comes back.

What would happen within an hour is made to happen within minutes: the watches break, the agents'
retries back off to their longest pause, every service is started anew. The hour itself, in virtual
time, and that the token expires meanwhile are tests of gossip (services/gossip/tests/kubernetes).
"""

from __future__ import annotations

import json
import time

from tests.k8s import figures
from tests.k8s.agents import all_ready, weave
from tests.k8s.cluster import Cluster, KubeNode, wait
from tests.k8s.suite.disruption import MODULES, lossless
from tests.k8s.workload import (
    SCRIPT,
    Counting,
    Object,
    across,
    address,
    netns_of,
    node_of,
    running,
    server_pod,
)

# Longer than a watch lasts, and several times the longest pause between two tries.
OUTAGE_S = 250.0
_ASK_READY = (
    "import urllib.request as r\n"
    "for port in (6784, 6786, 6787, 6788): r.urlopen(f'http://127.0.0.1:{port}/readyz', timeout=3)"
)


def test_without_the_api_server_pods_talk_and_new_ones_get_addresses(cluster: Cluster) -> None:
    source, target = across(running(cluster, "web"))
    # Asked for as long as there is somebody to ask.
    inside = node_of(cluster, target), netns_of(node_of(cluster, target), address(target))
    node = node_of(cluster, source)
    with Counting(cluster, source, target) as traffic:
        cluster.stop_api_server()
        start = time.monotonic()
        try:
            first = _start_static_pod(node, "first", inside)
            for module in MODULES:
                for pid in node.exec("pgrep", "-f", f"^python3 -m {module}( |$)").split():
                    node.exec("kill", "-9", pid)
            again = wait("all services are ready again", lambda: _is_ready(node), 60)
            second = _start_static_pod(node, "second", inside)
            time.sleep(max(0.0, OUTAGE_S - (time.monotonic() - start)))
            unreached = _fetch(inside, first, second)
        finally:
            cluster.start_api_server()
            _remove_static_pods(node)
        away = time.monotonic() - start
        result = traffic.result()

    figures.note("all services ready again without API server", f"{again:.1f} s")
    assert first != second
    assert unreached == ""
    lossless(f"API server away for {away:.0f} s", result)


def test_agents_follow_the_api_server_as_soon_as_it_is_back(cluster: Cluster) -> None:
    node: Object = {"apiVersion": "v1", "kind": "Node", "metadata": {"name": "promised"}}
    cluster.kubectl("apply", "-f", "-", stdin=json.dumps(node))
    status = {"status": {"addresses": [{"type": "InternalIP", "address": "10.98.0.77"}]}}
    patch = ["patch", "node", "promised", "--subresource=status", "--type=merge"]
    cluster.kubectl(*patch, "-p", json.dumps(status))

    for each in cluster.nodes:
        wait(
            f"{each.name} knows of the new node",
            lambda each=each: "10.98.0.77" in weave(cluster, each, "status", "targets"),  # type: ignore[misc]
        )
    cluster.kubectl("delete", "node", "promised")
    for each in cluster.nodes:
        wait(
            f"{each.name} knows that it is gone",
            lambda each=each: "10.98.0.77" not in weave(cluster, each, "status", "targets"),  # type: ignore[misc]
        )
    wait("all agents are ready", lambda: all_ready(cluster), 120)


def _start_static_pod(node: KubeNode, name: str, client: tuple[KubeNode, str]) -> str:
    """A pod that the kubelet makes by itself; its address, once it answers."""
    before = set(_pod_addresses(node))
    spec = server_pod()
    # Without it the kubelet waits until it has seen all Services.
    spec["enableServiceLinks"] = False
    pod = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name}, "spec": spec}
    (node.folder / "manifests" / f"{name}.json").write_text(json.dumps(pod))
    wait(f"{name} has an address", lambda: set(_pod_addresses(node)) - before, 90)
    (new,) = set(_pod_addresses(node)) - before
    wait(f"{name} answers", lambda: _fetch(client, new) == "", 60)
    return new


def _remove_static_pods(node: KubeNode) -> None:
    before = len(_pod_addresses(node))
    manifests = list((node.folder / "manifests").iterdir())
    for path in manifests:
        path.unlink()
    wait("static pods are gone", lambda: len(_pod_addresses(node)) <= before - len(manifests), 90)


def _pod_addresses(node: KubeNode) -> list[str]:
    script = "for name in $(ls /run/netns); do ip -n $name -j -4 addr show eth0 2>/dev/null; done"
    found = []
    for line in node.exec("sh", "-c", f"{script}; true").splitlines():
        for link in json.loads(line):
            found += [entry["local"] for entry in link.get("addr_info", [])]
    return found


def _fetch(client: tuple[KubeNode, str], *addresses: str) -> str:
    node, netns = client
    python = ["nsenter", f"--net={netns}", "/usr/bin/python3", "-c", SCRIPT]
    return node.exec(*python, "fetch", *addresses)


def _is_ready(node: KubeNode) -> bool:
    asked = ["/usr/bin/python3", "-c", f"{_ASK_READY}\nprint('yes')"]
    return node.exec(*asked, check=False) == "yes\n"
