"""An event source that is read once what happened has settled.

A change is rarely one event: an attach alone is a dozen. Read one by one they would wake the loop
that often, and a pod may change its network without end.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from weave_router.kernel.api import Concern, EventSource


class Settled:
    """Reads `source` at most every `settle_s` seconds and tells what was read. Belongs to one
    event loop."""

    def __init__(
        self,
        source: EventSource,
        settle_s: float,
        tell: Callable[[Concern], None],
        *,
        reads_on: bool,
    ) -> None:
        """`reads_on`: what was too much for one turn of the loop is read in the next ones. Not for
        sources that somebody else may keep full."""
        self._source = source
        self._settle_s = settle_s
        self._tell = tell
        self._reads_on = reads_on
        self._next: asyncio.Handle | None = None
        self._listen()

    def is_in_doubt(self) -> bool:
        """See `EventSource`."""
        return self._source.is_in_doubt()

    def close(self) -> None:
        """Ends it, and the source."""
        asyncio.get_running_loop().remove_reader(self._source.fileno())
        if self._next is not None:
            self._next.cancel()
        self._source.close()

    def _listen(self) -> None:
        asyncio.get_running_loop().add_reader(self._source.fileno(), self._on_event)

    def _on_event(self) -> None:
        loop = asyncio.get_running_loop()
        loop.remove_reader(self._source.fileno())
        self._next = loop.call_later(self._settle_s, self._on_settled)

    def _on_settled(self) -> None:
        self._next = None
        concern = Concern.NOTHING
        try:
            concern = self._source.read()
        finally:
            if self._reads_on and Concern.MORE in concern:
                self._next = asyncio.get_running_loop().call_soon(self._on_settled)
            else:
                self._listen()
        self._tell(concern)
