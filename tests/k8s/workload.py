"""Pods of the tests: servers spread over the nodes, and what runs inside them."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

from tests.k8s.binaries import find
from tests.k8s.cluster import Cluster, wait

SCRIPT = Path(__file__).with_name("traffic.py").read_text()
IMAGE = "weave-net:0.1.0"
Object = dict[str, Any]


def deploy(cluster: Cluster, name: str, replicas: int, *, host_network: bool = False) -> None:
    """Creates servers, as evenly spread as can be, and waits until they run."""
    pod: Object = {
        "terminationGracePeriodSeconds": 1,
        "hostNetwork": host_network,
        "topologySpreadConstraints": [
            {
                "maxSkew": 1,
                "topologyKey": "kubernetes.io/hostname",
                "whenUnsatisfiable": "DoNotSchedule",
                "labelSelector": {"matchLabels": {"app": name}},
            }
        ],
        "containers": [
            {"name": "main", "image": IMAGE, "command": ["python3", "-c", SCRIPT, "serve"]}
        ],
    }
    template = {"metadata": {"labels": {"app": name}}, "spec": pod}
    deployment = {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": name},
        "spec": {
            "replicas": replicas,
            "selector": {"matchLabels": {"app": name}},
            "template": template,
        },
    }
    cluster.kubectl("apply", "-f", "-", stdin=json.dumps(deployment))
    wait(f"{replicas} pods of {name} run", lambda: len(running(cluster, name)) == replicas, 120)


def running(cluster: Cluster, name: str) -> list[Object]:
    """Pods of a deployment that are ready."""
    pods = cluster.get("pods", "-l", f"app={name}")["items"]
    return [pod for pod in pods if _is_ready(pod)]


def _is_ready(pod: Object) -> bool:
    conditions = (pod.get("status") or {}).get("conditions") or []
    return "deletionTimestamp" not in pod["metadata"] and any(
        item["type"] == "Ready" and item["status"] == "True" for item in conditions
    )


def address(pod: Object) -> str:
    """The pod's address."""
    return str(pod["status"]["podIP"])


def inside(cluster: Cluster, pod: Object, *arguments: str) -> str:
    """Runs the script in a pod, to its end."""
    name = pod["metadata"]["name"]
    return cluster.kubectl("exec", name, "--", "python3", "-c", SCRIPT, *arguments)


class Counting:
    """Traffic between two pods while something happens; `result` waits for its end."""

    def __init__(self, cluster: Cluster, source: Object, target: Object, seconds: float) -> None:
        command = [str(find("kubectl")), "--kubeconfig", str(cluster.kubeconfig), "exec"]
        command += [source["metadata"]["name"], "--", "python3", "-c", SCRIPT]
        command += ["count", address(target), str(seconds)]
        self._process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)

    def result(self) -> dict[str, float]:
        """`sent`, `lost`, `longest_gap_s`."""
        output, _ = self._process.communicate(timeout=300)
        found: dict[str, float] = json.loads(output)
        return found


def across(pods: list[Object]) -> tuple[Object, Object]:
    """Two pods of different nodes."""
    first = pods[0]
    other = next(p for p in pods if p["spec"]["nodeName"] != first["spec"]["nodeName"])
    return first, other
