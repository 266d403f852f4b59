"""The contract of every back-end of Coordination, and the keeping of its mirror.

A back-end answers reads and writes from the shared store itself; watches are served from a mirror
of all entries, which a task of the back-end keeps in step. Entries are few and small by contract,
so the mirror is whole. Keys are never deleted; a revision only grows.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from weave_model.errors import Invalid
from weave_runtime.watch import Table

# Coordination is for agreements, not for bulk data; the sum bounds the mirror at 64 MiB in theory,
# and at a few kilobytes in practice (one ring, one fence per reclaimed peer).
MAX_KEY_BYTES = 256
MAX_VALUE_BYTES = 64 << 10
MAX_ENTRIES = 1024


# Its presence ends this installation; written by the hook that uninstalls.
UNINSTALL_KEY = "uninstall"


@dataclass(frozen=True, slots=True)
class Entry:
    """A value and how often it has been written; the first write is revision 1."""

    revision: int
    value: bytes


class Coordination(Protocol):
    """Compare-and-swap registers that all peers share. Every call raises CoordinationAwayError."""

    @property
    def entries(self) -> Table[str, Entry]:
        """The mirror; complete as soon as the store was read once."""
        ...

    async def get(self, key: str) -> Entry | None:
        """The entry as the store holds it, None where there is none.

        A back-end whose store is away may answer as it last saw it in this boot of the machine:
        nobody can write meanwhile. Who acts on it does so by `compare_and_swap`.
        """
        ...

    async def compare_and_swap(self, key: str, expected_revision: int, value: bytes) -> int:
        """Writes durably if the revision is still the one given (0: absent); returns the new one.

        Raises RevisionConflictError, Invalid (over a limit).
        """
        ...

    async def follow(self) -> None:
        """Keeps the mirror in step until cancelled; outlives the absence of the store."""
        ...

    async def close(self) -> None:
        """Lets go of what the back-end holds. Idempotent."""
        ...


def check_limits(key: str, value: bytes) -> None:
    """Raises Invalid for what no back-end takes."""
    if not key:
        raise Invalid("a key may not be empty")
    if len(key.encode()) > MAX_KEY_BYTES:
        raise Invalid(f"the key {key[:32]!r}... is over the limit of {MAX_KEY_BYTES} bytes")
    if len(value) > MAX_VALUE_BYTES:
        raise Invalid(
            f"the value of {key!r} has {len(value)} bytes, over the limit of {MAX_VALUE_BYTES}"
        )
