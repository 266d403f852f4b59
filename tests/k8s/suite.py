"""The suite of `make e2e`: one cluster, tests in the order of the file.

Not called test_*.py: it takes minutes, needs root, Kubernetes' programs and a built image.
"""

from __future__ import annotations

import json
import os
import signal
import time
from collections.abc import Iterator

import pytest

from tests.k8s import workload
from tests.k8s.cluster import ROOT, Cluster, KubeNode, wait
from tests.k8s.workload import Counting, Object, across, address, deploy, inside, running

CHART = str(ROOT / "charts" / "weave-net")
ARCHIVE = ROOT / "build" / "images" / "weave-net.tar"
# Of traffic while agents come and go: none is to be lost; the machine itself loses some under load.
TOLERATED = 0.001
pytestmark = pytest.mark.timeout(600)


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    made = Cluster(3)
    made.up([ARCHIVE])
    yield made
    if not os.environ.get("KEEP"):
        made.down()


def ready_nodes(cluster: Cluster) -> set[str]:
    return {
        node["metadata"]["name"]
        for node in cluster.get("nodes")["items"]
        for condition in node["status"].get("conditions", [])
        if condition["type"] == "Ready" and condition["status"] == "True"
    }


def agents(cluster: Cluster) -> list[Object]:
    pods: list[Object] = cluster.get("pods", "-n", "kube-system", "-l", "name=weave-net")["items"]
    return pods


def all_agents_ready(cluster: Cluster) -> bool:
    status = cluster.get("daemonset", "-n", "kube-system", "weave-net")["status"]
    ready = status.get("numberReady", 0) == status["desiredNumberScheduled"]
    return bool(
        ready and status.get("updatedNumberScheduled", 0) == status["desiredNumberScheduled"]
    )


def weave(cluster: Cluster, node: str, *arguments: str) -> str:
    pod = next(a for a in agents(cluster) if a["spec"].get("nodeName") == node)["metadata"]["name"]
    command = ["exec", "-n", "kube-system", pod, "-c", "cni-shim", "--", "weave", *arguments]
    return cluster.kubectl(*command)


def say(text: str) -> None:
    print(f"e2e: {text}", flush=True)


def test_nodes_wait_for_a_network(cluster: Cluster) -> None:
    assert ready_nodes(cluster) == set()


def test_install_makes_all_nodes_ready_within_30_seconds(cluster: Cluster) -> None:
    start = time.monotonic()

    cluster.helm("install", "weave-net", CHART)
    wait("all nodes are Ready", lambda: len(ready_nodes(cluster)) == 3, 120)
    seconds = time.monotonic() - start
    wait("all agents are ready", lambda: all_agents_ready(cluster))

    say(f"nodes Ready {seconds:.1f} s after helm install")
    print(cluster.kubectl("get", "pods,nodes", "-A", "-o", "wide"))
    assert seconds <= 30
    for pod in agents(cluster):
        statuses = pod["status"]["containerStatuses"]
        assert [item["name"] for item in statuses if not item["ready"]] == []


def test_the_condition_says_that_the_network_is_there(cluster: Cluster) -> None:
    for node in cluster.get("nodes")["items"]:
        found = {item["type"]: item for item in node["status"]["conditions"]}
        assert found["NetworkUnavailable"]["status"] == "False"
        assert found["NetworkUnavailable"]["reason"] == "WeaveIsUp"


def test_twelve_pods_reach_each_other(cluster: Cluster) -> None:
    deploy(cluster, "web", 12)
    pods = running(cluster, "web")
    addresses = [address(pod) for pod in pods]

    failures = [inside(cluster, pod, "fetch", *addresses) for pod in pods]

    assert len(set(addresses)) == 12
    assert {pod["spec"]["nodeName"] for pod in pods} == {"node1", "node2", "node3"}
    assert failures == [""] * 12


def test_pods_and_host_network_reach_each_other(cluster: Cluster) -> None:
    deploy(cluster, "host", 3, host_network=True)
    hosts, pods = running(cluster, "host"), running(cluster, "web")

    from_hosts = [inside(cluster, pod, "fetch", *map(address, pods)) for pod in hosts]
    from_pods = [inside(cluster, pod, "fetch", *map(address, hosts)) for pod in pods[:3]]
    cluster.kubectl("delete", "deployment", "host")

    assert (from_hosts, from_pods) == ([""] * 3, [""] * 3)


def test_helm_test_proves_traffic_across_nodes(cluster: Cluster) -> None:
    assert "Succeeded" in cluster.helm("test", "weave-net")


def test_known_lines_are_in_the_logs(cluster: Cluster) -> None:
    name = agents(cluster)[0]["metadata"]["name"]
    command = ["logs", "-n", "kube-system", name, "-c"]

    assert "Our name is" in cluster.kubectl(*command, "router")
    assert "connection fully established" in cluster.kubectl(*command, "gossip")


def test_no_packet_is_lost_when_all_agents_are_deleted(cluster: Cluster) -> None:
    before = {pod["metadata"]["uid"] for pod in agents(cluster)}
    traffic = Counting(cluster, *across(running(cluster, "web")), 40)
    cluster.kubectl("delete", "pods", "-n", "kube-system", "-l", "name=weave-net")
    wait("new agents are ready", lambda: all_agents_ready(cluster))

    result = traffic.result()

    say(f"agents deleted: {result}")
    assert before.isdisjoint(pod["metadata"]["uid"] for pod in agents(cluster))
    assert result["lost"] <= TOLERATED * result["sent"]


