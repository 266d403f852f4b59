"""Namespaces held by a file descriptor, so that their numbers stay theirs.

The kernel gives the number of a freed namespace to the next one made, perhaps that of another lab.
Whoever acts on numbers (ends all processes inside, looks for leftovers) must hold the namespaces.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Self


class HeldNamespaces:
    """Namespaces that cannot vanish before `close`; paths that name none are passed over."""

    def __init__(self, paths: Iterable[Path]) -> None:
        self._descriptors: list[int] = []
        found = set()
        for path in paths:
            with contextlib.suppress(OSError):
                descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
                self._descriptors.append(descriptor)
                # "net:[4026532177]"; a file that is no namespace has a path.
                name = str(Path(f"/proc/self/fd/{descriptor}").readlink())
                kind, _, number = name.partition(":[")
                if kind in ("net", "mnt"):
                    found.add(int(number.rstrip("]")))
        self.numbers = frozenset(found)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Lets them go. Idempotent."""
        while self._descriptors:
            os.close(self._descriptors.pop())
