"""When a peer is removed from the mesh: on request, or by itself once it has been away for long.

How a removal spreads and holds is in removal.py.
"""

from __future__ import annotations

from weave_gossip.core.documents import TOPIC_LINKS, TOPIC_PEERS, TOPIC_REMOVED
from weave_gossip.core.errors import PeerReachable
from weave_gossip.core.knowledge import Knowledge
from weave_gossip.core.links import LinkTable
from weave_gossip.core.overlay import Overlay
from weave_gossip.core.publishing import Publisher
from weave_model.peer import PeerName

# A peer that is away this long and has written nothing that matters after it is removed. A machine
# that is updated and restarted is back before.
FORGET_AFTER_S = 3600.0
# What took an hour may take a minute more; a look at all peers is not free.
FORGET_CHECK_S = 60.0
# Documents that mean nothing once their writer is gone. Ring documents are not among them: only
# remove_peer takes those.
PERISHABLE_TOPICS = frozenset(
    {TOPIC_PEERS, TOPIC_LINKS, TOPIC_REMOVED, "endpoints", "paths", "ipam-space"}
)


class Departures:
    """Decides who is removed; the publisher says so to all."""

    def __init__(
        self,
        own_name: PeerName,
        links: LinkTable,
        knowledge: Knowledge,
        overlay: Overlay,
        publisher: Publisher,
        now: float,
    ) -> None:
        self._own_name = own_name
        self._links = links
        self._knowledge = knowledge
        self._overlay = overlay
        self._publisher = publisher
        self._due = now + FORGET_CHECK_S

    def next_deadline(self) -> float:
        return self._due

    def remove(self, name: PeerName) -> None:
        """Removes a departed peer; unknown is success. Raises PeerReachable."""
        topology = self._knowledge.topology
        topology.settle()
        if name == self._own_name or self._links.to(name) or topology.is_reachable(name):
            raise PeerReachable(f"{name} is reachable, so its documents stay; stop it first")
        self._publisher.publish_removal(name)

    def run(self, now: float) -> None:
        """Removes peers that left for good and own nothing; the reachable peer of the lowest name
        does it for all.
        """
        if now < self._due:
            return
        self._due = now + FORGET_CHECK_S
        self._overlay.tidy()
        if self._own_name != min(self._knowledge.topology.reachable()):
            return
        for peer, since in list(self._overlay.away_since().items()):
            if now - since >= FORGET_AFTER_S and self._owns_nothing(peer):
                self._publisher.publish_removal(peer)

    def _owns_nothing(self, peer: PeerName) -> bool:
        held = self._knowledge.replica.of_writer(peer)
        return all(document.id.topic in PERISHABLE_TOPICS for document in held)
