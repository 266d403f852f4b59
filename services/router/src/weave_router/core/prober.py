"""Probes of all peers' tunnels: when which one is due, and what the answers say. No I/O, no clock.

Each peer has small probes (is it there?) and, while it is, full ones (how much passes?). The rate
is bounded for the node, not for the peer: see docs/adr/0008.
"""

from __future__ import annotations

import heapq
import random
from collections.abc import Mapping
from dataclasses import dataclass, field

from weave_model.peer import PeerName
from weave_model.prefix import Prefix
from weave_router.core.liveness import MAX_TIMEOUT_S, Liveness, State
from weave_router.core.path_mtu import PathMtu

# Of a path that is up, while there are few of them; with more the rate below is what counts.
INTERVAL_S = 2.0
# Small probes of one node in a second. Some 40 us of CPU each.
RATE = 20.0
# IP, ICMP echo and the token.
SMALL_BYTES = 64
# Later answers say nothing about the path as it is.
_MAX_AGE_S = 2 * MAX_TIMEOUT_S
TOKEN_BITS = 64


@dataclass(frozen=True, slots=True)
class Target:
    """Where probes of a peer go: the device, the address behind it, and what the path may carry, in
    bytes. They come from `source`; None: from the device's own address."""

    link: str
    address: Prefix
    floor: int
    ceiling: int
    source: Prefix | None = None


@dataclass(frozen=True, slots=True)
class Probe:
    """A packet of `size` bytes. `token` returns with it."""

    peer: PeerName
    target: Target
    size: int
    token: int


@dataclass(frozen=True, slots=True)
class Verdict:
    """What the probes of one peer say."""

    state: State = State.UNKNOWN
    rtt_s: float = 0.0
    # Verified; 0: not yet.
    mtu: int = 0
    # What both ends could carry.
    limit: int = 0
    # Not even the smallest MTU that the overlay may have passes.
    too_small: bool = False


@dataclass(slots=True)
class _Path:
    target: Target
    liveness: Liveness
    mtu: PathMtu
    # Of the queue's entry that counts; none yet.
    next_at: float = -1.0

    @property
    def standing(self) -> tuple[State, int, bool]:
        """What a choice depends on."""
        return self.liveness.state, self.mtu.mtu, self.mtu.too_small


@dataclass(slots=True)
class _Sent:
    peer: PeerName
    size: int
    at: float


@dataclass(slots=True)
class Prober:
    """Probes as many peers as there are. Times are seconds of any steady clock."""

    rng: random.Random
    _paths: dict[PeerName, _Path] = field(default_factory=dict)
    _sent: dict[int, _Sent] = field(default_factory=dict)
    # Time and peer; an entry that is not its path's next one is void.
    _queue: list[tuple[float, PeerName]] = field(default_factory=list)
    # How often a verdict has changed but for its RTT.
    changes: int = 0

    @property
    def interval_s(self) -> float:
        """Between small probes of one peer."""
        return max(INTERVAL_S, len(self._paths) / RATE)

    def follow(self, targets: Mapping[PeerName, Target], now: float) -> None:
        """Probes exactly these peers from now on; one with other properties begins anew."""
        for peer in self._paths.keys() - targets.keys():
            del self._paths[peer]
            self.changes += 1
        fresh = {p: t for p, t in targets.items() if self._target(p) != t}
        spread_s = len(fresh) / RATE
        for peer, target in fresh.items():
            first_at = now + self.rng.uniform(0, spread_s)
            liveness = Liveness(self.rng, first_at)
            known = self._paths.get(peer)
            if known is not None and (known.target.link, known.target.address) == (
                target.link,
                target.address,
            ):
                liveness = known.liveness
            mtu = PathMtu(self.rng, target.floor, target.ceiling, now)
            self._paths[peer] = _Path(target, liveness, mtu)
            self._schedule(peer)

    def due(self, now: float) -> list[Probe]:
        """The probes to send now. All answers that have arrived are to be told before."""
        probes: list[Probe] = []
        while self._queue and self._queue[0][0] <= now:
            at, peer = heapq.heappop(self._queue)
            path = self._paths.get(peer)
            if path is not None and path.next_at == at:
                was = path.standing
                probes += self._due_of(peer, path, now)
                self.changes += path.standing != was
                self._schedule(peer)
        self._forget(now)
        return probes

    def next_at(self) -> float | None:
        """When something is due; None: never."""
        return self._queue[0][0] if self._queue else None

    def answered(self, token: int, now: float) -> None:
        """A probe came back. Unknown tokens are passed over."""
        sent = self._sent.pop(token, None)
        path = self._paths.get(sent.peer) if sent is not None else None
        if sent is None or path is None:
            return
        was, before = path.liveness.state, path.standing
        if sent.size == SMALL_BYTES:
            path.liveness.answered(now, now - sent.at, self.interval_s)
            if was is State.DOWN and path.liveness.state is State.UP:
                path.mtu.restart(now)
        else:
            path.mtu.answered(sent.size, now, self.interval_s)
        self.changes += path.standing != before
        self._schedule(sent.peer)

    def verdicts(self) -> dict[PeerName, Verdict]:
        """What is known of all peers."""
        return {
            peer: Verdict(
                path.liveness.state,
                path.liveness.rtt_s,
                path.mtu.mtu,
                path.mtu.limit,
                path.mtu.too_small,
            )
            for peer, path in self._paths.items()
        }

    def _target(self, peer: PeerName) -> Target | None:
        path = self._paths.get(peer)
        return path.target if path is not None else None

    def _due_of(self, peer: PeerName, path: _Path, now: float) -> list[Probe]:
        probes = []
        if path.liveness.poll(now, self.interval_s):
            probes.append(self._probe(peer, path, SMALL_BYTES, now))
        if path.liveness.state is State.UP:
            size = path.mtu.poll(now, self.interval_s)
            if size:
                probes.append(self._probe(peer, path, size, now))
        return probes

    def _probe(self, peer: PeerName, path: _Path, size: int, now: float) -> Probe:
        token = self.rng.getrandbits(TOKEN_BITS)
        self._sent[token] = _Sent(peer, size, now)
        return Probe(peer, path.target, size, token)

    def _schedule(self, peer: PeerName) -> None:
        path = self._paths[peer]
        at = path.liveness.next_at
        if path.liveness.state is State.UP:
            at = min(at, path.mtu.next_at)
        if at != path.next_at:
            path.next_at = at
            heapq.heappush(self._queue, (at, peer))

    def _forget(self, now: float) -> None:
        for token, sent in list(self._sent.items()):
            if now - sent.at <= _MAX_AGE_S:
                break
            del self._sent[token]
