"""`make bench`: brings up a lab, measures, prints a Markdown table and writes JSON."""

from __future__ import annotations

import argparse
import json
import platform
import sys
import tempfile
from dataclasses import asdict
from pathlib import Path

from bench import attach, processes
from bench.figures import Row, markdown
from bench.plugin import BenchError, reference, started
from weave_lab import Lab, LabError, LabSpec, Node
from weave_lab.cni import BIN_DIR, load_network

LAB = "bench"


def tell(line: str) -> None:
    """Progress goes to stderr, the table to stdout."""
    sys.stderr.write(f"{line}\n")
    sys.stderr.flush()


def measure(node: Node, samples: int, work_dir: Path) -> list[Row]:
    """All measures on one node."""
    network = load_network(node.layout.conf_dir)
    if network is None:
        raise BenchError(f"{node.layout.conf_dir} holds no conflist: the node is not ready")
    config = json.loads(network.plugin_input(0, None))
    with (
        started("weave-net", f"{BIN_DIR}/weave-net", config, BIN_DIR, node.enter()) as ours,
        reference(work_dir) as other,
    ):
        tell("ADD and DEL")
        rows = attach.latency(ours, other, samples, tell)
        tell("STATUS")
        rows += attach.status(ours, samples)
    tell("memory and cold start")
    return [*rows, *processes.memory(node), *processes.cold_start(node)]


def main() -> int:
    """Exit status 1 when a goal is missed, 2 when nothing could be measured."""
    parser = argparse.ArgumentParser(prog="bench", description=__doc__)
    parser.add_argument("--samples", type=int, default=40, help="calls of each kind (default 40)")
    parser.add_argument(
        "--json", type=Path, default=Path("build/bench.json"), help="where figures go"
    )
    arguments = parser.parse_args()
    try:
        tell("bringing up a lab")
        with (
            Lab.up(LabSpec(name=LAB, nodes=2), tell) as lab,
            tempfile.TemporaryDirectory(prefix="weave-bench.") as work_dir,
        ):
            rows = measure(lab.node("n1"), arguments.samples, Path(work_dir))
    except (BenchError, LabError) as error:
        tell(f"bench: {error}")
        return 2
    arguments.json.parent.mkdir(parents=True, exist_ok=True)
    figures = {
        "kernel": platform.release(),
        "rows": [asdict(row) | {"met": row.is_met} for row in rows],
    }
    arguments.json.write_text(json.dumps(figures, indent=2) + "\n")
    sys.stdout.write(markdown(rows) + "\n")
    return 0 if all(row.is_met for row in rows) else 1


if __name__ == "__main__":
    sys.exit(main())
