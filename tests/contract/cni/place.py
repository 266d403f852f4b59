"""Where plugins run: the namespaces of a node, or fresh ones that hide the machine's own."""

from __future__ import annotations

import contextlib
import json
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

WORKER = Path(__file__).with_name("worker.py")
SYSTEM_PATH = "/usr/sbin:/usr/bin:/sbin:/bin"

# Fresh /run for named namespaces and locks, fresh state of reference plugins, a sysfs of our own.
_FRESH = (
    "mount -t tmpfs -o mode=0755 tmpfs /run && mkdir -p /run/netns /run/lock /var/lib/cni && "
    "mount -t tmpfs -o mode=0755 tmpfs /var/lib/cni && mount -t sysfs sysfs /sys && "
    'ip link set lo up && exec "$@"'
)


@dataclass(frozen=True, slots=True)
class Outcome:
    """One run of a program."""

    status: int
    stdout: str
    stderr: str
    elapsed_s: float

    @property
    def body(self) -> Any:
        """The JSON on stdout."""
        return json.loads(self.stdout)

    @property
    def code(self) -> int:
        """The code of the error object; the call must have failed."""
        assert self.status != 0, self.stdout
        return int(self.body["code"])

    @property
    def message(self) -> str:
        """The text of the error object."""
        assert self.status != 0, self.stdout
        return f"{self.body['msg']} {self.body.get('details', '')}"


@dataclass(frozen=True, slots=True)
class Program:
    """What to run."""

    argv: Sequence[str]
    environ: Mapping[str, str]
    stdin: str = ""


class Place:
    """A worker that waits for programs to run."""

    def __init__(self, worker: subprocess.Popen[str]) -> None:
        self._worker = worker

    @property
    def pid(self) -> int:
        """The process that stands in the place."""
        return self._worker.pid

    def run(self, *programs: Program) -> list[Outcome]:
        """Runs them side by side to their ends."""
        assert self._worker.stdin
        assert self._worker.stdout
        calls = [
            {"argv": list(p.argv), "environ": dict(p.environ), "stdin": p.stdin} for p in programs
        ]
        self._worker.stdin.write(json.dumps({"calls": calls}) + "\n")
        self._worker.stdin.flush()
        return [Outcome(**answer) for answer in json.loads(self._worker.stdout.readline())]

    def shell(self, *argv: str) -> str:
        """Runs one program that must succeed, and gives its stdout."""
        (outcome,) = self.run(Program(argv, {"PATH": SYSTEM_PATH}))
        assert outcome.status == 0, f"{' '.join(argv)}: {outcome.stderr}"
        return outcome.stdout

    def json(self, *argv: str) -> Any:
        """The same for a program that prints JSON."""
        return json.loads(self.shell(*argv) or "[]")


@contextlib.contextmanager
def standing_in(enter: Sequence[str]) -> Iterator[Place]:
    """A place that a command leads into."""
    worker = subprocess.Popen(
        [*enter, sys.executable, "-I", str(WORKER)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        yield Place(worker)
    finally:
        assert worker.stdin
        assert worker.stdout
        worker.stdin.close()
        worker.stdout.close()
        worker.wait(timeout=30)


@contextlib.contextmanager
def fresh() -> Iterator[Place]:
    """A place with network and mount namespaces of its own; all is gone with it."""
    enter = ["unshare", "--mount", "--net", "--propagation", "private", "--"]
    with standing_in([*enter, "bash", "-ec", _FRESH, "bash"]) as place:
        yield place
