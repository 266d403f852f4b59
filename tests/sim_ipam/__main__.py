"""`python -m tests.sim_ipam --seed 1 --seeds 200 --ops 1000`: many seeds, a line for each
failure; exits 1 if one fails."""

from __future__ import annotations

import argparse
import sys
import time
import traceback
from collections import Counter
from collections.abc import Iterable
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from typing import NamedTuple

from tests.sim_ipam.chaos import Chaos

# Seeds between two lines that say how far it is.
PROGRESS = 100


class Ended(NamedTuple):
    """One seed's run: what it did, and what broke it; empty when nothing did."""

    seed: int
    counts: dict[str, int]
    fault: str
    log: list[str]


def run(seed: int, operations: int) -> Ended:
    chaos = Chaos(seed, operations)
    try:
        chaos.run()
    except Exception as error:  # noqa: BLE001 - whatever breaks a seed is a finding
        log = [*chaos.log, *traceback.format_exc().splitlines()]
        return Ended(seed, chaos.counts, f"{type(error).__name__}: {error}", log)
    return Ended(seed, chaos.counts, "", [])


def summary(runs: Iterable[Ended], *, verbose: bool) -> tuple[Counter[str], list[int]]:
    """Prints what is found as it is found; gives what was done and the seeds that failed."""
    began, counts, failed = time.monotonic(), Counter[str](), list[int]()
    for done, ended in enumerate(runs, 1):
        counts.update(ended.counts)
        if ended.fault:
            failed.append(ended.seed)
            print(f"seed {ended.seed}: {ended.fault}", flush=True)
            if verbose:
                print("\n".join(ended.log))
        if done % PROGRESS == 0:
            took = time.monotonic() - began
            print(f"{done} seeds, {len(failed)} failed, {took:.0f} s", flush=True)
    return counts, failed


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.sim_ipam", description=__doc__)
    parser.add_argument("--seed", type=int, default=1, help="the first seed")
    parser.add_argument("--seeds", type=int, default=200, help="how many seeds")
    parser.add_argument("--ops", type=int, default=1000, help="operations for each seed")
    parser.add_argument("--workers", type=int, default=2, help="processes")
    parser.add_argument("--verbose", action="store_true", help="print what a failing seed did")
    options = parser.parse_args()
    began = time.monotonic()
    seeds = range(options.seed, options.seed + options.seeds)
    with ProcessPoolExecutor(options.workers) as pool:
        runs = pool.map(partial(run, operations=options.ops), seeds)
        counts, failed = summary(runs, verbose=options.verbose)
    elapsed = time.monotonic() - began
    print(", ".join(f"{what}: {count}" for what, count in sorted(counts.items())))
    print(
        f"sim-ipam: {options.seeds} seeds x {options.ops} operations in {elapsed:.0f} s,"
        f" failed: {failed or 'none'}"
    )
    for seed in failed:
        print(f"replay: make sim-ipam SEED={seed} SEEDS=1 OPS={options.ops} ARGS=--verbose")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
