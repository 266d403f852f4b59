"""`make bench`: brings up a lab, measures, prints a Markdown table and writes JSON."""

from __future__ import annotations

import argparse
import json
import os
import platform
import sys
import tempfile
from dataclasses import asdict
from pathlib import Path

from bench import attach, handmade, path_cost, processes, routes, steps, throughput
from bench.figures import Row, markdown
from bench.plugin import BenchError, Plugin, reference, started
from bench.throughput import Way
from weave_cli.node import Node as Services
from weave_lab import Lab, LabError, LabSpec
from weave_lab.cni import BIN_DIR, load_network

LAB = "bench"


def tell(line: str) -> None:
    """Progress goes to stderr, the table to stdout."""
    sys.stderr.write(f"{line}\n")
    sys.stderr.flush()


def measure(lab: Lab, samples: int, rounds: int, work_dir: Path) -> list[Row]:
    """All measures, on the first node, and to the second one."""
    node = lab.node("n1")
    network = load_network(node.layout.conf_dir)
    if network is None:
        raise BenchError(f"{node.layout.conf_dir} holds no conflist: the node is not ready")
    config = json.loads(network.plugin_input(0, None))
    executable = f"{BIN_DIR}/weave-net"
    elsewhere = lab.node("n2").enter()
    with (
        started("weave-net", executable, config, BIN_DIR, node.enter()) as ours,
        started("weave-net on n2", executable, config, BIN_DIR, elsewhere) as ours_elsewhere,
        reference(work_dir, handmade.MTU) as other,
    ):
        tell("ADD and DEL")
        rows = attach.latency(ours, other, samples, tell)
        tell("STATUS")
        rows += attach.status(ours, samples)
        tell("steps of an ADD")
        with Services(node.layout.run_dir) as services:
            rows += steps.rows(ours, services, samples)
        tell(f"{attach.PARALLEL} ADDs at once")
        rows += attach.parallel(ours, other, rounds)
        tell(f"{attach.CROWD} pods")
        rows += attach.crowded(ours, ours_elsewhere, samples)
        rows += throughput_rows(lab, other, rounds)
    tell(f"{routes.ROUTES} routes")
    rows += routes.rows()
    # The other node: this one still has the addresses of hundreds of pods in quarantine.
    tell(f"{processes.IDLE_PODS} idle pods for {processes.IDLE_S} s")
    for place in lab.nodes():
        for number in range(len(place.pods()), processes.IDLE_PODS):
            place.add_pod(f"idle{number}")
    rows += processes.idle(lab.node("n2"))
    tell("memory and cold start")
    # Pages that the other node's services share would count by half only.
    lab.node("n2").kill()
    rows += processes.memory(node)
    rows += processes.exporting_memory(node, processes.IDLE_PODS)
    return [*rows, *processes.cold_start(node)]


def throughput_rows(lab: Lab, other: Plugin, rounds: int) -> list[Row]:
    """TCP between nodes and on one node, beside the kernel's own and the reference bridge."""
    server, near = (lab.node("n1").add_pod(name) for name in ("server", "near"))
    far = lab.node("n2").add_pod("far")
    handmade.make_bare(lab.layout.wire_netns)
    tell("TCP between nodes")
    with handmade.vxlan() as by_hand:
        mine = Way("weave-net", server.enter(), far.enter(), server.address)
        rows = throughput.compare("TCP between nodes", mine, by_hand, rounds, tell)
    tell("TCP on one node")
    with attach.sandboxes(other, 2, "tcp") as names:
        results = {name: other.call("ADD", name)[1] for name in names}
        address = results[names[0]]["ips"][0]["address"].partition("/")[0]
        ends = [[*other.enter, "ip", "netns", "exec", name] for name in names]
        theirs = Way("reference bridge", ends[0], ends[1], address)
        mine = Way("weave-net", server.enter(), near.enter(), server.address)
        rows += throughput.compare("TCP on one node", mine, theirs, rounds, tell)
        for name, result in results.items():
            other.call("DEL", name, result)
    return rows


def main() -> int:
    """Exit status 1 when a goal is missed, 2 when nothing could be measured."""
    parser = argparse.ArgumentParser(prog="bench", description=__doc__)
    parser.add_argument("--samples", type=int, default=40, help="calls of each kind (default 40)")
    parser.add_argument("--rounds", type=int, default=5, help="of each load (default 5)")
    parser.add_argument(
        "--json", type=Path, default=Path("build/bench.json"), help="where figures go"
    )
    parser.add_argument(
        "--path", action="store_true", help="only what the parts of a packet's path cost"
    )
    arguments = parser.parse_args()
    try:
        tell("bringing up a lab")
        with (
            Lab.up(LabSpec(name=LAB, nodes=2), tell) as lab,
            tempfile.TemporaryDirectory(prefix="weave-bench.") as work_dir,
        ):
            if arguments.path:
                sys.stdout.write(path_cost.table(lab, arguments.rounds, tell) + "\n")
                return 0
            rows = measure(lab, arguments.samples, arguments.rounds, Path(work_dir))
    except (BenchError, LabError) as error:
        tell(f"bench: {error}")
        return 2
    arguments.json.parent.mkdir(parents=True, exist_ok=True)
    figures = {
        "kernel": platform.release(),
        "load_average": os.getloadavg(),
        "rows": [asdict(row) | {"met": row.is_met} for row in rows],
    }
    arguments.json.write_text(json.dumps(figures, indent=2) + "\n")
    sys.stdout.write(markdown(rows) + "\n")
    return 0 if all(row.is_met for row in rows) else 1


if __name__ == "__main__":
    sys.exit(main())
