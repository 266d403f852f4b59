"""Kernel switches below /proc/sys, in the network namespace of the calling thread."""

from __future__ import annotations

from pathlib import Path

# The kernel resolves net/ below it by the thread that opens the file, so a container whose own is
# read-only may as well write to a mount of the host's.
PROC_SYS = Path("/proc/sys")


def read(path: str) -> str | None:
    """The value of a switch; None when the kernel has no such switch."""
    try:
        return (PROC_SYS / path).read_text().strip()
    except FileNotFoundError:
        return None


def write(path: str, value: str, root: Path = PROC_SYS) -> None:
    """Sets a switch. Raises OSError; FileNotFoundError when the kernel has no such switch."""
    with (root / path).open("w") as file:
        file.write(value)
