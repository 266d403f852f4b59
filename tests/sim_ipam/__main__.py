"""`python -m tests.sim_ipam --seed 1 --seeds 200 --ops 1000`: many seeds, a line for each
failure."""

from __future__ import annotations

import argparse
import sys
import time
import traceback
from collections import Counter

from tests.sim_ipam.chaos import Chaos


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.sim_ipam", description=__doc__)
    parser.add_argument("--seed", type=int, default=1, help="the first seed")
    parser.add_argument("--seeds", type=int, default=200, help="how many seeds")
    parser.add_argument("--ops", type=int, default=1000, help="operations for each seed")
    parser.add_argument("--verbose", action="store_true", help="print what a failing seed did")
    options = parser.parse_args()
    began, failed = time.monotonic(), []
    counts: Counter[str] = Counter()
    for seed in range(options.seed, options.seed + options.seeds):
        chaos = Chaos(seed, options.ops)
        try:
            chaos.run()
        except Exception as error:  # noqa: BLE001 - whatever breaks a seed is a finding
            failed.append(seed)
            print(f"seed {seed}: {type(error).__name__}: {error}", flush=True)
            if options.verbose:
                print("\n".join(chaos.log))
                traceback.print_exc()
        counts.update(chaos.counts)
        done = seed - options.seed + 1
        if done % 100 == 0:
            print(
                f"{done} seeds, {len(failed)} failed, {time.monotonic() - began:.0f} s", flush=True
            )
    elapsed = time.monotonic() - began
    print(", ".join(f"{what}: {count}" for what, count in sorted(counts.items())))
    print(
        f"sim-ipam: {options.seeds} seeds x {options.ops} operations in {elapsed:.0f} s,"
        f" failed: {failed or 'none'}"
    )
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
