"""What the suite measures: said at once, and all of it at the end of the run."""

from __future__ import annotations

import json
from typing import Any

from tests.k8s.agents import agents
from tests.k8s.cluster import Cluster

noted: list[tuple[str, str]] = []


def note(what: str, value: str) -> None:
    """Keeps a figure for the end."""
    noted.append((what, value))
    print(f"e2e: {what}: {value}", flush=True)


def note_memory(cluster: Cluster) -> None:
    """Memory per container of the agents, as the kubelets report it: least to most."""
    usage: dict[str, list[int]] = {}
    for node in cluster.nodes:
        for name, used in _containers(cluster, node.name):
            usage.setdefault(name, []).append(used)
    for name, values in sorted(usage.items()):
        least, most = min(values) / 1e6, max(values) / 1e6
        note(f"working set of {name}", f"{least:.0f} to {most:.0f} MB")
    total = sum(max(values) for values in usage.values())
    note("working set of an agent, at most", f"{total / 1e6:.0f} MB")


def _containers(cluster: Cluster, node: str) -> list[tuple[str, int]]:
    path = f"/api/v1/nodes/{node}/proxy/stats/summary"
    names = {agent["metadata"]["name"] for agent in agents(cluster)}
    found: Any = json.loads(cluster.kubectl("get", "--raw", path))
    return [
        (container["name"], int(container["memory"]["workingSetBytes"]))
        for pod in found["pods"]
        if pod["podRef"]["name"] in names
        for container in pod["containers"]
        if "workingSetBytes" in container.get("memory", {})
    ]
