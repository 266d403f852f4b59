"""Messages to one peer, from hop to hop along shortest paths; neither acknowledged nor repeated."""

from __future__ import annotations

from dataclasses import replace

from weave_gossip.core.effects import DeliverUnicast
from weave_gossip.core.errors import InvalidDocument, NoRoute
from weave_gossip.core.exchange import Exchange
from weave_gossip.core.links import LinkTable
from weave_gossip.core.messages import Unicast
from weave_gossip.core.outbox import Outbox
from weave_gossip.core.topology import Topology
from weave_model.peer import PeerName

# Longest path of a unicast: a chain of peers as CONN_LIMIT=2 may make it in a small mesh.
UNICAST_TTL = 64
# Questions and answers are some hundred bytes; each hop holds up to MAX_WAITING_UNICASTS of them.
MAX_UNICAST_BYTES = 64 * 1024


class Unicasts:
    """Sends ours, delivers those for us, passes on the others."""

    def __init__(
        self,
        own_name: PeerName,
        links: LinkTable,
        topology: Topology,
        exchange: Exchange,
        outbox: Outbox,
    ) -> None:
        self._own_name = own_name
        self._links = links
        self._topology = topology
        self._exchange = exchange
        self._outbox = outbox

    def send(self, destination: PeerName, topic: str, payload: bytes) -> None:
        """Raises NoRoute, and InvalidDocument when too large."""
        if len(payload) > MAX_UNICAST_BYTES:
            raise InvalidDocument(
                f"message of {len(payload)} bytes to {destination}: at most {MAX_UNICAST_BYTES} fit"
            )
        if destination == self._own_name:
            self._outbox.put(DeliverUnicast(self._own_name, topic, payload))
        elif not self._forward(Unicast(self._own_name, destination, topic, payload, UNICAST_TTL)):
            raise NoRoute(f"no path to {destination} now")

    def receive(self, unicast: Unicast) -> None:
        """Takes one from a neighbour; without TTL left, or with more than ours, it ends here."""
        if unicast.destination == self._own_name:
            self._outbox.put(DeliverUnicast(unicast.source, unicast.topic, unicast.payload))
        elif 1 < unicast.ttl <= UNICAST_TTL:
            self._forward(replace(unicast, ttl=unicast.ttl - 1))

    def _forward(self, unicast: Unicast) -> bool:
        link = self._links.to(unicast.destination)
        if link is None:
            next_hop = self._topology.next_hop(unicast.destination)
            link = None if next_hop is None else self._links.to(next_hop)
        if link is None:
            return False
        self._exchange.relay(link, unicast)
        return True
