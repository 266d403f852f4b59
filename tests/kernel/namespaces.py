"""Network namespaces for tests: made, entered and removed without touching the host's own
network."""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import subprocess
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from weave_router.kernel import namespace

T = TypeVar("T")

_PREFIX = f"rk{os.getpid()}-"
_COUNTER = itertools.count()
# A command of a test: pings and transfers have limits of their own below this.
_TIMEOUT_S = 60


@dataclass(frozen=True, slots=True)
class Netns:
    """A named network namespace. `ip netns exec` remounts /sys, so commands enter by nsenter."""

    name: str

    @property
    def path(self) -> str:
        """Where it is mounted."""
        return f"/run/netns/{self.name}"

    def command(self, *argv: str) -> list[str]:
        """The command line that runs `argv` inside."""
        return ["nsenter", f"--net={self.path}", "--", *argv]

    def run(self, *argv: str, check: bool = True) -> str:
        """Runs a command inside and returns what it printed."""
        done = subprocess.run(
            self.command(*argv), capture_output=True, text=True, timeout=_TIMEOUT_S, check=False
        )
        if check and done.returncode:
            raise AssertionError(f"{' '.join(argv)}: {done.stdout}{done.stderr}")
        return done.stdout

    def succeeds(self, *argv: str) -> bool:
        """Does a command succeed inside?"""
        done = subprocess.run(
            self.command(*argv), capture_output=True, timeout=_TIMEOUT_S, check=False
        )
        return done.returncode == 0

    def ip_json(self, *argv: str) -> list[dict[str, Any]]:
        """What `ip -j` lists."""
        listed: list[dict[str, Any]] = json.loads(self.run("ip", "-j", *argv) or "[]")
        return listed

    def call(self, work: Callable[[], T]) -> T:
        """Runs `work` in a thread inside the namespace."""
        with namespace.OpenedNamespace(self.path) as opened:
            return namespace.run_inside(opened, work)

    def ping(self, address: str, *, count: int = 2, options: Sequence[str] = ()) -> bool:
        """Do all of some pings come back?"""
        argv = ["ping", "-n", "-i", "0.02", "-W", "0.5", "-c", str(count), *options, address]
        output = self.run(*argv, check=False)
        return f" {count} received" in output

    def bring_up(self, device: str) -> None:
        """Brings a device up without a link-local address, whose duplicate detection takes time."""
        # Two commands: within one the kernel brings it up first.
        self.run("ip", "link", "set", device, "addrgenmode", "none")
        self.run("ip", "link", "set", device, "up")

    def set_sysctl(self, path: str, value: str) -> None:
        """Sets a switch of this namespace."""
        self.call(lambda: _write_sysctl(path, value))


@contextlib.contextmanager
def netns(stem: str) -> Iterator[Netns]:
    """A fresh namespace with its loopback up, removed afterwards."""
    name = f"{_PREFIX}{next(_COUNTER)}-{stem}"
    subprocess.run(["ip", "netns", "add", name], check=True)
    try:
        made = Netns(name)
        made.run("ip", "link", "set", "lo", "up")
        yield made
    finally:
        subprocess.run(["ip", "netns", "del", name], check=False)


def join(left: Netns, right: Netns, left_name: str, right_name: str) -> None:
    """A veth between two namespaces, both ends up."""
    right_end = ["peer", "name", right_name, "netns", right.name]
    left.run("ip", "link", "add", left_name, "type", "veth", *right_end)
    for end, name in ((left, left_name), (right, right_name)):
        end.bring_up(name)


def _write_sysctl(path: str, value: str) -> None:
    from weave_router.kernel import sysctl

    sysctl.write(path, value)
