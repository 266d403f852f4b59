"""A process in a network namespace that nobody has given a name."""

from __future__ import annotations

import contextlib
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

from weave_lab import Node

_TIMEOUT_S = 20.0


@contextlib.contextmanager
def nameless_process(node: Node) -> Iterator[subprocess.Popen[bytes]]:
    """One that sleeps on a node; it ends with the context at the latest."""
    shell = ["unshare", "--net", "sh", "-c", "ip link set lo up; exec sleep 600"]
    process = subprocess.Popen([*node.enter(), *shell])
    try:
        others = {namespace_of("self"), namespace_of(node.holder.pid)}
        deadline = time.monotonic() + _TIMEOUT_S
        while namespace_of(process.pid) in others:
            assert time.monotonic() < deadline
            time.sleep(0.01)
        yield process
    finally:
        process.kill()
        process.wait()


def namespace_of(pid: int | str) -> int:
    """Inode of a process's network namespace."""
    return Path(f"/proc/{pid}/ns/net").stat().st_ino
