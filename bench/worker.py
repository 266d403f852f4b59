"""Runs CNI executables where it stands and tells how long each took.

Started once inside the namespaces of a node, so that entering them is not measured. Reads one JSON
object per line (executable, environment, stdin), answers with one per line (status, stdout,
elapsed_s). Imports nothing but the standard library.
"""

import json
import subprocess
import sys
import time


def main() -> None:
    for line in sys.stdin:
        call = json.loads(line)
        begin = time.perf_counter()
        done = subprocess.run(
            [call["executable"]],
            input=call["stdin"].encode(),
            env=call["environment"],
            capture_output=True,
            timeout=60,
            check=False,
        )
        elapsed_s = time.perf_counter() - begin
        answer = {"status": done.returncode, "stdout": done.stdout.decode(), "elapsed_s": elapsed_s}
        sys.stdout.write(json.dumps(answer) + "\n")
        sys.stdout.flush()


main()
