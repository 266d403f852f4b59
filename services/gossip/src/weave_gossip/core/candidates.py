"""Whom a link could lead to: addresses of peers without one, and of targets and hints.

Which of them are dialled, and when, is decided in overlay.py and dialling.py.
"""

from __future__ import annotations

from random import Random

from weave_gossip.core.dialling import NEVER, Dialler, Target
from weave_gossip.core.directory import Directory
from weave_gossip.core.links import LinkTable
from weave_gossip.core.options import MeshOptions
from weave_gossip.core.topology import Topology
from weave_model.peer import PeerName

# The peer with the greater name leaves the dialling to the other for so long, so that a pair does
# not dial each other at once.
GIVE_WAY_S = 3.0
# Named to one that is refused: one of them is not full unless nearly all are.
MAX_ALTERNATIVES = 8
# Random peers looked at for one dial; some may be in back-off.
MAX_CANDIDATES = 32


class Candidates:
    """Picks addresses by what topology, directory and dialler know."""

    def __init__(
        self,
        own_name: PeerName,
        options: MeshOptions,
        rng: Random,
        links: LinkTable,
        topology: Topology,
        directory: Directory,
        dialler: Dialler,
    ) -> None:
        self._own_name = own_name
        self._options = options
        self._rng = rng
        self._links = links
        self._topology = topology
        self._directory = directory
        self._dialler = dialler

    def alternatives(self) -> tuple[str, ...]:
        """Addresses of random reachable peers, for one that is refused."""
        chosen = [peer for peer in self._sample(MAX_ALTERNATIVES + 1) if peer != self._own_name]
        known = (self._directory.addresses(peer) for peer in chosen[:MAX_ALTERNATIVES])
        return tuple(addresses[0] for addresses in known if addresses)

    def all(self, now: float) -> list[Target]:
        """One address of each peer and direct target that we neither have a link to nor dial."""
        wanted: dict[str, Target] = {}
        for address in (*self._dialler.direct, *self._dialler.hints):
            if self.is_open(address):
                wanted[address] = self._dialler.target(address)
        if self._options.discovery:
            for peer in self._directory.names():
                target = self._address_to_dial(peer, now)
                if target is not None:
                    wanted[target.address] = target
        return list(wanted.values())

    def some(self, now: float, *, enough: int) -> list[Target]:
        """Reachable peers without a link; targets and hints where those are not enough."""
        found: list[Target] = []
        if self._options.discovery:
            # Among them may be ourselves and those we have a link to.
            for peer in self._sample(MAX_CANDIDATES + len(self._links) + 1):
                target = self._address_to_dial(peer, now, give_way=False)
                if target is not None:
                    found.append(target)
        if len(found) < enough:
            others = [*self._dialler.hints, *self._dialler.direct]
            self._rng.shuffle(others)
            found += [self._dialler.target(each) for each in others if self.is_open(each)]
        return found

    def first_try(self, peer: PeerName, now: float) -> float:
        """When the peer may be dialled at the earliest: of each pair one goes first."""
        return now if self._own_name < peer else now + GIVE_WAY_S

    def is_open(self, address: str) -> bool:
        """Whether it may be dialled at all and leads to nobody we have a link to."""
        target = self._dialler.target(address)
        return not target.is_dialling and target.next_try != NEVER and not self._is_served(target)

    # Inside

    def _sample(self, count: int) -> list[PeerName]:
        """Random peers that are reachable, ourselves included."""
        peers = list(self._topology.reachable())
        return self._rng.sample(peers, min(count, len(peers)))

    def _address_to_dial(
        self, peer: PeerName, now: float, *, give_way: bool = True
    ) -> Target | None:
        """The address of a peer without a link that may be dialled first; None if one is being
        dialled.
        """
        if peer == self._own_name or self._links.to(peer) is not None:
            return None
        first_try = self.first_try(peer, now) if give_way else now
        targets = [
            self._dialler.target(address, first_try=first_try)
            for address in self._directory.addresses(peer)
        ]
        if any(target.is_dialling for target in targets):
            return None
        # Somebody else may have taken the place of a peer that is gone.
        own = [target for target in targets if not self._is_served(target)]
        return min(own, key=lambda target: target.next_try, default=None)

    def _is_served(self, target: Target) -> bool:
        """Whether we have a link to whoever is behind the address."""
        for peer in (target.peer, self._directory.at(target.address)):
            if peer is not None and (peer == self._own_name or self._links.to(peer) is not None):
                return True
        return False
