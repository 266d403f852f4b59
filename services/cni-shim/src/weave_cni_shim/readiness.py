"""Would an ADD succeed now? One truth for STATUS, the conflist, probes and status."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import Awaitable, Callable, Sequence

from weave_cni_shim.install import Conflist
from weave_model.errors import DomainError

# While all is well: what is on this host.
PERIOD_READY_S = 10.0
# The services are asked more seldom: they tell themselves when they are no longer ready (`doubt`),
# and each question wakes the threads of three processes for seconds. One that hangs tells nothing.
PERIODS_PER_QUESTION = 3
# People wait for a node to become ready.
PERIOD_NOT_READY_S = 0.25
# Without a conflist a kubelet declares the node not ready, and every pod on it leaves its Services,
# though their packets still pass. A service that restarts takes less than this.
PATIENCE_S = 3.0

log = logging.getLogger(__name__)


class Readiness:
    """Asks the services an ADD needs, and keeps the conflist's presence true.

    The conflist appears when an ADD would succeed, and goes when none has been possible for
    `patience_s`. It stays when the process ends: its successor judges anew. `on_ready` is called
    each time an ADD becomes possible.
    """

    def __init__(
        self,
        questions: Sequence[Callable[[], Awaitable[str]]],
        conflist: Conflist,
        *,
        local: Sequence[Callable[[], Awaitable[str]]] = (),
        on_ready: Callable[[], None] = lambda: None,
        patience_s: float = PATIENCE_S,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._questions = (*questions, *local)
        self._local = local
        self._conflist = conflist
        self._on_ready = on_ready
        self._patience_s = patience_s
        self._clock = clock
        self._doubt = asyncio.Event()
        self._last = ["starting"]
        self._ended = ""
        # A publication under way must not come after the last withdrawal.
        self._showing = asyncio.Lock()

    @property
    def last(self) -> list[str]:
        """The reasons as of the last time somebody asked."""
        return self._last

    def doubt(self) -> None:
        """Something failed or changed: the next judgement comes at once."""
        self._doubt.set()

    async def reasons(self) -> list[str]:
        """Why an ADD would fail now, one sentence each; empty: it would succeed."""
        if self._ended:
            self._last = [self._ended]
            return self._last
        return await self._answers(self._questions)

    async def end(self, reason: str) -> None:
        """No ADD succeeds any more, for this reason, and the conflist is gone when this returns."""
        self._ended = reason
        async with self._showing:
            await asyncio.to_thread(self._conflist.withdraw)
        self.doubt()

    async def run(self) -> None:
        """Shows the truth by the conflist, for ever."""
        shown: list[str] | None = None
        unready_since: float | None = None
        periods = 0
        while True:
            periods = 0 if self._doubt.is_set() else (periods + 1) % PERIODS_PER_QUESTION
            self._doubt.clear()
            is_local = periods > 0 and shown == []
            reasons = await (self._answers(self._local) if is_local else self.reasons())
            if not reasons:
                unready_since = None
                reasons = await self._publish_unless_ended()
            elif unready_since is None:
                unready_since = self._clock()
            if unready_since is not None and self._clock() - unready_since >= self._patience_s:
                await asyncio.to_thread(self._conflist.withdraw)
            if reasons != shown:
                shown = reasons
                if reasons:
                    log.warning("not ready: %s", "; ".join(reasons))
                else:
                    log.info("ready: ADD succeeds from now on")
                    self._on_ready()
            period_s = PERIOD_NOT_READY_S if reasons else PERIOD_READY_S
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(period_s):
                    await self._doubt.wait()

    async def _answers(self, questions: Sequence[Callable[[], Awaitable[str]]]) -> list[str]:
        answers = await asyncio.gather(*(_ask(question) for question in questions))
        self._last = [answer for answer in answers if answer]
        return self._last

    async def _publish_unless_ended(self) -> list[str]:
        async with self._showing:
            if self._ended:
                return await self.reasons()
            return await asyncio.to_thread(self._published)

    def _published(self) -> list[str]:
        """Publishes the conflist; what stopped that is one more reason."""
        try:
            self._conflist.publish()
        except DomainError as error:
            self._last = [str(error)]
        return self._last


async def _ask(question: Callable[[], Awaitable[str]]) -> str:
    try:
        return await question()
    except DomainError as error:
        return str(error)
