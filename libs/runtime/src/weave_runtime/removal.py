"""What an uninstall leaves to each service: its own state, removed as its last act.

Nobody but the service may look into its folder. Whoever carries the uninstall out sets a mark as
soon as the host is clean; from then on a service that ends, however it ends, leaves nothing.
Whoever starts services takes the mark away before.
"""

from __future__ import annotations

import shutil
from pathlib import Path

MARK = "uninstalled"


def mark(run_dir: Path) -> None:
    """Says that the present life of the services is their last. Idempotent."""
    (run_dir / MARK).touch()


def is_marked(run_dir: Path) -> bool:
    """Is the present life of the services their last?"""
    return (run_dir / MARK).exists()


def empty(folder: Path) -> None:
    """Removes all that is in a folder. Idempotent. Raises OSError."""
    for path in folder.iterdir() if folder.is_dir() else ():
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        else:
            path.unlink()
