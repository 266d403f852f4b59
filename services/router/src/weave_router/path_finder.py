"""Probes the tunnels to all peers, chooses the paths, and knows what other nodes may hear of it."""

from __future__ import annotations

import asyncio
import logging
import random
import time
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from typing import Protocol

from weave_model.peer import PeerName
from weave_model.prefix import Family
from weave_router.core import path_choice, tunnels
from weave_router.core.inputs import Path
from weave_router.core.path_choice import Reach
from weave_router.core.prober import Prober, Target, Verdict
from weave_router.node import Node

# RFC 791: every IPv4 link carries this much of a datagram in one piece or several.
_MIN_IPV4_MTU = 576
# Probes that are due within this time of each other are sent together.
_QUANTUM_S = 0.02
# More changes at a time than these have one cause, and get one line.
_MAX_LINES = 8

log = logging.getLogger(__name__)


class Echo(Protocol):
    """Sends probes and hears their echoes; see `kernel.echo.EchoSocket`."""

    def fileno(self) -> int: ...

    def send(self, peer: PeerName, link: str, size: int, token: int) -> None: ...

    def received(self) -> Iterable[int]: ...

    def close(self) -> None: ...


class PathFinder:
    """Keeps `node.paths` and `node.verdicts`. Belongs to one event loop."""

    def __init__(
        self,
        node: Node,
        echo: Echo,
        on_chosen: Callable[[], None],
        *,
        clock: Callable[[], float] = time.monotonic,
        rng: random.Random | None = None,
    ) -> None:
        self._node = node
        self._echo = echo
        self._on_chosen = on_chosen
        self._clock = clock
        # Tokens must not be guessed by whoever would like to answer for a peer.
        self._prober = Prober(rng or random.SystemRandom())
        self._wake = asyncio.Event()
        self._facts_changed = True
        self._seen = -1

    def refresh(self) -> None:
        """The node's facts have changed. Idempotent; never blocks."""
        self._facts_changed = True
        self._wake.set()

    def reach(self) -> Reach | None:
        """What other nodes may know; None: not enough is known yet."""
        node = self._node
        if self._facts_changed or node.peers is None or node.lacks():
            return None
        return path_choice.own_reach(node.verdicts, node.present)

    async def run(self) -> None:
        """Probes for ever; closes the socket at the end."""
        loop = asyncio.get_running_loop()
        loop.add_reader(self._echo.fileno(), self._hear)
        try:
            while True:
                self._wake.clear()
                pause_s = self._step()
                try:
                    async with asyncio.timeout(pause_s):
                        await self._wake.wait()
                except TimeoutError:
                    pass
        finally:
            loop.remove_reader(self._echo.fileno())
            self._echo.close()

    def _step(self) -> float | None:
        """All that is to be done now; when to come back."""
        prober, now = self._prober, self._clock()
        is_changed, self._facts_changed = self._facts_changed, False
        if is_changed:
            prober.follow(self._targets(), now)
        # What waits in the socket is no loss, however late this process is.
        self._hear()
        for probe in prober.due(now):
            try:
                self._echo.send(probe.peer, probe.link, probe.size, probe.token)
            except OSError as error:
                log.debug("not probed", extra={"peer": str(probe.peer), "reason": str(error)})
        if is_changed or prober.changes != self._seen:
            self._seen = prober.changes
            self._decide()
        next_at = prober.next_at()
        return None if next_at is None else max(_QUANTUM_S, next_at - self._clock())

    def _hear(self) -> None:
        now, before = self._clock(), self._prober.next_at()
        for token in self._echo.received():
            self._prober.answered(token, now)
        after = self._prober.next_at()
        is_sooner = after is not None and (before is None or after < before)
        if is_sooner or self._prober.changes != self._seen:
            self._wake.set()

    def _targets(self) -> dict[PeerName, Target]:
        node = self._node
        if node.lacks() or node.peers is None:
            return {}
        options = node.options()
        floor = tunnels.MIN_IPV6_MTU if Family.IPV6 in node.families else _MIN_IPV4_MTU
        mtus = {d.name: d.mtu for d in tunnels.devices(options) if tunnels.carries_probes(d)}
        targets = {}
        for peer in node.peers:
            end = tunnels.tunnel_to(options, peer)
            if peer.name == node.name or end is None or end[0] not in mtus:
                continue
            endpoint = node.endpoints.get(peer.name)
            ceiling = min(mtus[end[0]], endpoint.mtu or mtus[end[0]] if endpoint else 1 << 16)
            targets[peer.name] = Target(end[0], min(floor, ceiling), ceiling)
        return targets

    def _decide(self) -> None:
        node = self._node
        if node.name is None:
            return
        verdicts = self._prober.verdicts()
        _log_mtus(node.verdicts, verdicts)
        node.verdicts = verdicts
        chosen = path_choice.choose(node.name, verdicts, node.reaches, node.present, node.paths)
        if chosen != node.paths:
            node.path_changes += _log_paths(node.paths, chosen)
            node.paths = chosen
            self._on_chosen()


def _log_mtus(before: Mapping[PeerName, Verdict], after: Mapping[PeerName, Verdict]) -> None:
    for peer, verdict in after.items():
        known = before.get(peer, Verdict())
        if verdict.mtu and verdict.mtu != known.mtu:
            log.info("->[%s]: Effective MTU verified at %d", peer, verdict.mtu)
        if verdict.too_small and not known.too_small:
            log.warning("->[%s]: not even the smallest MTU of the overlay passes", peer)


def _log_paths(before: Mapping[PeerName, Path], after: Mapping[PeerName, Path]) -> int:
    """Says what has changed; returns how much has."""
    changes = {
        peer: path_choice.describe(path)
        for peer, path in after.items()
        if path != before.get(peer, Path())
    }
    if len(changes) <= _MAX_LINES:
        for peer, words in changes.items():
            log.info("->[%s]: using %s", peer, words)
    else:
        for words, count in Counter(changes.values()).most_common(_MAX_LINES):
            log.info("->[%d peers]: using %s", count, words)
    return len(changes)
