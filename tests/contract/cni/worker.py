"""Runs programs where it stands, as a container runtime does, and tells what came of them.

Started once inside the namespaces of a place, so that entering them is not part of a call. Reads
one JSON object per line, {"calls": [{"argv", "environ", "stdin"}]}, which it runs side by side, and
answers with a list of {"status", "stdout", "stderr", "elapsed_s"}. Imports nothing but the standard
library.
"""

import json
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

TIMEOUT_S = 100


def run(call: dict[str, Any]) -> dict[str, Any]:
    begin = time.perf_counter()
    done = subprocess.run(
        call["argv"],
        input=call["stdin"].encode(),
        env=call["environ"],
        capture_output=True,
        timeout=TIMEOUT_S,
        check=False,
    )
    return {
        "status": done.returncode,
        "stdout": done.stdout.decode("utf-8", "replace"),
        "stderr": done.stderr.decode("utf-8", "replace"),
        "elapsed_s": time.perf_counter() - begin,
    }


def main() -> None:
    for line in sys.stdin:
        calls = json.loads(line)["calls"]
        with ThreadPoolExecutor(max_workers=len(calls)) as threads:
            answers = list(threads.map(run, calls))
        sys.stdout.write(json.dumps(answers) + "\n")
        sys.stdout.flush()


main()
