"""The producer's side of a watch: snapshot, synced, deltas, resume token. Knows nothing of gRPC.

A `Table` keeps the present items and, per key, the sequence number of its last change. A subscriber
keeps nothing but the number it has seen, so that any number of slow ones cost no memory: whoever
falls behind the bounded log of changes is given a new snapshot, and changes of one key that it
did not read in time reach it as one. Every `Synced` closes one consistent state.
"""

from __future__ import annotations

import asyncio
import itertools
import os
from collections.abc import AsyncGenerator, Iterable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Generic, TypeAlias, TypeVar

K = TypeVar("K")
V = TypeVar("V")

# Changes kept for resuming and slow subscribers; a snapshot costs little more than this many.
LOG_LIMIT = 4096
_INSTANCE_BYTES = 8
_SEQUENCE_BYTES = 8


@dataclass(frozen=True, slots=True)
class SnapshotStart:
    """All items follow; what was known before is void once `Synced` comes."""


@dataclass(frozen=True, slots=True)
class Upsert(Generic[K, V]):
    """An item is new or has changed."""

    key: K
    item: V


@dataclass(frozen=True, slots=True)
class Removed(Generic[K]):
    """An item is gone."""

    key: K


@dataclass(frozen=True, slots=True)
class Synced:
    """All that precedes is one consistent state."""

    token: bytes


Event: TypeAlias = SnapshotStart | Upsert[K, V] | Removed[K] | Synced


class Table(Generic[K, V]):
    """Keyed items with any number of subscribers. Belongs to one event loop; no call blocks.

    Subscribers are served from the first `complete()` on: a table that is still being filled after
    a restart must not look like a truth in which most items are gone.
    """

    def __init__(self, *, log_limit: int = LOG_LIMIT, instance: bytes = b"") -> None:
        self._items: dict[K, V] = {}
        # Key -> sequence number of its last change, oldest change first; also of removed keys.
        self._changed: dict[K, int] = {}
        self._sequence = 0
        # Newest sequence number of which the log no longer has all.
        self._forgotten = 0
        self._log_limit = log_limit
        self._instance = instance or os.urandom(_INSTANCE_BYTES)
        self._complete = False
        self._wakers: set[asyncio.Event] = set()

    @property
    def items(self) -> Mapping[K, V]:
        """The present items, read-only and live."""
        return MappingProxyType(self._items)

    @property
    def token(self) -> bytes:
        """The resume token of the present state."""
        return self._instance + self._sequence.to_bytes(_SEQUENCE_BYTES, "big")

    def complete(self) -> None:
        """Declares that the items are a whole truth. Idempotent."""
        self._complete = True
        self._wake()

    def update(self, upserts: Mapping[K, V], removed: Iterable[K] = ()) -> None:
        """Applies all changes as one step that no subscriber sees half of."""
        changed = {
            key: item
            for key, item in upserts.items()
            if key not in self._items or self._items[key] != item
        }
        gone = [key for key in removed if key in self._items and key not in upserts]
        if not changed and not gone:
            return
        self._sequence += 1
        self._items.update(changed)
        for key in gone:
            del self._items[key]
        for key in (*changed, *gone):
            self._changed.pop(key, None)
            self._changed[key] = self._sequence
        while len(self._changed) > self._log_limit:
            self._forgotten = self._changed.pop(next(iter(self._changed)))
        self._wake()

    def put(self, key: K, item: V) -> None:
        """Adds or replaces one item. An equal item is no change."""
        self.update({key: item})

    def remove(self, key: K) -> None:
        """Removes one item. Idempotent."""
        self.update({}, [key])

    def replace(self, items: Mapping[K, V]) -> None:
        """Makes `items` all there is; subscribers see the difference only."""
        self.update(items, [key for key in self._items if key not in items])

    async def subscribe(self, token: bytes = b"") -> AsyncGenerator[Event[K, V], None]:
        """Yields what has changed since `token`, or a snapshot, then every change, for ever."""
        waker = asyncio.Event()
        self._wakers.add(waker)
        try:
            while not self._complete:
                waker.clear()
                await waker.wait()
            seen = self._resume(token)
            while True:
                waker.clear()
                events = self._events_since(seen)
                seen = self._sequence
                for event in events:
                    yield event
                while seen == self._sequence:
                    waker.clear()
                    await waker.wait()
        finally:
            self._wakers.discard(waker)

    def _resume(self, token: bytes) -> int:
        instance, sequence = token[:_INSTANCE_BYTES], token[_INSTANCE_BYTES:]
        if instance != self._instance or len(sequence) != _SEQUENCE_BYTES:
            return -1
        seen = int.from_bytes(sequence, "big")
        return seen if seen <= self._sequence else -1

    def _events_since(self, seen: int) -> list[Event[K, V]]:
        events: list[Event[K, V]]
        if seen < self._forgotten:
            events = [SnapshotStart(), *(Upsert(key, item) for key, item in self._items.items())]
        else:
            newest_first = itertools.takewhile(
                lambda change: change[1] > seen, reversed(self._changed.items())
            )
            events = [
                Upsert(key, self._items[key]) if key in self._items else Removed(key)
                for key, _ in newest_first
            ]
            events.reverse()
        return [*events, Synced(self.token)]

    def _wake(self) -> None:
        for waker in self._wakers:
            waker.set()
