"""Memory and cold start of a node's service processes."""

from __future__ import annotations

import socket
import time
from pathlib import Path

from bench.figures import Row
from weave_lab import LabError, Node
from weave_lab.services import SERVICES, Service

MEMORY_GOAL_MB = 160


def pss_mb(pid: int) -> float:
    """Proportional set size of a process in MB (kernel: Documentation/filesystems/proc.rst)."""
    for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
        if line.startswith("Pss:"):
            return int(line.split()[1]) / 1024
    return 0.0


def memory(node: Node) -> list[Row]:
    """PSS of each service of a node, and together."""
    rows = []
    total = 0.0
    for service in SERVICES:
        size = pss_mb(_pid(node, service))
        total += size
        rows.append(Row(f"memory of {service.name} (PSS)", f"{size:.1f} MB", "", size, unit=" MB"))
    return [
        *rows,
        Row(
            "memory of a node's services (PSS together)",
            f"{total:.1f} MB",
            "",
            total,
            MEMORY_GOAL_MB,
            unit=" MB",
        ),
    ]


def cold_start(node: Node) -> list[Row]:
    """From the start of each process, killed before, until it serves its socket."""
    rows = []
    for service in SERVICES:
        node.kill(service.name)
        _wait_silent(node, service)
        begin = time.perf_counter()
        node.launch(service.name)
        node.wait_serving(service)
        elapsed_s = time.perf_counter() - begin
        rows.append(
            Row(f"cold start of {service.name}", f"{elapsed_s:.2f} s", "", elapsed_s, unit=" s")
        )
    return rows


def _wait_silent(node: Node, service: Service) -> None:
    """Until the kernel has closed the killed process' socket: its threads end one by one."""
    path = str(node.layout.run_dir / service.folder / "api.sock")
    while True:
        with socket.socket(socket.AF_UNIX) as probe:
            if probe.connect_ex(path):
                return
        time.sleep(0.01)


def _pid(node: Node, service: Service) -> int:
    process = node.service_process(service.name)
    if process is None:
        raise LabError(f"{service.name} does not run on {node.name}")
    return process.pid
