"""Control groups of a lab's containers: where they are, and that none is left."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

_MOUNTS = Path("/sys/fs/cgroup")
_ROOT = "weave-lab"


def parent(lab: str) -> str:
    """The group for all containers of a lab, as a runtime names it (CRI: `cgroup_parent`)."""
    return f"/{_ROOT}/{lab}"


def left(lab: str) -> Iterator[Path]:
    """The group of the lab in every hierarchy, as far as it is there."""
    # Version 2 has one hierarchy, version 1 one per controller.
    yield from _MOUNTS.glob(f"{_ROOT}/{lab}")
    yield from _MOUNTS.glob(f"*/{_ROOT}/{lab}")


def remove(lab: str) -> None:
    """Removes them; the processes in them must be gone. Idempotent."""
    for top in list(left(lab)):
        folders = [path for path in top.rglob("*") if path.is_dir()]
        # Only empty ones can be removed: those of other labs stay.
        for folder in (*sorted(folders, reverse=True), top, top.parent):
            with contextlib.suppress(OSError):
                folder.rmdir()
