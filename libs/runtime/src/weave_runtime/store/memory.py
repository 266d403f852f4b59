"""A store that forgets: for tests, and nothing else."""

from __future__ import annotations

from typing import TYPE_CHECKING

from weave_runtime.store.protocol import Format, Store

if TYPE_CHECKING:
    from weave_runtime.store.protocol import Batch


class MemoryBackend:
    """Keeps entries in a dictionary; counts writes, and fails them while `failure` is set."""

    name = "memory"

    def __init__(self, entries: dict[str, bytes] | None = None) -> None:
        self.entries = {} if entries is None else entries
        self.failure: Exception | None = None
        self.writes = 0

    async def read(self, prefix: str) -> dict[str, bytes]:
        return {key: value for key, value in self.entries.items() if key.startswith(prefix)}

    async def write(self, batch: Batch) -> None:
        if self.failure:
            raise self.failure
        self.writes += 1
        self.entries.update({key: value for key, value in batch.items() if value is not None})
        for key in (key for key, value in batch.items() if value is None):
            self.entries.pop(key, None)

    async def close(self) -> None:
        pass


class FakeStore(Store):
    """A `Store` in memory; `FakeStore(old.backend.entries)` is the same store after a restart."""

    def __init__(self, entries: dict[str, bytes] | None = None) -> None:
        self.backend = MemoryBackend(entries)
        super().__init__(self.backend, Format(), Format())
