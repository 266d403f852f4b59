"""Peers and targets out of reach, and when one of them is tried again.

One is tried now and then whatever its back-off says, the more rarely the longer the last one is
gone. This mends a split, as peers with all the links they want dial nobody else.
"""

from __future__ import annotations

from random import Random

from weave_gossip.core.dialling import Dialler
from weave_gossip.core.directory import Directory
from weave_gossip.core.options import MeshOptions
from weave_gossip.core.topology import Topology
from weave_model.peer import PeerName

# A tenth of the time that a peer is gone, so that a split ends soon after its cause, measured by
# how long that lasted. Not so often that it costs anything, nor more seldom than any address is
# tried.
REJOIN_FRACTION = 0.1
REJOIN_MIN_S = 3.0
REJOIN_MAX_S = 360.0


class Absence:
    """Who is away, and since when."""

    def __init__(
        self,
        options: MeshOptions,
        rng: Random,
        topology: Topology,
        directory: Directory,
        dialler: Dialler,
        now: float,
    ) -> None:
        self.since: dict[PeerName, float] = {}
        # When somebody is to be tried next.
        self.due = now + REJOIN_MIN_S * rng.uniform(0.5, 1.5)
        self._options = options
        self._rng = rng
        self._topology = topology
        self._directory = directory
        self._dialler = dialler
        self._started = now

    def begins(self, peer: PeerName, now: float) -> None:
        """No path leads to a known peer any more."""
        self.since.setdefault(peer, now)
        self.due = min(self.due, now + self._wait(now))

    def ends(self, peer: PeerName) -> None:
        """It is back, or removed."""
        self.since.pop(peer, None)

    def pick(self, now: float) -> str:
        """A random address that should lead to somebody out of reach, empty if there is none."""
        self.due = now + self._wait(now)
        away = [address for address in self._dialler.direct if self._is_lost(address)]
        if self._options.discovery:
            away += [each for peer in self.since for each in self._directory.addresses(peer)]
        return self._rng.choice(away) if away else ""

    def _wait(self, now: float) -> float:
        last = max(self.since.values(), default=self._started)
        wait = min(max((now - last) * REJOIN_FRACTION, REJOIN_MIN_S), REJOIN_MAX_S)
        return wait * self._rng.uniform(0.5, 1.5)

    def _is_lost(self, address: str) -> bool:
        """Whether a direct target leads to nobody we reach, as far as we know."""
        target = self._dialler.target(address)
        peer = target.peer if target.peer is not None else self._directory.at(address)
        return peer is None or not self._topology.is_reachable(peer)
