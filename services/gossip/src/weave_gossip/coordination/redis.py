"""Coordination in one Redis hash, for clusters whose peers share a Redis.

The hash holds all entries of the cluster, each as "revision:value"; a script swaps them atomically
and publishes the key. A publication may be lost, so followers also read the hash every now and
then. Imports `redis`, several megabytes: import this module only when a redis:// address is set.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping
from contextlib import suppress
from typing import Any

import redis.asyncio
from redis.exceptions import RedisError, ResponseError

from weave_gossip.coordination.backend import MAX_ENTRIES, Entry, check_limits
from weave_gossip.errors import CoordinationAwayError, RevisionConflictError
from weave_gossip.reasons import words_of
from weave_model.errors import Exhausted
from weave_runtime.logs import once_per
from weave_runtime.watch import Table

log = logging.getLogger(__name__)
# A Redis that is away for a day is said once a minute.
log.addFilter(once_per(60))

# A caller waits this long for a Redis that is away; ipam's own deadlines are longer.
TIMEOUT_S = 3.0
# Bounds how late a lost publication is noticed.
RESYNC_S = 10.0
# After the connection broke: short enough to be unnoticed, long enough to spare a Redis that
# starts.
RETRY_S = 1.0

# Without these a value that was answered can be lost with the machine.
_NEEDED = {"appendonly": "yes", "appendfsync": "always"}

_SWAP = """
local entry = redis.call('HGET', KEYS[1], ARGV[1])
local present = 0
if entry then present = tonumber(string.match(entry, '^(%d+):')) end
if present ~= tonumber(ARGV[2]) then return {'conflict', present} end
if not entry and redis.call('HLEN', KEYS[1]) >= tonumber(ARGV[4]) then return {'full', present} end
redis.call('HSET', KEYS[1], ARGV[1], string.format('%d', present + 1) .. ':' .. ARGV[3])
redis.call('PUBLISH', KEYS[1], ARGV[1])
return {'written', present + 1}
"""


class RedisCoordination:
    """See Coordination. `address`: redis://[user:password@]host[:port][/database]."""

    def __init__(self, address: str, cluster_id: str, *, resync_s: float = RESYNC_S) -> None:
        self._redis: Any = redis.asyncio.Redis.from_url(
            address, socket_timeout=TIMEOUT_S, socket_connect_timeout=TIMEOUT_S
        )
        # The password may stand in the address: only host and port are ever shown.
        settings = self._redis.connection_pool.connection_kwargs
        self._place = (
            f"redis at {settings.get('host', settings.get('path'))}:{settings.get('port', '')}"
        )
        self._key = f"weave:{cluster_id}:coordination"
        self._resync_s = resync_s
        self._entries: Table[str, Entry] = Table()
        self._serial = asyncio.Lock()

    @property
    def entries(self) -> Table[str, Entry]:
        """See Coordination."""
        return self._entries

    async def get(self, key: str) -> Entry | None:
        """See Coordination."""
        return (await self._refresh()).get(key)

    async def compare_and_swap(self, key: str, expected_revision: int, value: bytes) -> int:
        """See Coordination. As durable as the Redis: it should have appendfsync always."""
        check_limits(key, value)
        try:
            outcome, revision = await self._redis.eval(
                _SWAP, 1, self._key, key, expected_revision, value, MAX_ENTRIES
            )
        except (RedisError, OSError) as error:
            raise self._away(error) from error
        if outcome == b"conflict":
            raise RevisionConflictError(key, expected_revision, revision)
        if outcome == b"full":
            raise Exhausted(f"{self._place} holds {MAX_ENTRIES} keys, the limit of Coordination")
        # The swap stands whatever happens to this read; the follower repeats it.
        with suppress(CoordinationAwayError):
            await self._refresh()
        return int(revision)

    async def follow(self) -> None:
        """See Coordination."""
        while True:
            try:
                async with self._redis.pubsub() as changes:
                    await changes.subscribe(self._key)
                    _honour_cancellation()
                    await self._check_durability()
                    await self._refresh_at_each(changes)
            except (RedisError, OSError, CoordinationAwayError) as error:
                away = error if isinstance(error, CoordinationAwayError) else self._away(error)
                log.warning("%s", away)
            await asyncio.sleep(RETRY_S)

    async def close(self) -> None:
        """See Coordination."""
        await self._redis.aclose()

    async def _check_durability(self) -> None:
        """Says so where a fence that was answered could be lost; a managed Redis may not tell."""
        wrong = []
        for setting, needed in _NEEDED.items():
            with suppress(ResponseError):
                found = (await self._redis.config_get(setting)).values()
                if any(_text(value) != needed for value in found):
                    wrong.append(f"{setting} {needed}")
        if wrong:
            log.warning("%s may lose agreed values: set %s", self._place, ", ".join(wrong))

    async def _refresh_at_each(self, changes: Any) -> None:
        """Reads the hash at each publication, and when there was none for a while."""
        publication: asyncio.Future[Any] | None = None
        try:
            while True:
                await self._refresh()
                _honour_cancellation()
                # Not get_message's own timeout: with it, too, cancellations get lost.
                publication = publication or asyncio.ensure_future(
                    changes.get_message(ignore_subscribe_messages=True, timeout=None)
                )
                done, _ = await asyncio.wait({publication}, timeout=self._resync_s)
                if done:
                    publication.result()
                    publication = None
        finally:
            if publication is not None:
                publication.cancel()
                await asyncio.wait({publication})

    async def _refresh(self) -> dict[str, Entry]:
        async with self._serial:
            try:
                raw = await self._redis.hgetall(self._key)
            except (RedisError, OSError) as error:
                raise self._away(error) from error
            try:
                entries = _decode(raw)
            except ValueError as error:
                raise CoordinationAwayError(
                    f"{self._place}: the hash {self._key!r} holds something else ({error})"
                ) from error
            self._entries.replace(entries)
            self._entries.complete()
        return entries

    def _away(self, error: Exception) -> CoordinationAwayError:
        return CoordinationAwayError(f"{self._place}: {words_of(error)}")


def _honour_cancellation() -> None:
    """With Python 3.11.2 the Redis client loses a cancellation that hits its read timeout."""
    task = asyncio.current_task()
    if task is not None and task.cancelling():
        raise asyncio.CancelledError


def _text(value: bytes | str) -> str:
    return value.decode() if isinstance(value, bytes) else value


def _decode(raw: Mapping[bytes, bytes]) -> dict[str, Entry]:
    entries = {}
    for key, field in raw.items():
        revision, separator, value = field.partition(b":")
        if not separator:
            raise ValueError(f"field {key!r}")
        entries[key.decode()] = Entry(int(revision), value)
    return entries
