"""Closed folders on the way to the interpreter, covered inside a mount namespace.

Debian's /root has mode 0700, and that is where a new user clones to: the uids of services could not
load a line of code. `python -m weave_lab.covers PROGRAM ...` runs one program where they can.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

from weave_lab import interpreter, syscalls

OPEN_PATH = os.O_PATH | os.O_CLOEXEC


def cover(closed: Path, needed: list[Path]) -> None:
    """Replaces `closed` by an open folder that holds nothing but the way to `needed`."""
    sources = [os.open(path, OPEN_PATH) for path in needed]
    syscalls.mount("tmpfs", closed, "tmpfs", options="mode=0755")
    for path, source in zip(needed, sources, strict=True):
        path.mkdir(parents=True, exist_ok=True)
        bind(source, path)


def bind(source: int, target: Path) -> None:
    """Shows the folder behind an open descriptor at `target`, too."""
    syscalls.mount(f"/proc/self/fd/{source}", target, flags=syscalls.MS_BIND | syscalls.MS_REC)


def main() -> None:
    covers = interpreter.covers(interpreter.needed_folders())
    if covers:
        syscalls.unshare(syscalls.CLONE_NEWNS)
        # Network namespaces named later on the host still appear here.
        syscalls.mount("none", Path("/"), flags=syscalls.MS_REC | syscalls.MS_SLAVE)
        for closed, needed in covers.items():
            cover(Path(closed), [Path(path) for path in needed])
    os.execvp(sys.argv[1], sys.argv[1:])  # noqa: S606


if __name__ == "__main__":
    main()
