"""Memory, processor time and cold start of a node's service processes."""

from __future__ import annotations

import time
from pathlib import Path

from bench.figures import Row
from weave_lab import LabError, Node
from weave_lab.cold_start import cold_start_s
from weave_lab.services import SERVICES, Service

MEMORY_GOAL_MB = 160
EXPORTING_MEMORY_GOAL_MB = 200
IDLE_PODS = 20
IDLE_GOAL_PERCENT = 1
# Long enough for several rounds of everything that is done now and then.
IDLE_S = 40
# What was there before has nothing left to do by then: a released address rests for a minute, and
# the end of that is written down.
SETTLE_S = 65
# Nobody listens: exporters are loaded, buffer and try.
_EXPORTERS = {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:4317"}


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


def exporting_memory(node: Node, pods: int) -> list[Row]:
    """PSS together after a restart with trace and metric exporters on."""
    node.kill()
    node.start(environment=_EXPORTERS)
    node.wait_ready()
    total = sum(pss_mb(_pid(node, service)) for service in SERVICES)
    row = Row(
        f"memory with exporters on, {pods} pods (PSS together)",
        f"{total:.1f} MB",
        "",
        total,
        EXPORTING_MEMORY_GOAL_MB,
        unit=" MB",
    )
    node.kill()
    node.start()
    node.wait_ready()
    return [row]


def idle(node: Node) -> list[Row]:
    """Processor time of the services while IDLE_PODS pods do nothing."""
    time.sleep(SETTLE_S)
    before = {service.name: _processor_s(_pid(node, service)) for service in SERVICES}
    time.sleep(IDLE_S)
    used = {
        service.name: (_processor_s(_pid(node, service)) - before[service.name]) / IDLE_S * 100
        for service in SERVICES
    }
    total = sum(used.values())
    shares = ", ".join(f"{name} {share:.2f}" for name, share in used.items())
    return [
        Row(
            f"processor of all services, {len(node.pods())} idle pods",
            f"{total:.2f} % ({shares})",
            "",
            total,
            IDLE_GOAL_PERCENT,
            unit=" %",
        )
    ]


def _processor_s(pid: int) -> float:
    """Time on a processor of all threads (kernel: Documentation/scheduler/sched-stats.rst)."""
    tasks = Path(f"/proc/{pid}/task").glob("*/schedstat")
    return sum(int(task.read_text().split()[0]) for task in tasks) / 1e9


def cold_start(node: Node) -> list[Row]:
    """From the start of each process, killed before, until it serves its socket."""
    rows = []
    for service in SERVICES:
        seconds = cold_start_s(node, service)
        rows.append(
            Row(f"cold start of {service.name}", f"{seconds:.2f} s", "", seconds, unit=" s")
        )
    return rows


def _pid(node: Node, service: Service) -> int:
    process = node.service_process(service.name)
    if process is None:
        raise LabError(f"{service.name} does not run on {node.name}")
    return process.pid
