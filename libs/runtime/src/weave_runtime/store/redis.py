"""The shared store: one hash per owner in a Redis that writes its log before it answers."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any, Self

from redis.asyncio import Redis
from redis.asyncio.retry import Retry
from redis.backoff import ExponentialBackoff
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import RedisError
from redis.exceptions import TimeoutError as RedisTimeoutError

from weave_runtime.options import hide_password
from weave_runtime.store.protocol import StoreError

if TYPE_CHECKING:
    from collections.abc import Callable

    from weave_runtime.store.protocol import Batch

log = logging.getLogger(__name__)

_TIMEOUT_S = 5.0
_RETRIES = 3
# Without these a write that was answered can be lost.
_NEEDED = {"appendonly": "yes", "appendfsync": "always", "no-appendfsync-on-rewrite": "no"}


class RedisBackend:
    """Entries in the hash `weave:<owner>:state`."""

    def __init__(
        self, url: str, owner: str, is_last_life: Callable[[], bool] = lambda: False
    ) -> None:
        self._is_last_life = is_last_life
        self.name = hide_password(url)
        self._key = f"weave:{owner}:state"
        try:
            self._client: Any = Redis.from_url(
                url,
                socket_timeout=_TIMEOUT_S,
                socket_connect_timeout=_TIMEOUT_S,
                retry=Retry(ExponentialBackoff(cap=1.0, base=0.05), _RETRIES),
                retry_on_error=[RedisConnectionError, RedisTimeoutError],
            )
        except ValueError as error:
            raise StoreError(f"{self.name} is no Redis URL: {error}") from None

    @classmethod
    async def open(
        cls, url: str, owner: str, is_last_life: Callable[[], bool] = lambda: False
    ) -> Self:
        """Connects and checks that Redis is durable. Raises StoreError naming what is not."""
        self = cls(url, owner, is_last_life)
        try:
            found: dict[str, str] = {}
            for setting in _NEEDED:
                found |= {
                    _text(key): _text(value)
                    for key, value in (await self._client.config_get(setting)).items()
                }
            wrong = [f"{key} {value}" for key, value in _NEEDED.items() if found.get(key) != value]
            if wrong:
                raise StoreError(f"{self.name} would lose state: set {', '.join(wrong)} there")
        except RedisError as error:
            await self.close()
            raise StoreError(f"{self.name}: {error}") from None
        except BaseException:
            await self.close()
            raise
        return self

    async def read(self, prefix: str) -> dict[str, bytes]:
        entries = await self._client.hgetall(self._key)
        found = {key.decode(): value for key, value in entries.items()}
        return {key: value for key, value in found.items() if key.startswith(prefix)}

    async def write(self, batch: Batch) -> None:
        changed = {key: value for key, value in batch.items() if value is not None}
        removed = [key for key, value in batch.items() if value is None]
        async with self._client.pipeline(transaction=True) as transaction:
            if changed:
                transaction.hset(self._key, mapping=changed)
            if removed:
                transaction.hdel(self._key, *removed)
            await transaction.execute()

    async def close(self) -> None:
        if self._is_last_life():
            try:
                await self._client.delete(self._key)
            except RedisError as error:
                log.warning("%s keeps the state of an uninstalled service: %s", self.name, error)
        await self._client.aclose()


def _text(value: bytes | str) -> str:
    return value.decode() if isinstance(value, bytes) else value
