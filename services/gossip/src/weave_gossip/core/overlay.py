"""Which links there should be: whom to dial, whom to let in, whom to let go.

Up to FULL_MESH_PEERS everybody links to everybody, as far as the connection limit allows. Above,
each peer dials random peers until it has DEGREE links and lets in more up to HIGH_DEGREE. Such a
random graph is connected for any size that matters and stays so when a third of its peers vanish.
Three rules keep it whole at its edges:

A peer with few links is let in even by a full one, which then lets go of a peer that has many and
stays reachable without this link. So a late joiner always gets in and nobody is isolated.

A refusal for want of room names other peers to try.

A peer at its limit still gives a redundant link, one of a cycle, for a link to somebody out of
reach. Else a few peers that have filled up on each other would stay a mesh of their own for ever.

Which addresses come into question is said by candidates.py. While known peers or targets are out of
reach, one of them is tried now and then, see absence.py.
"""

from __future__ import annotations

from collections.abc import Mapping
from random import Random

from weave_gossip.core.absence import Absence
from weave_gossip.core.candidates import GIVE_WAY_S, Candidates
from weave_gossip.core.dialling import Dialler
from weave_gossip.core.directory import Directory
from weave_gossip.core.effects import Dial
from weave_gossip.core.links import LinkState, LinkTable
from weave_gossip.core.options import MeshOptions
from weave_gossip.core.topology import Topology
from weave_model.peer import PeerName

# In a full mesh everybody hears everything at first hand. The default limit of 30 links ends it at
# 31 peers; without a limit it ends here.
FULL_MESH_PEERS = 32
# Below this a sparse mesh becomes full again; the gap keeps a mesh at the edge from changing to and
# fro.
FULL_AGAIN_PEERS = 28
# When 30 % of 1,000 peers vanish at once, a peer with d links is cut off with probability 0.3^d:
# with 8, somebody is in 5 of 100 cases, with 14 in 1 of 30,000. An idle link costs 40 bytes a
# second.
DEGREE = 14
# Random dials meet some peers more often than others: room for these, so that few are refused.
HIGH_DEGREE = 20
# Fewer links than this entitle to be let in by a full peer, and never to be let go. With 6, a peer
# is cut off in 1 of 1,400 of those crashes, often enough to help it at once.
LOW_DEGREE = 6
# Links up to LOW_DEGREE are dialled at once, the rest one by one this far apart: others dial too,
# and all would end with twice the links they want.
FILL_INTERVAL_S = 0.5
# A full mesh is completed once no new peer was found for so long: while a large mesh is being
# discovered, it looks like a small one.
QUIET_BEFORE_FULL_S = 2.0
# Links over the wanted number are let go of together, once no new peer was found for so long: one
# document then tells of all, and a crowd that joins is not sent away before it has met.
QUIET_BEFORE_SHEDDING_S = 5.0


