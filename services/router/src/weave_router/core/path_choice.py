"""Which path packets to each peer take, from this node's probes and from what others publish.

Best first: without a tunnel, where both nodes allow it, are on one link, and probes say that it
works; the tunnel, as long as its probes are answered or nothing is known of it; the relay by a
peer that we reach and that says it reaches the target. Where no relay is to be had the tunnel
stays: a probe may lie, and a route to nowhere helps nobody. A relay looks up a table that holds
tunnels only, so packets are relayed once and cannot go round.

What a node publishes are exceptions, so that a thousand peers in order cost a few bytes each.
"""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType

from weave_model.peer import PeerName
from weave_router.core.inputs import Path, PathKind
from weave_router.core.liveness import State
from weave_router.core.prober import Verdict

# Beyond that many a node is cut off itself and of no use as a relay; it keeps the document below
# 5 kB.
MAX_EXCEPTIONS = 256


@dataclass(frozen=True, slots=True)
class Reach:
    """What a router says of its tunnels: all peers are reached, with the MTU that both ends allow,
    but for these; 0: not reached."""

    exceptions: Mapping[PeerName, int] = field(default_factory=dict)
    # False: there are more exceptions than are listed.
    complete: bool = True

    def mtu_to(self, peer: PeerName, limit: int) -> int:
        """What it can pass on to a peer, `limit` at most; 0: nothing."""
        if not self.complete:
            return 0
        return min(limit, self.exceptions.get(peer, limit))


@dataclass(frozen=True, slots=True)
class Direct:
    """A way without a tunnel: the device, and what its probes say."""

    link: str
    verdict: Verdict


NOTHING_DIRECT: Mapping[PeerName, Direct] = MappingProxyType({})


def choose(
    own: PeerName,
    verdicts: Mapping[PeerName, Verdict],
    reaches: Mapping[PeerName, Reach],
    present: Collection[PeerName],
    before: Mapping[PeerName, Path],
    direct: Mapping[PeerName, Direct] = NOTHING_DIRECT,
) -> dict[PeerName, Path]:
    """The path to every peer that is probed.

    `present`: peers with which the mesh has contact; nobody relays to one that is gone. `before`:
    the paths so far, which stand while nothing is known, and break ties. `direct`: those that may
    be reached without a tunnel.
    """
    relays = sorted(p for p, v in verdicts.items() if _is_good(v) and p in reaches)
    paths = {}
    for peer, verdict in verdicts.items():
        was = before.get(peer, Path())
        way = direct.get(peer)
        if way is not None and _is_direct(way.verdict, was):
            mtu = _route_mtu(way.verdict, was, PathKind.DIRECT)
            tunnel_mtu = _route_mtu(verdict, was, PathKind.VXLAN)
            paths[peer] = Path(PathKind.DIRECT, None, way.link, mtu, tunnel_mtu)
        else:
            if was.kind is PathKind.DIRECT:
                was = Path()
            paths[peer] = _choose_one(own, peer, verdicts, reaches, relays, present, was)
    return paths


def own_reach(verdicts: Mapping[PeerName, Verdict], present: Collection[PeerName]) -> Reach | None:
    """What this node publishes; None: too little is known yet. Peers that are gone are left out, or
    they would stay in everybody's document."""
    if any(verdict.state is State.UNKNOWN for verdict in verdicts.values()):
        return None
    exceptions = {
        peer: verdict.mtu if _is_good(verdict) else 0
        for peer, verdict in sorted(verdicts.items())
        if peer in present and (not _is_good(verdict) or 0 < verdict.mtu < verdict.limit)
    }
    listed = dict(list(exceptions.items())[:MAX_EXCEPTIONS])
    return Reach(listed, complete=len(listed) == len(exceptions))


def describe(path: Path) -> str:
    """A path in a few words, for logs."""
    words = path.kind.value if path.via is None else f"{path.kind.value} via {path.via}"
    return f"{words}, MTU {path.mtu}" if path.mtu else words


def _choose_one(
    own: PeerName,
    peer: PeerName,
    verdicts: Mapping[PeerName, Verdict],
    reaches: Mapping[PeerName, Reach],
    relays: Iterable[PeerName],
    present: Collection[PeerName],
    before: Path,
) -> Path:
    verdict = verdicts[peer]
    if verdict.state is State.UNKNOWN:
        return before
    if _is_good(verdict):
        return Path(PathKind.VXLAN, mtu=_route_mtu(verdict, before, PathKind.VXLAN))
    is_relayed = before.kind is PathKind.RELAY
    ways = {}
    if peer in present or is_relayed:
        for relay in relays:
            mtu = reaches[relay].mtu_to(peer, verdict.limit) if relay != peer else 0
            if mtu:
                ways[relay] = min(mtu, verdicts[relay].mtu or verdicts[relay].limit)
    if not ways:
        return Path(PathKind.VXLAN, mtu=_route_mtu(verdict, before, PathKind.VXLAN))
    via = before.via if is_relayed and before.via in ways else _best(own, peer, ways)
    assert via is not None
    if is_relayed and via == before.via and not verdicts[via].mtu:
        return before
    return Path(PathKind.RELAY, via=via, mtu=ways[via] if ways[via] < verdict.limit else 0)


def _best(own: PeerName, peer: PeerName, ways: Mapping[PeerName, int]) -> PeerName:
    """The widest; of equal ones any, but always the same, and not the same for all pairs."""

    def rank(relay: PeerName) -> tuple[int, bytes]:
        return ways[relay], hashlib.sha256(own + peer + relay).digest()

    return max(ways, key=rank)


def _is_direct(verdict: Verdict, before: Path) -> bool:
    if verdict.state is State.UNKNOWN:
        return before.kind is PathKind.DIRECT
    return _is_good(verdict)


def _is_good(verdict: Verdict) -> bool:
    return verdict.state is State.UP and not verdict.too_small


def _route_mtu(verdict: Verdict, before: Path, kind: PathKind) -> int:
    """What was found before, perhaps by the process before, stands until more is known."""
    mtu = verdict.mtu or (before.mtu if before.kind is kind else 0)
    return mtu if mtu < verdict.limit else 0
