"""What we write: our consumers' documents, and those the mesh keeps about ourselves.

Each is persisted, merged and spread, in this order. Documents about ourselves: `peers` (facts),
`links` (gathered, so that several changes make one document) and `removed`.
"""

from __future__ import annotations

from collections.abc import Sequence

from weave_gossip.core.admission import describe_collision
from weave_gossip.core.authorship import Authorship
from weave_gossip.core.documents import TOPIC_LINKS, TOPIC_PEERS, TOPIC_REMOVED, Document
from weave_gossip.core.effects import LogLevel, PersistDocument, PersistIncarnation
from weave_gossip.core.exchange import Exchange
from weave_gossip.core.facts import Link, PayloadCodec, PeerFacts
from weave_gossip.core.knowledge import Knowledge
from weave_gossip.core.links import LinkTable
from weave_gossip.core.outbox import Outbox
from weave_model.peer import PeerName

# Our links are published this soon after a change, so that several changes make one document ...
LINKS_DELAY_S = 0.1
# ... and at most this often, so that a flapping link does not flood the mesh.
LINKS_INTERVAL_S = 1.0
# One link more, where there are some, is no news worth a document of its own, the less so in a mesh
# of many, where that document goes to all of them.
# Up to FEW_LINKS each counts for reachability; above FULL_MESH_PEERS (overlay.py) a mesh is one of
# many.
MORE_LINKS_DELAY_S = 2.0
MORE_LINKS_AMONG_MANY_DELAY_S = 5.0
FEW_LINKS = 4
MANY_PEERS = 32
NEVER = float("inf")


class Publisher:
    """Writes documents under our name."""

    def __init__(
        self,
        name: PeerName,
        incarnation: int,
        facts: PeerFacts,
        codec: PayloadCodec,
        documents: Sequence[Document],
        knowledge: Knowledge,
        exchange: Exchange,
        links: LinkTable,
        outbox: Outbox,
    ) -> None:
        self.facts = facts
        self._name = name
        self._codec = codec
        self._knowledge = knowledge
        self._exchange = exchange
        self._links = links
        self._outbox = outbox
        self._persisted_incarnation = incarnation
        self._links_due = NEVER
        self._links_published = outbox.now - LINKS_INTERVAL_S
        self._author = Authorship(name, incarnation, documents, self._store)
        for document in documents:
            knowledge.merge(document, is_ours=True)
        self._author.rewrite_departed(knowledge.own_departed_life())
        self.publish_facts(facts)
        self._author.publish_own_topic(TOPIC_LINKS, codec.encode_links(()))

    @property
    def incarnation(self) -> int:
        """Of our present life; goes up when the mesh remembers a later one."""
        return self._author.incarnation

    def publish(self, topic: str, key: str, payload: bytes) -> Document:
        """Writes a consumer's document. Raises InvalidDocument."""
        return self._author.publish(topic, key, payload)

    def withdraw(self, topic: str, key: str) -> None:
        """Takes a consumer's document back. Raises InvalidDocument."""
        self._author.withdraw(topic, key)

    def publish_facts(self, facts: PeerFacts) -> None:
        self.facts = facts
        self._author.publish_own_topic(TOPIC_PEERS, self._codec.encode_facts(facts))

    def publish_removal(self, peer: PeerName) -> None:
        """Says that a peer's life has departed; one that nothing is known of is success."""
        held = self._knowledge.replica.of_writer(peer)
        if all(document.id.topic == TOPIC_REMOVED for document in held):
            return
        incarnation = max(document.incarnation for document in held)
        own = self._author.get(TOPIC_REMOVED, "")
        payload = self._knowledge.removals.extended(own, peer, incarnation)
        self._author.publish_own_topic(TOPIC_REMOVED, payload)

    def link_added(self) -> None:
        if len(self._links) <= FEW_LINKS:
            self._links_changed(LINKS_DELAY_S)
        elif len(self._knowledge.directory.names()) <= MANY_PEERS:
            self._links_changed(MORE_LINKS_DELAY_S)
        else:
            self._links_changed(MORE_LINKS_AMONG_MANY_DELAY_S)

    def link_removed(self, *, peer_is_alive: bool) -> None:
        """`peer_is_alive`: both sides agreed to end the link, so nobody's path depends on it."""
        if peer_is_alive and len(self._knowledge.directory.names()) > MANY_PEERS:
            self._links_changed(MORE_LINKS_AMONG_MANY_DELAY_S)
        else:
            self._links_changed(LINKS_DELAY_S)

    def notice(self, document: Document) -> None:
        """Draws the conclusions for ourselves from a document that was news."""
        if document.id.writer == self._name:
            self._author.dispute(document)
        elif document.id.topic == TOPIC_REMOVED:
            self._author.rewrite_departed(self._knowledge.own_departed_life())
        elif document.id.topic == TOPIC_LINKS:
            self._notice_two_way(document.id.writer)

    def next_deadline(self) -> float:
        return min(self._links_due, self._author.next_deadline())

    def run(self, now: float) -> None:
        """Publishes our links and answers disputes, as far as they are due."""
        if now >= self._links_due:
            self._links_due = NEVER
            self._links_published = now
            links = tuple(sorted(Link(link.peer, link.outbound) for link in self._links))
            self._author.publish_own_topic(TOPIC_LINKS, self._codec.encode_links(links))
        if now >= self._author.next_deadline():
            self._answer_disputes(now)

    # Inside

    def _store(self, document: Document) -> None:
        if self._author.incarnation != self._persisted_incarnation:
            self._persisted_incarnation = self._author.incarnation
            self._outbox.put(PersistIncarnation(self._author.incarnation))
        self._outbox.put(PersistDocument(document))
        self._knowledge.merge(document, is_ours=True)
        self._exchange.spread_own(document)

    def _links_changed(self, delay_s: float) -> None:
        self._knowledge.set_own_links(self._links.peers())
        due = max(self._outbox.now + delay_s, self._links_published + LINKS_INTERVAL_S)
        self._links_due = min(self._links_due, due)

    def _notice_two_way(self, peer: PeerName) -> None:
        link = self._links.to(peer)
        if link is None or link.is_fully_established:
            return
        if self._knowledge.topology.lists(peer, self._name):
            link.is_fully_established = True
            self._outbox.log(LogLevel.INFO, f"{link.label}: connection fully established")

    def _answer_disputes(self, now: float) -> None:
        is_repeated = self._author.is_disputed_again(now)
        answered = self._author.answer_disputes(now)
        for seen in answered:
            if seen.id.topic == TOPIC_REMOVED:
                own = self._author.get(TOPIC_REMOVED, "")
                payload = self._knowledge.removals.merged(own, seen)
                self._author.publish_own_topic(TOPIC_REMOVED, payload)
            elif seen.id.topic == TOPIC_PEERS and is_repeated:
                self._tell_collision(seen)
        self.publish_facts(self.facts)
        names = ", ".join(f"{seen.id.topic}/{seen.id.key}" for seen in answered)
        self._outbox.log(
            LogLevel.WARNING,
            f"the mesh holds newer documents of ours than we do ({names}): "
            f"going on in incarnation {self._author.incarnation}",
        )

    def _tell_collision(self, seen: Document) -> None:
        """A life that answers back is no earlier one of ours: another machine has our name."""
        try:
            other = self._codec.decode_facts(seen.payload)
        except ValueError:
            return
        if other.instance != self.facts.instance:
            message = describe_collision(self._name, self.facts.nickname, other.nickname)
            self._outbox.log(LogLevel.ERROR, message)
