"""A CNI plugin under measurement: where it runs, what it is given, sandboxes to attach."""

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
REFERENCE_DIR = Path("/usr/lib/cni")


class BenchError(Exception):
    """A call that must succeed for the figures to mean anything did not; says which and why."""


@dataclass(frozen=True, slots=True)
class Plugin:
    """One plugin and the place where its calls are made. `enter` leads into its namespaces."""

    name: str
    executable: str
    config: Mapping[str, Any]
    path: str
    worker: subprocess.Popen[str]
    enter: Sequence[str]

    def call(self, command: str, sandbox: str, previous: Any = None) -> tuple[float, Any]:
        """One call; gives seconds and the decoded result. Raises BenchError unless it succeeded."""
        ((elapsed_s, result),), _ = self.calls(command, {sandbox: previous})
        return elapsed_s, result

    def calls(
        self, command: str, sandboxes: Mapping[str, Any]
    ) -> tuple[list[tuple[float, Any]], float]:
        """One call per sandbox, all at once; the value is what its ADD gave, or none.

        Gives seconds and decoded result of each, and the seconds they took together. Raises
        BenchError unless all succeeded.
        """
        requests = [self._request(command, name, before) for name, before in sandboxes.items()]
        assert self.worker.stdin
        assert self.worker.stdout
        self.worker.stdin.write(json.dumps(requests) + "\n")
        self.worker.stdin.flush()
        answer = json.loads(self.worker.stdout.readline())
        results = []
        for name, outcome in zip(sandboxes, answer["outcomes"], strict=True):
            if outcome["status"]:
                text = outcome["stdout"]
                raise BenchError(f"{self.name}: {command} of {name} failed: {text}")
            stdout = outcome["stdout"].strip()
            results.append((outcome["elapsed_s"], json.loads(stdout) if stdout else None))
        return results, answer["elapsed_s"]

    def _request(self, command: str, sandbox: str, previous: Any) -> dict[str, Any]:
        config = dict(self.config)
        if previous is not None:
            config["prevResult"] = previous
        environment = {
            "CNI_COMMAND": command,
            "CNI_CONTAINERID": sandbox,
            "CNI_NETNS": f"/run/netns/{sandbox}",
            "CNI_IFNAME": "eth0",
            "CNI_PATH": self.path,
            "PATH": "/usr/sbin:/usr/bin:/sbin:/bin",
        }
        return {
            "executable": self.executable,
            "environment": environment,
            "stdin": json.dumps(config),
        }

    def make_sandbox(self, name: str) -> None:
        """Makes an empty network namespace with loopback up, as a runtime does before ADD."""
        self.run("ip", "netns", "add", name)
        self.run("ip", "-n", name, "link", "set", "lo", "up")

    def remove_sandbox(self, name: str) -> None:
        """Removes the namespace."""
        self.run("ip", "netns", "del", name)

    def run(self, *argv: str) -> str:
        """Runs a program where the plugin runs. Raises BenchError."""
        done = subprocess.run(
            [*self.enter, *argv], capture_output=True, text=True, timeout=60, check=False
        )
        if done.returncode:
            raise BenchError(f"{' '.join(argv)}: {done.stderr.strip()}")
        return done.stdout


@contextlib.contextmanager
def started(
    name: str, executable: str, config: Mapping[str, Any], path: str, enter: Sequence[str]
) -> Iterator[Plugin]:
    """Starts the worker of a plugin and ends it afterwards."""
    worker = subprocess.Popen(
        [*enter, sys.executable, "-I", str(WORKER)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        yield Plugin(name, executable, config, path, worker, enter)
    finally:
        assert worker.stdin
        worker.stdin.close()
        worker.wait(timeout=30)


@contextlib.contextmanager
def reference(work_dir: Path, mtu: int) -> Iterator[Plugin]:
    """The reference `bridge` with `host-local` and ipMasq, in a namespace of its own."""
    for binary in ("bridge", "host-local"):
        if not (REFERENCE_DIR / binary).exists():
            raise BenchError(
                f"{REFERENCE_DIR / binary} is missing: apt-get install containernetworking-plugins"
            )
    netns = "weave-bench-reference"
    subprocess.run(["ip", "netns", "add", netns], check=True, timeout=10)
    config = {
        "cniVersion": "1.0.0",
        "name": "reference",
        "type": "bridge",
        "bridge": "cni0",
        "isGateway": True,
        "ipMasq": True,
        "mtu": mtu,
        "ipam": {
            "type": "host-local",
            "dataDir": str(work_dir / "host-local"),
            "ranges": [[{"subnet": "10.250.0.0/16"}]],
            "routes": [{"dst": "0.0.0.0/0"}],
        },
    }
    try:
        with started(
            "bridge + host-local + ipMasq",
            str(REFERENCE_DIR / "bridge"),
            config,
            str(REFERENCE_DIR),
            ["nsenter", f"--net=/run/netns/{netns}", "--"],
        ) as plugin:
            yield plugin
    finally:
        subprocess.run(["ip", "netns", "del", netns], check=False, timeout=10)
