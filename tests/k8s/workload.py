"""Pods of the tests: servers spread over the nodes, what runs inside them, traffic between them."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any, Self

from tests.k8s.cluster import Cluster, KubeNode, wait

SCRIPT = Path(__file__).with_name("traffic.py").read_text()
IMAGE = "weave-net:0.1.0"
Object = dict[str, Any]


def server_pod(*, host_network: bool = False) -> Object:
    """The spec of a pod that serves, and that may send echo requests."""
    spec: Object = {
        "terminationGracePeriodSeconds": 1,
        "hostNetwork": host_network,
        "containers": [
            {"name": "main", "image": IMAGE, "command": ["python3", "-c", SCRIPT, "serve"]}
        ],
    }
    if not host_network:
        allowed = {"name": "net.ipv4.ping_group_range", "value": "0 2147483647"}
        spec["securityContext"] = {"sysctls": [allowed]}
    return spec


def deploy(cluster: Cluster, name: str, replicas: int, *, host_network: bool = False) -> float:
    """Creates servers, as evenly spread as can be; seconds until all of them run."""
    pod = server_pod(host_network=host_network)
    pod["topologySpreadConstraints"] = [
        {
            "maxSkew": 1,
            "topologyKey": "kubernetes.io/hostname",
            "whenUnsatisfiable": "DoNotSchedule",
            "labelSelector": {"matchLabels": {"app": name}},
        }
    ]
    deployment = {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": name},
        "spec": {
            "replicas": replicas,
            "selector": {"matchLabels": {"app": name}},
            "template": {"metadata": {"labels": {"app": name}}, "spec": pod},
        },
    }
    cluster.kubectl("apply", "-f", "-", stdin=json.dumps(deployment))
    what = f"{replicas} pods of {name} run"
    return wait(what, lambda: len(running(cluster, name)) == replicas, 120)


def remove(cluster: Cluster, name: str) -> None:
    """Deletes a deployment and waits until its pods are gone."""
    cluster.kubectl("delete", "deployment", name)
    what = f"pods of {name} are gone"
    wait(what, lambda: not cluster.get("pods", "-l", f"app={name}")["items"])


def running(cluster: Cluster, name: str) -> list[Object]:
    """Pods of a deployment that are ready."""
    pods = cluster.get("pods", "-l", f"app={name}")["items"]
    return [pod for pod in pods if is_ready(pod)]


def is_ready(pod: Object) -> bool:
    """Is it Ready, and not about to go?"""
    conditions = (pod.get("status") or {}).get("conditions") or []
    return "deletionTimestamp" not in pod["metadata"] and any(
        item["type"] == "Ready" and item["status"] == "True" for item in conditions
    )


def address(pod: Object) -> str:
    """The pod's first address."""
    return str(pod["status"]["podIP"])


def addresses(pod: Object) -> list[str]:
    """All addresses of the pod, one per family."""
    return [str(entry["ip"]) for entry in pod["status"]["podIPs"]]


def inside(cluster: Cluster, pod: Object, *arguments: str) -> str:
    """Runs the script in a pod, to its end."""
    name = pod["metadata"]["name"]
    return cluster.kubectl("exec", name, "--", "python3", "-c", SCRIPT, *arguments)


def failures(
    cluster: Cluster, sources: list[Object], targets: list[Object], *how: str
) -> list[str]:
    """What does not get from each to each, by `ping`, `fetch` or both."""
    wanted = [each for pod in targets for each in addresses(pod)]
    said = [inside(cluster, pod, verb, *wanted) for pod in sources for verb in how]
    return [line for text in said for line in text.splitlines()]


def node_of(cluster: Cluster, pod: Object) -> KubeNode:
    """Where it runs."""
    return next(node for node in cluster.nodes if node.name == pod["spec"]["nodeName"])


def netns_of(node: KubeNode, pod_address: str) -> str:
    """Path, in the node's own mounts, of the network namespace that holds an address."""
    found = node.exec("sh", "-c", _FIND_NETNS, "find", pod_address).split()
    if len(found) != 1:
        raise LookupError(f"{pod_address} is in {found or 'no namespace'} of {node.name}")
    return f"/run/netns/{found[0]}"


_FIND_NETNS = """
for name in $(ls /run/netns); do
  ip -n $name -o addr show 2>/dev/null | grep -q " $1/" && echo $name
done
true
"""


class Counting:
    """A thousand echo requests a second between two pods while something happens.

    They are sent in the network namespace of the source, so that neither the API server nor a
    kubelet is needed, and answered by the target's kernel: what is lost, the network has lost.
    """

    def __init__(self, cluster: Cluster, source: Object, target: Object) -> None:
        node = node_of(cluster, source)
        netns = netns_of(node, address(source))
        command = [*node.enter(), "nsenter", f"--net={netns}", "/usr/bin/python3", "-c", SCRIPT]
        self._process = subprocess.Popen(
            [*command, "count", address(target)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        """Ends it where nobody has asked for the result."""
        if self._process.poll() is None:
            self._process.kill()
            self._process.communicate()

    def result(self) -> Object:
        """Ends it: `sent`, `lost`, `refused` by the sender's kernel, `longest_gap_s`."""
        output, _ = self._process.communicate(timeout=60)
        found: Object = json.loads(output)
        return found


def across(pods: list[Object]) -> tuple[Object, Object]:
    """Two pods of different nodes."""
    first = pods[0]
    other = next(p for p in pods if p["spec"]["nodeName"] != first["spec"]["nodeName"])
    return first, other


def tag_image(cluster: Cluster, name: str) -> None:
    """Gives the image a second name on every node."""
    for node in cluster.nodes:
        existing = ("docker.io/library/" + IMAGE, f"docker.io/library/{name}")
        node.exec("ctr", "-n", "k8s.io", "images", "tag", "--force", *existing)