class Overlay:
    """Decides about links by what topology, directory and dialler know."""

    def __init__(
        self,
        own_name: PeerName,
        options: MeshOptions,
        rng: Random,
        links: LinkTable,
        topology: Topology,
        directory: Directory,
        dialler: Dialler,
        candidates: Candidates,
        now: float,
    ) -> None:
        self._own_name = own_name
        self._limit = options.connection_limit or 1 << 30
        self._rng = rng
        self._links = links
        self._topology = topology
        self._directory = directory
        self._dialler = dialler
        self._candidates = candidates
        self._is_sparse = False
        self._absence = Absence(options, rng, topology, directory, dialler, now)
        self._grew = now
        self._fill_due = float("-inf")

    # What happened

    def peer_is_away(self, peer: PeerName, now: float) -> None:
        self._absence.begins(peer, now)

    def peer_is_back(self, peer: PeerName, now: float) -> None:
        """A peer became reachable, or is new."""
        self._absence.ends(peer)
        self._grew = now
        for address in self._directory.addresses(peer):
            self._dialler.encourage(address, self._candidates.first_try(peer, now))

    def peer_is_gone(self, peer: PeerName) -> None:
        self._absence.ends(peer)

    def away_since(self) -> Mapping[PeerName, float]:
        """Known peers that no path leads to, and since when."""
        return self._absence.since

    def link_lost(self, link: LinkState, now: float) -> None:
        """The next dial of the pair is made by the peer with the lower name first."""
        if self._own_name > link.peer:
            for address in self._directory.addresses(link.peer):
                self._dialler.delay(address, now + GIVE_WAY_S)

    def tidy(self) -> None:
        """Drops the back-off of addresses that lead to nobody known."""
        known = {
            each for peer in self._directory.names() for each in self._directory.addresses(peer)
        }
        self._dialler.retain(known)

    # Letting in

    def has_room_for(self, peer: PeerName) -> bool:
        """Whether the peer may have a link that it has not yet."""
        self._choose_shape()
        count = len(self._links)
        if count < self._high_mark():
            return True
        if not self._topology.is_reachable(peer):
            return count < self._limit or self._find_redundant() is not None
        if self._topology.degree(peer) >= LOW_DEGREE:
            return False
        return count < self._limit or self._find_sheddable() is not None

    def alternatives(self) -> tuple[str, ...]:
        """Addresses to try instead, for one that is refused."""
        return self._candidates.alternatives()

    # Letting go

    def shed(self, now: float) -> LinkState | None:
        """A link to let go of now, if there are too many."""
        self._choose_shape()
        count = len(self._links)
        if count <= self._high_mark() or (now < self._shed_due() and count <= self._limit):
            return None
        link = self._find_sheddable()
        if link is None and count > self._limit:
            link = self._find_redundant() or max(self._links, key=lambda each: each.since)
        return link

    # Dialling

    def dial(self, now: float) -> tuple[list[Dial], float]:
        """What to dial now, and when to ask again."""
        self._choose_shape()
        dials: list[Dial] = []
        again = min(self._rejoin(dials, now), self._dial_wanted(dials, now))
        if len(self._links) > self._high_mark():
            again = min(again, max(self._shed_due(), now + FILL_INTERVAL_S))
        return dials, again

    def _dial_wanted(self, dials: list[Dial], now: float) -> float:
        """Dials until there are links enough; returns when the next dial may be due."""
        if self._count() >= self._wanted_count():
            return float("inf")
        again = float("inf")
        candidates = self._candidates
        targets = candidates.some(now, enough=DEGREE) if self._is_sparse else candidates.all(now)
        for target in targets:
            if self._count() >= self._wanted_count():
                return again
            if target.is_dialling:
                continue
            allowed = max(target.next_try, self._next_addition(now), self._dialler.may_dial_at(now))
            if allowed <= now:
                dials.append(self._dialler.dial(target.address))
                self._fill_due = now + FILL_INTERVAL_S * self._rng.uniform(0.5, 1.5)
            else:
                again = min(again, allowed)
        return again

    def _count(self) -> int:
        return len(self._links) + self._dialler.dialling

    def _wanted_count(self) -> int:
        return min(DEGREE, self._limit) if self._is_sparse else self._limit

    def _next_addition(self, now: float) -> float:
        """When one link more may be dialled: at once while there are few, and to fill the mesh."""
        if self._count() < LOW_DEGREE:
            return now
        if self._is_sparse:
            return self._fill_due
        return min(self._fill_due, self._grew + QUIET_BEFORE_FULL_S)

    def _rejoin(self, dials: list[Dial], now: float) -> float:
        """Tries one address that should lead to somebody out of reach, if it is time."""
        if now >= self._absence.due:
            address = self._absence.pick(now)
            may_dial = self._dialler.may_dial_at(now) <= now and self._has_room_to_dial()
            if address and self._candidates.is_open(address) and may_dial:
                dials.append(self._dialler.dial(address))
        return self._absence.due

    # Inside

    def _choose_shape(self) -> None:
        """Decides between full and sparse mesh by the number of peers there are or should be."""
        peers = max(len(self._topology.reachable()), len(self._dialler.direct) + 1)
        edge = FULL_AGAIN_PEERS if self._is_sparse else FULL_MESH_PEERS
        self._is_sparse = peers > edge or peers - 1 > self._limit

    def _shed_due(self) -> float:
        return self._grew + QUIET_BEFORE_SHEDDING_S

    def _high_mark(self) -> int:
        return min(self._limit, HIGH_DEGREE) if self._is_sparse else self._limit

    def _has_room_to_dial(self) -> bool:
        """Whether there is a link to spare for somebody out of reach."""
        return self._count() < self._limit or self._find_redundant() is not None

    def _find_redundant(self) -> LinkState | None:
        """A link that nobody's path depends on: what a peer at its limit gives for a bridge."""
        return self._find_sheddable(must_keep=1)

    def _find_sheddable(self, must_keep: int = LOW_DEGREE) -> LinkState | None:
        """The link to the peer with most others, which it must have and be reachable by."""
        for link in sorted(
            self._links, key=lambda each: (-self._topology.degree(each.peer), each.since)
        ):
            if self._topology.degree(link.peer) <= must_keep:
                return None
            if self._topology.has_path_without(link.peer):
                return link
        return None
