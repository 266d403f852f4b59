"""Probes the ways to all peers, chooses the paths, and knows what other nodes may hear of it."""

from __future__ import annotations

import asyncio
import logging
import time
from collections import Counter
from collections.abc import Callable, Collection, Mapping

from weave_model.peer import PeerName
from weave_model.prefix import Family, Prefix
from weave_router.core import naming, path_choice, tunnels
from weave_router.core.inputs import Path
from weave_router.core.path_choice import Direct, Reach
from weave_router.core.prober import Target, Verdict
from weave_router.node import Node
from weave_router.probing import Echo, Probing

# More changes at a time than these have one cause, and get one line.
_MAX_LINES = 8
_SETTLE_S = 0.05
# How long a peer counts as present after the mesh lost it: a gossip that restarts knows nobody for
# a moment.
_ABSENCE_S = 30.0

log = logging.getLogger(__name__)


class PathFinder:
    """Keeps `node.paths` and `node.verdicts`. Belongs to one event loop."""

    def __init__(
        self,
        node: Node,
        tunnel_echo: Echo,
        direct_echo: Echo | None,
        on_chosen: Callable[[], None],
        *,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Without `direct_echo` nothing but tunnels is used."""
        self._node = node
        self._on_chosen = on_chosen
        self._wake = asyncio.Event()
        self._facts_changed = True
        self._tunnels = Probing(tunnel_echo, self._wake.set)
        self._direct = Probing(direct_echo, self._wake.set) if direct_echo is not None else None
        self._direct_targets: dict[PeerName, Target] = {}
        self._clock = clock
        # When each peer was in the mesh last.
        self._last_seen: dict[PeerName, float] = {}

    def refresh(self) -> None:
        """The node's facts have changed. Idempotent; never blocks."""
        self._facts_changed = True
        self._wake.set()

    def reach(self) -> Reach | None:
        """What other nodes may know; None: not enough is known yet."""
        node = self._node
        if self._facts_changed or node.peers is None or node.lacks():
            return None
        return path_choice.own_reach(node.verdicts, self._present())

    async def run(self) -> None:
        """Probes and chooses for ever."""
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._tunnels.run())
            if self._direct is not None:
                tasks.create_task(self._direct.run())
            while True:
                self._wake.clear()
                if self._facts_changed:
                    self._facts_changed = False
                    self._aim()
                self._decide()
                await self._wake.wait()
                # What comes together, as at a start, is decided together.
                await asyncio.sleep(_SETTLE_S)

    def _aim(self) -> None:
        self._tunnels.follow(_tunnel_targets(self._node))
        if self._direct is not None:
            self._direct_targets = _direct_targets(self._node)
            self._direct.follow(self._direct_targets)

    def _decide(self) -> None:
        node = self._node
        if node.name is None:
            return
        verdicts = self._tunnels.verdicts()
        _log_mtus(node.verdicts, verdicts)
        node.verdicts = verdicts
        chosen = path_choice.choose(
            node.name, verdicts, node.reaches, self._present(), node.paths, self._direct_ways()
        )
        if chosen != node.paths:
            node.path_changes += _log_paths(node.paths, chosen)
            node.paths = chosen
            self._on_chosen()

    def _present(self) -> Collection[PeerName]:
        now = self._clock()
        self._last_seen |= dict.fromkeys(self._node.present, now)
        self._last_seen = {p: at for p, at in self._last_seen.items() if now - at <= _ABSENCE_S}
        return self._last_seen

    def _direct_ways(self) -> dict[PeerName, Direct]:
        if self._direct is None:
            return {}
        verdicts = self._direct.verdicts()
        targets = self._direct_targets
        return {p: Direct(targets[p].link, v) for p, v in verdicts.items() if p in targets}


def _tunnel_targets(node: Node) -> dict[PeerName, Target]:
    """The far ends of all tunnels that carry probes."""
    if node.lacks() or node.peers is None:
        return {}
    options = node.inputs().options
    floor = tunnels.MIN_IPV6_MTU if Family.IPV6 in node.families else tunnels.MIN_IPV4_MTU
    mtus = {d.name: d.mtu for d in tunnels.devices(options) if tunnels.carries_probes(d)}
    targets = {}
    for peer in node.peers:
        link, _ = tunnels.tunnel_to(options, peer) or ("", None)
        if peer.name != node.name and link in mtus:
            endpoint = node.endpoints.get(peer.name)
            theirs = endpoint.mtu if endpoint is not None else 0
            # A peer that names less than the overlay must carry is not believed.
            ceiling = max(floor, min(mtus[link], theirs or mtus[link]))
            targets[peer.name] = Target(link, naming.tunnel_link_local(peer.name), floor, ceiling)
    return targets


def _direct_targets(node: Node) -> dict[PeerName, Target]:
    """Overlay addresses of peers on one of our links that allow it, as if they were on that link.

    The far kernel answers to ARP for any address of its own. The packet's source is ours in the
    overlay, since networks that check sources let others pass.
    """
    source = _first_ipv4(node.overlay or ())
    if node.lacks() or node.peers is None or source is None:
        return {}
    targets = {}
    for peer in node.peers:
        endpoint, address = node.endpoints.get(peer.name), _first_ipv4(peer.underlay)
        overlay = _first_ipv4(endpoint.overlay) if endpoint is not None else None
        if peer.name == node.name or endpoint is None or not endpoint.is_direct:
            continue
        link = next((u.name for u in node.uplinks if address and u.reaches(address)), None)
        if link is not None and overlay is not None:
            ceiling = min(node.mtu, endpoint.mtu or node.mtu)
            targets[peer.name] = Target(link, overlay, tunnels.MIN_IPV4_MTU, ceiling, source)
    return targets


def _first_ipv4(addresses: tuple[Prefix, ...]) -> Prefix | None:
    return next((a for a in addresses if a.family is Family.IPV4), None)


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
