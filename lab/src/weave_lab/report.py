"""The state of a lab, for people and for programs."""

from __future__ import annotations

from typing import Any

from weave_lab.lab import Lab
from weave_lab.node import Node
from weave_lab.services import SERVICES


def facts(lab: Lab) -> dict[str, Any]:
    """Everything `weave-lab status --json` prints."""
    return {
        "name": lab.name,
        "nodes": [_node_facts(node) for node in lab.nodes()],
        "cuts": [list(pair) for pair in lab.cuts()],
    }


def text(facts: dict[str, Any]) -> str:
    """The same for people."""
    lines = [f"lab {facts['name']}"]
    for node in facts["nodes"]:
        state = "ready" if node["ready"] else f"not ready: {node['reason']}"
        lines.append(f"{node['name']}  {node['address']}  {state}")
        lines += [_service_line(name, value) for name, value in node["services"].items()]
        lines += [f"    pod {pod['name']:<17} {' '.join(pod['addresses'])}" for pod in node["pods"]]
        lines.append(f"    sockets: {node['run_dir']}")
    lines += [f"cut: {one} | {other}" for one, other in facts["cuts"]]
    return "\n".join(lines)


def _node_facts(node: Node) -> dict[str, Any]:
    reason = node.not_ready_reason()
    return {
        "name": node.name,
        "address": node.address,
        "address6": node.layout.address6,
        "run_dir": str(node.layout.run_dir),
        "ready": reason is None,
        "reason": reason or "",
        "services": {service.name: _service_facts(node, service.name) for service in SERVICES},
        "pods": [{"name": pod.name, "addresses": pod.addresses} for pod in node.pods()],
    }


def _service_facts(node: Node, name: str) -> dict[str, Any] | None:
    record = node.service_process(name)
    if record is None:
        return None
    return {
        "pid": record.pid,
        "uptime_s": round(record.uptime_s, 1),
        "pss_kib": record.memory_kib,
    }


def _service_line(name: str, value: dict[str, Any] | None) -> str:
    if value is None:
        return f"    {name:<21} down"
    facts = f"up {value['uptime_s']:.0f} s, pid {value['pid']}, {value['pss_kib'] >> 10} MiB"
    return f"    {name:<21} {facts}"
