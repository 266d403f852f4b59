"""The scenario table at a thousand peers: `python -m tests.sim.scale --seed 1234 --seeds 3`; exits
1 on a missed row.

One mesh is formed per seed; each scenario then runs in a forked copy of it.
"""

from __future__ import annotations

import argparse
import gc
import multiprocessing
import sys
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from multiprocessing.connection import Connection
from typing import ParamSpec

from tests.sim.memory import core_megabytes
from tests.sim.scenarios import SCENARIOS, Row, form

P = ParamSpec("P")


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="tests.sim.scale", description=__doc__)
    parser.add_argument("--seed", type=int, default=1234, help="the first seed")
    parser.add_argument("--seeds", type=int, default=1, help="how many from there on")
    parser.add_argument("--peers", type=int, default=1000)
    parser.add_argument("--only", help="scenarios whose name contains this")
    parser.add_argument("--workers", type=int, default=2, help="seeds at a time; 6 GB each")
    options = parser.parse_args(arguments)
    started = time.monotonic()
    failed = []
    seeds = range(options.seed, options.seed + options.seeds)
    # Processes of their own, not of a pool's: those may not fork scenarios in turn.
    with ThreadPoolExecutor(options.workers) as pool:
        runs = {
            seed: pool.submit(_in_process, run_seed, seed, options.peers, options.only or "")
            for seed in seeds
        }
        for seed, run in runs.items():
            rows = run.result()
            print(f"\nseed {seed}, {options.peers} peers\n{format_table(rows)}", flush=True)
            if not all(row.passed for row in rows):
                failed.append(seed)
    took = time.monotonic() - started
    print(f"\n{len(seeds) - len(failed)} of {len(seeds)} seeds reached all rows in {took:.0f} s")
    for seed in failed:
        print(f"missed; replay: make sim-scale SEED={seed} SEEDS=1")
    return 1 if failed else 0


def run_seed(seed: int, peers: int, only: str = "") -> list[Row]:
    """All rows of one seed."""
    # Cores hold no cycles worth collecting, and looking for them in a million objects takes long.
    gc.disable()
    started = time.perf_counter()
    cluster, join = form(seed, peers)
    rows = [Row(f"{peers} peers join at once: converged", "<= 30 s", f"{join:.1f} s", join <= 30)]
    _tell(seed, rows[0], started)
    cluster.run(30)
    gc.freeze()
    for scenario in SCENARIOS:
        if only in scenario.__name__:
            started = time.perf_counter()
            for row in _in_process(scenario, cluster):
                rows.append(row)
                _tell(seed, row, started)
    if "memory" in only or not only:
        used = core_megabytes(peers)
        found = f"{used:.1f} MB"
        rows.append(
            Row(f"memory of one core that knows {peers} peers", "<= 30 MB", found, used <= 30)
        )
    return rows


def format_table(rows: list[Row]) -> str:
    """As kept in docs/."""
    lines = ["| scenario | must reach | reached | |", "|---|---|---|---|"]
    for row in rows:
        mark = "" if row.passed else "**missed**"
        lines.append(f"| {row.scenario} | {row.must} | {row.found} | {mark} |")
    return "\n".join(lines)


def _tell(seed: int, row: Row, started: float) -> None:
    took = time.perf_counter() - started
    line = f"  seed {seed}: {row.scenario}: {row.found} ({took:.0f} s)"
    print(line, file=sys.stderr, flush=True)


def _in_process(measure: Callable[P, list[Row]], *arguments: P.args, **_: P.kwargs) -> list[Row]:
    """Measures in a forked process, so that the next scenario finds the mesh as it was."""
    context = multiprocessing.get_context("fork")
    receiver, sender = context.Pipe(duplex=False)
    process = context.Process(target=_send, args=(sender, measure, arguments))
    process.start()
    sender.close()
    try:
        rows: list[Row] = receiver.recv()
    except EOFError:
        rows = [Row(measure.__name__, "", "crashed", passed=False)]
    process.join()
    return rows


def _send(
    sender: Connection, measure: Callable[..., list[Row]], arguments: tuple[object, ...]
) -> None:
    sender.send(measure(*arguments))


if __name__ == "__main__":
    sys.exit(main())
