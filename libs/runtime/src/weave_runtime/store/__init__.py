"""Durable state behind one small interface: SQLite (embedded), Redis, memory (tests)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from weave_runtime.store.protocol import Batch, Format, Store, StoreError

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from weave_runtime.store.protocol import Backend

FORMAT_1 = Format(1, 1)

__all__ = ["Batch", "Format", "Store", "StoreError", "open_store"]


async def open_store(
    url: str,
    state_dir: Path,
    *,
    owner: str,
    own_format: Format = FORMAT_1,
    is_last_life: Callable[[], bool] = lambda: False,
) -> Store:
    """Opens the store a service is configured for: empty URL: SQLite in `state_dir`, else Redis.

    `owner` keeps services and nodes apart that share one Redis, from which the entries go with the
    last life of the service; its folder is emptied by the process. Raises StoreError.
    """
    backend: Backend
    if url:
        from weave_runtime.store.redis import RedisBackend

        backend = await RedisBackend.open(url, owner, is_last_life)
    else:
        from weave_runtime.store.sqlite import SqliteBackend

        backend = await SqliteBackend.open(state_dir)
    return await Store.open(backend, own_format)
