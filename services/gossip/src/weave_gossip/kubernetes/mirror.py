"""Keeps a copy of some objects in step: list, then watch, again and again."""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Callable
from contextlib import aclosing
from typing import Generic, TypeVar

from weave_gossip.kubernetes.api import ApiAway, ApiClient, ApiRefused, Object
from weave_runtime.logs import once_per

log = logging.getLogger(__name__)
# An API server that is away for a day is said once a minute.
log.addFilter(once_per(60))

# Many agents lose one API server at once: they come back spread over this much.
FIRST_RETRY_S = 1.0
LONGEST_RETRY_S = 30.0
_GONE = 410

T = TypeVar("T")


class Mirror(Generic[T]):
    """What `parse` makes of each object, by name.

    `changed` is called with all of it whenever the copy is whole and new, `away` whenever the API
    server could not be reached.
    """

    def __init__(
        self,
        api: ApiClient,
        path: str,
        parse: Callable[[Object], T],
        changed: Callable[[dict[str, T]], None],
        rng: random.Random,
        away: Callable[[], None] = lambda: None,
    ) -> None:
        self._api = api
        self._path = path
        self._parse = parse
        self._changed = changed
        self._rng = rng
        self._away = away
        self._delay_s = FIRST_RETRY_S

    async def run(self) -> None:
        """Follows until cancelled; outlives the absence of the API server."""
        while True:
            try:
                await self._follow()
            except (ApiAway, ApiRefused) as error:
                if isinstance(error, ApiRefused) and error.status == _GONE:
                    continue
                if isinstance(error, ApiAway):
                    self._away()
                log.warning("%s", error)
                await asyncio.sleep(self._delay_s * (0.5 + self._rng.random()))
                self._delay_s = min(self._delay_s * 2, LONGEST_RETRY_S)

    async def _follow(self) -> None:
        """From a list to the end of the last watch that could go on from it."""
        items, version = await self._api.list_as(self._path, self._named)
        objects: dict[str, T] = dict(items)
        self._changed(objects)
        while True:
            self._delay_s = FIRST_RETRY_S
            async with aclosing(self._api.watch(self._path, version)) as events:  # type: ignore[type-var]
                async for event in events:
                    version = event.item["metadata"]["resourceVersion"]
                    if event.kind == "DELETED":
                        objects.pop(_name(event.item), None)
                    elif event.kind in ("ADDED", "MODIFIED"):
                        name, parsed = self._named(event.item)
                        if name in objects and objects[name] == parsed:
                            continue
                        objects[name] = parsed
                    else:
                        continue
                    self._changed(objects)

    def _named(self, item: Object) -> tuple[str, T]:
        return _name(item), self._parse(item)


def _name(item: Object) -> str:
    return str(item["metadata"]["name"])
