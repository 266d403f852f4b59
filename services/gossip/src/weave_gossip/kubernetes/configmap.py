"""Coordination in one ConfigMap, which agents make on demand and Helm does not own.

Every key of Coordination is one of the ConfigMap's `data`, with characters that Kubernetes does not
allow there written as `_` and two hexadecimal digits; its value is "revision:base64". A write names
the resource version it was made from, so that of two writers one is refused and looks again.

While the API server is away nothing changes: reads are then answered as was last seen.
"""

from __future__ import annotations

import asyncio
import base64
import logging
import random
import re
from collections.abc import Mapping

from weave_gossip.coordination.backend import MAX_ENTRIES, Entry, check_limits
from weave_gossip.errors import CoordinationAwayError, RevisionConflictError
from weave_gossip.kubernetes.api import ApiAway, ApiClient, ApiRefused, Object
from weave_gossip.kubernetes.kept import KeptEntries
from weave_gossip.kubernetes.mirror import Mirror
from weave_model.errors import Exhausted, Invalid
from weave_runtime.store import StoreError
from weave_runtime.watch import Table

log = logging.getLogger(__name__)

# Other keys of the same ConfigMap change at the same time when a whole cluster starts.
MAX_TRIES = 20
RETRY_S = 0.1
# A disk that is full stays so for a while.
KEEP_AGAIN_S = 10.0
# Kubernetes' limit for a key (IsConfigMapKey).
MAX_DATA_KEY = 253
_NOT_FOUND, _CONFLICT, _TOO_LARGE, _UNPROCESSABLE = 404, 409, 413, 422
_PLAIN = re.compile(r"[^A-Za-z0-9.-]")
_ESCAPE = re.compile(r"_([0-9a-f]{2})")


class _Away(CoordinationAwayError):
    """Nobody answers; nobody can have written either."""


