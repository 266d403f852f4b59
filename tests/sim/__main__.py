"""Runs seeds of trouble: `python -m tests.sim --seed 1234 --seeds 50`; exits 1 if one fails."""

from __future__ import annotations

import argparse
import sys
import time
import traceback
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor

from tests.sim.trouble import run_trouble


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="tests.sim", description=__doc__)
    parser.add_argument("--seed", type=int, default=1234, help="the first seed")
    parser.add_argument("--seeds", type=int, default=20, help="how many from there on")
    parser.add_argument("--peers", type=int, default=50)
    parser.add_argument("--seconds", type=float, default=60.0, help="of trouble, in virtual time")
    parser.add_argument("--workers", type=int, default=2)
    options = parser.parse_args(arguments)
    started = time.monotonic()
    failed = []
    seeds = range(options.seed, options.seed + options.seeds)
    with ProcessPoolExecutor(options.workers) as pool:
        runs = {seed: pool.submit(_run, seed, options.peers, options.seconds) for seed in seeds}
        for seed, run in runs.items():
            line, passed = run.result()
            print(f"seed {seed}: {line}", flush=True)
            if not passed:
                failed.append(seed)
    took = time.monotonic() - started
    print(f"{len(seeds) - len(failed)} of {len(seeds)} seeds passed in {took:.0f} s")
    for seed in failed:
        print(f"replay: make sim SEED={seed} SEEDS=1")
    return 1 if failed else 0


def _run(seed: int, peers: int, seconds: float) -> tuple[str, bool]:
    try:
        return run_trouble(seed, peers=peers, seconds=seconds), True
    except Exception:  # noqa: BLE001 - whatever it is, it belongs to this seed
        return traceback.format_exc(limit=-6), False


if __name__ == "__main__":
    sys.exit(main())
