"""Runs CNI executables where it stands and tells how long each took.

Started once inside the namespaces of a node, so that entering them is not measured. Reads one JSON
list of calls per line (executable, environment, stdin), runs them all at once and answers with the
list of what came of them (status, stdout, elapsed_s) and with the time from the start of the first
to the end of the last. Imports nothing but the standard library.
"""

import json
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any


def main() -> None:
    for line in sys.stdin:
        calls = json.loads(line)
        begin = time.perf_counter()
        if len(calls) == 1:
            outcomes = [run(calls[0])]
        else:
            outcomes, begin = together(calls)
        answer = {"outcomes": outcomes, "elapsed_s": time.perf_counter() - begin}
        sys.stdout.write(json.dumps(answer) + "\n")
        sys.stdout.flush()


def together(calls: list[dict[str, Any]]) -> tuple[list[dict[str, Any]], float]:
    """Starts none before all threads stand ready."""
    ready = threading.Barrier(len(calls) + 1)

    def one(call: dict[str, Any]) -> dict[str, Any]:
        ready.wait()
        return run(call)

    with ThreadPoolExecutor(len(calls)) as pool:
        running = [pool.submit(one, call) for call in calls]
        ready.wait()
        begin = time.perf_counter()
        return [each.result() for each in running], begin


def run(call: dict[str, Any]) -> dict[str, Any]:
    begin = time.perf_counter()
    done = subprocess.run(
        [call["executable"]],
        input=call["stdin"].encode(),
        env=call["environment"],
        capture_output=True,
        timeout=120,
        check=False,
    )
    elapsed_s = time.perf_counter() - begin
    return {"status": done.returncode, "stdout": done.stdout.decode(), "elapsed_s": elapsed_s}


main()
