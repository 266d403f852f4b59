"""One kind of probes on the wire: a prober, the socket it uses, and how it is woken."""

from __future__ import annotations

import asyncio
import logging
import random
import time
from collections.abc import Callable, Iterable, Mapping
from typing import Protocol

from weave_model.peer import PeerName
from weave_router.core.prober import Prober, Target, Verdict

# Probes that are due within this time of each other are sent together.
_QUANTUM_S = 0.02

log = logging.getLogger(__name__)


class Echo(Protocol):
    """Sends probes and hears their echoes; see `kernel.echo.EchoSocket`."""

    def fileno(self) -> int: ...

    def send(self, target: Target, size: int, token: int) -> None: ...

    def received(self) -> Iterable[int]: ...

    def close(self) -> None: ...


class Probing:
    """Probes targets and tells when a verdict changes. Belongs to one event loop."""

    def __init__(
        self,
        echo: Echo,
        on_change: Callable[[], None],
        *,
        clock: Callable[[], float] = time.monotonic,
        rng: random.Random | None = None,
    ) -> None:
        self._echo = echo
        self._on_change = on_change
        self._clock = clock
        # Tokens must not be guessed by whoever would like to answer for a peer.
        self._prober = Prober(rng or random.SystemRandom())
        self._wake = asyncio.Event()
        self._told = 0

    def follow(self, targets: Mapping[PeerName, Target]) -> None:
        """Probes exactly these from now on."""
        self._prober.follow(targets, self._clock())
        self._wake.set()

    def verdicts(self) -> dict[PeerName, Verdict]:
        """What is known of all targets."""
        return self._prober.verdicts()

    async def run(self) -> None:
        """Probes for ever; closes the socket at the end."""
        loop = asyncio.get_running_loop()
        loop.add_reader(self._echo.fileno(), self._hear)
        try:
            while True:
                self._wake.clear()
                self._send()
                next_at = self._prober.next_at()
                alarm = None
                if next_at is not None:
                    pause_s = max(_QUANTUM_S, next_at - self._clock())
                    alarm = loop.call_later(pause_s, self._wake.set)
                await self._wake.wait()
                if alarm is not None:
                    alarm.cancel()
        finally:
            loop.remove_reader(self._echo.fileno())
            self._echo.close()

    def _send(self) -> None:
        now = self._clock()
        # What waits in the socket is no loss, however late this process is.
        self._hear()
        for probe in self._prober.due(now):
            try:
                self._echo.send(probe.target, probe.size, probe.token)
            except OSError as error:
                log.debug("not probed", extra={"peer": str(probe.peer), "reason": str(error)})
        self._tell()

    def _hear(self) -> None:
        now, before = self._clock(), self._prober.next_at()
        for token in self._echo.received():
            self._prober.answered(token, now)
        after = self._prober.next_at()
        if after is not None and (before is None or after < before):
            self._wake.set()
        self._tell()

    def _tell(self) -> None:
        if self._prober.changes != self._told:
            self._told = self._prober.changes
            self._on_change()
