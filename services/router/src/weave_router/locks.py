"""Locks by name that exist only while somebody holds or awaits them."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from dataclasses import dataclass, field


@dataclass(slots=True)
class _Entry:
    lock: asyncio.Lock = field(default_factory=asyncio.Lock)
    users: int = 0


class NamedLocks:
    """One lock per name, and how often work under it has ended: whoever saw a name's epoch before
    and after knows whether anybody worked on it meanwhile. Belongs to one event loop."""

    def __init__(self) -> None:
        self._entries: dict[str, _Entry] = {}
        # Grows by one for each piece of work under any lock; a name's epoch is its last.
        self._clock = 0
        self._epochs: dict[str, int] = {}

    @contextlib.asynccontextmanager
    async def holding(self, name: str) -> AsyncIterator[None]:
        """Waits for the lock and holds it; its epoch moves on."""
        entry = self._entries.setdefault(name, _Entry())
        entry.users += 1
        try:
            async with entry.lock:
                try:
                    yield
                finally:
                    self._clock += 1
                    self._epochs[name] = self._clock
        finally:
            entry.users -= 1
            if not entry.users:
                del self._entries[name]

    @property
    def now(self) -> int:
        """The present moment, to compare epochs with."""
        return self._clock

    def has_changed(self, name: str, since: int) -> bool:
        """Has work under this name ended since that moment, or is it under way?"""
        return name in self._entries or self._epochs.get(name, 0) > since

    def forget_epochs(self, before: int) -> None:
        """Drops the epochs that nobody will ask for any more."""
        self._epochs = {name: epoch for name, epoch in self._epochs.items() if epoch > before}