@pytest.mark.parametrize("module", ["weave_gossip", "weave_ipam", "weave_router", "weave_cni_shim"])
def test_no_packet_is_lost_when_a_container_is_killed(cluster: Cluster, module: str) -> None:
    source, target = across(running(cluster, "web"))
    traffic = Counting(cluster, source, target, 15)
    time.sleep(2)

    for node in cluster.nodes:
        # Process ids of the node's own namespace: nothing outside of it is found.
        for pid in node.exec("pgrep", "-f", f"^python3 -m {module}( |$)").split():
            node.exec("kill", "-9", pid)
    time.sleep(1)
    wait("all agents are ready", lambda: all_agents_ready(cluster), 120)
    result = traffic.result()

    say(f"{module} killed: {result}")
    assert result["lost"] <= TOLERATED * result["sent"]
    deploy(cluster, module.replace("_", "-"), 3)
    cluster.kubectl("delete", "deployment", module.replace("_", "-"))


def test_no_packet_is_lost_by_upgrade_and_rollback(cluster: Cluster) -> None:
    secret = cluster.get("secret", "-n", "kube-system", "weave-net-mesh")["data"]
    traffic = Counting(cluster, *across(running(cluster, "web")), 120)

    cluster.helm("upgrade", "weave-net", CHART, "--set", "log.level=debug", "--wait")
    cluster.helm("rollback", "weave-net", "1", "--wait")
    wait("all agents are ready", lambda: all_agents_ready(cluster), 120)
    result = traffic.result()

    say(f"upgrade and rollback: {result}")
    assert cluster.get("secret", "-n", "kube-system", "weave-net-mesh")["data"] == secret
    assert result["lost"] <= TOLERATED * result["sent"]


def test_without_the_api_server_pods_talk_and_new_ones_get_addresses(cluster: Cluster) -> None:
    pods = running(cluster, "web")
    remote = next(pod for pod in pods if pod["spec"]["nodeName"] == "node2")
    node = cluster.nodes[0]
    cluster.stop_api_server()
    try:
        node.exec("ip", "netns", "add", "probe")
        result = json.loads(_cni(node, "ADD"))
        fetch = ["nsenter", "--net=/run/netns/probe", "python3", "-c", workload.SCRIPT, "fetch"]
        failures = node.exec(*fetch, address(remote))
        _cni(node, "DEL")
        node.exec("ip", "netns", "del", "probe")
    finally:
        cluster.start_api_server()

    assert len(result["ips"]) == 1
    assert failures == ""


def test_the_space_of_a_deleted_node_returns_within_60_seconds(cluster: Cluster) -> None:
    gone = cluster.nodes[2]
    os.kill(int((gone.folder / "pid").read_text()), signal.SIGKILL)

    cluster.kubectl("delete", "node", gone.name)
    seconds = wait("nobody owns space as node3", lambda: "node3" not in _ring(cluster), 90)

    say(f"space of a deleted node returned after {seconds:.0f} s\n{_ring(cluster)}")
    assert seconds <= 60
    assert (
        sum(int(line.split()[1]) for line in _ring(cluster).splitlines() if " IPs " in line)
        == 1 << 20
    )


def test_uninstall_leaves_nothing(cluster: Cluster) -> None:
    left = cluster.nodes[:2]
    cluster.kubectl("delete", "deployment", "--all")
    wait("pods are gone", lambda: not cluster.get("pods")["items"])

    cluster.helm("uninstall", "weave-net", "--wait")
    wait("agents are gone", lambda: not agents(cluster))

    for node in left:
        assert node.exec("sh", "-c", "ls /etc/cni/net.d").split() == []
        assert "weave" not in node.exec("ls", "/opt/cni/bin")
        links = node.exec("ip", "-o", "link")
        assert [name for name in ("weave", "vxlan", "vethwe") if name in links] == []
        assert "weave" not in node.exec("nft", "list", "tables")
        assert node.exec("ip", "rule", "list", "pref", "6784") == ""
        assert node.exec("sh", "-c", "ip route show table all proto 84") == ""
    maps = cluster.get("configmaps", "-n", "kube-system")["items"]
    assert "weave-net" not in [item["metadata"]["name"] for item in maps]
    wait("nodes are not Ready any more", lambda: ready_nodes(cluster) == set(), 60)


def _ring(cluster: Cluster) -> str:
    return weave(cluster, "node1", "status", "ipam")


def _cni(node: KubeNode, command: str) -> str:
    script = (
        'plugin=$(python3 -c \'import json;c=json.load(open("/etc/cni/net.d/10-weave.conflist"));'
        'p=c["plugins"][0];p.update(cniVersion=c["cniVersion"],name=c["name"]);print(json.dumps(p))\');'
        f'echo "$plugin" | CNI_COMMAND={command} CNI_CONTAINERID=probe CNI_NETNS=/run/netns/probe'
        " CNI_IFNAME=eth0 CNI_PATH=/opt/cni/bin /opt/cni/bin/weave-net"
    )
    return node.exec("sh", "-c", script)