class ConfigMapCoordination:
    """See Coordination."""

    def __init__(
        self,
        api: ApiClient,
        namespace: str,
        name: str,
        rng: random.Random | None = None,
        kept: KeptEntries | None = None,
    ) -> None:
        self._api = api
        self._name = name
        self._place = f"ConfigMap {namespace}/{name}"
        self._folder = f"/api/v1/namespaces/{namespace}/configmaps"
        self._path = f"{self._folder}/{name}"
        # Spreads retries; not for secrets.
        self._rng = rng or random.Random()
        self._entries: Table[str, Entry] = Table()
        self._version = 0
        self._is_shown = False
        self._kept = kept
        self._last_seen: dict[str, Entry] | None = None
        self._seen_anew = asyncio.Event()

    @property
    def entries(self) -> Table[str, Entry]:
        """See Coordination."""
        return self._entries

    async def get(self, key: str) -> Entry | None:
        """See Coordination."""
        try:
            found = await self._read()
        except _Away:
            if self._last_seen is None:
                raise
            return self._last_seen.get(key)
        return self._decoded(found).get(key)

    async def compare_and_swap(self, key: str, expected_revision: int, value: bytes) -> int:
        """See Coordination. Durable: the API server answers when etcd has it."""
        check_limits(key, value)
        data_key = encode_key(key)
        for _ in range(MAX_TRIES):
            found = await self._read()
            entries = self._decoded(found)
            present = entries[key].revision if key in entries else 0
            if present != expected_revision:
                raise RevisionConflictError(key, expected_revision, present)
            if not present and len(entries) >= MAX_ENTRIES:
                raise Exhausted(f"{self._place} holds {MAX_ENTRIES} keys, the limit")
            written = await self._write(found, data_key, Entry(present + 1, value))
            if written is not None:
                self._decoded(written)
                return present + 1
            await asyncio.sleep(RETRY_S * (0.5 + self._rng.random()))
        raise CoordinationAwayError(f"{self._place} is changed by others all the time: try again")

    async def follow(self) -> None:
        """See Coordination."""
        if self._kept and self._last_seen is None:
            self._last_seen = await self._kept.load()
        path = f"{self._folder}?fieldSelector=metadata.name%3D{self._name}"
        mirror = Mirror[Object](
            self._api, path, lambda item: item, self._mirrored, self._rng, self._go_by_last_seen
        )
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(mirror.run())
            tasks.create_task(self._keep_in_step())

    async def close(self) -> None:
        """See Coordination: nothing is held between calls."""

    async def _keep_in_step(self) -> None:
        while True:
            await self._seen_anew.wait()
            self._seen_anew.clear()
            if self._kept is None:
                return
            try:
                await self._kept.save(self._last_seen or {})
            except StoreError as error:
                log.warning("what Coordination holds is not kept: %s", error)
                await asyncio.sleep(KEEP_AGAIN_S)
                self._seen_anew.set()

    def _go_by_last_seen(self) -> None:
        if self._last_seen is None or self._is_shown:
            return
        log.warning("%s: the API server is away, going by what was last seen", self._place)
        self._entries.replace(self._last_seen)
        self._show()

    def _show(self) -> None:
        self._is_shown = True
        self._entries.complete()

    def _see(self, entries: dict[str, Entry]) -> None:
        self._entries.replace(entries)
        if entries != self._last_seen:
            self._last_seen = dict(entries)
            self._seen_anew.set()

    async def _read(self) -> Object | None:
        try:
            return await self._api.request("GET", self._path)
        except ApiAway as error:
            raise _Away(str(error)) from error
        except ApiRefused as error:
            if error.status == _NOT_FOUND:
                return None
            raise CoordinationAwayError(f"{self._place}: {error}") from error

    async def _write(self, found: Object | None, data_key: str, entry: Entry) -> Object | None:
        """The ConfigMap as written; None: somebody else was faster."""
        text = f"{entry.revision}:{base64.b64encode(entry.value).decode()}"
        try:
            if found is None:
                made = {
                    "apiVersion": "v1",
                    "kind": "ConfigMap",
                    "metadata": {"name": self._name, "labels": {"name": "weave-net"}},
                    "data": {data_key: text},
                }
                return await self._api.request("POST", self._folder, made)
            found["data"] = {**(found.get("data") or {}), data_key: text}
            return await self._api.request("PUT", self._path, found)
        except ApiAway as error:
            raise CoordinationAwayError(str(error)) from error
        except ApiRefused as error:
            if error.status in (_CONFLICT, _NOT_FOUND):
                return None
            if error.status in (_TOO_LARGE, _UNPROCESSABLE):
                raise Exhausted(f"{self._place} is full: {error}") from error
            raise CoordinationAwayError(f"{self._place}: {error}") from error

    def _mirrored(self, objects: Mapping[str, Object]) -> None:
        found = objects.get(self._name)
        try:
            self._decoded(found)
        except CoordinationAwayError as error:
            log.warning("%s", error)
            return
        if found is None:
            self._version = 0
            self._see({})
        self._show()

    def _decoded(self, found: Object | None) -> dict[str, Entry]:
        """The entries; shows them to watchers unless they have seen newer ones."""
        if found is None:
            return {}
        entries = {}
        try:
            for data_key, text in (found.get("data") or {}).items():
                revision, _, value = text.partition(":")
                key = decode_key(data_key)
                entries[key] = Entry(int(revision), base64.b64decode(value, validate=True))
            version = int(found["metadata"]["resourceVersion"])
        except (ValueError, KeyError, AttributeError, TypeError) as error:
            raise CoordinationAwayError(
                f"{self._place} holds something else ({error}); it was left as it is: delete it "
                "if nobody needs it"
            ) from error
        if version >= self._version:
            self._version = version
            self._see(entries)
        return entries


def encode_key(key: str) -> str:
    """A key of Coordination as one of a ConfigMap. Raises Invalid when that is too long."""
    encoded = _PLAIN.sub(lambda match: "".join(f"_{b:02x}" for b in match[0].encode()), key)
    if len(encoded) > MAX_DATA_KEY:
        raise Invalid(f"the key {key[:32]!r}... is too long for a ConfigMap")
    return encoded


def decode_key(data_key: str) -> str:
    """What `encode_key` was given."""
    parts = _ESCAPE.split(data_key)
    raw = b"".join(
        bytes([int(part, 16)]) if index % 2 else part.encode() for index, part in enumerate(parts)
    )
    return raw.decode()
