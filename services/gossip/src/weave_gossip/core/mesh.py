"""The mesh of one peer as a state machine without I/O: inputs change it, `take_effects` says what
to do about it.

The shell calls one input at a time, then performs `take_effects()`, then sleeps until
`next_deadline()` or the next input. `now` is any clock in seconds; jumps of it do no harm, see
clock.py.

Who judges what: the shell judges the greeting (magic, protocol, cluster, secret), TLS and the
greeting digest, and calls `judge_hello` with the Hello. When both verdicts accept, it calls
`link_established`.

The parts: knowledge.py (documents and what they say), authorship.py (our own), spreading.py,
fetching.py and repair.py (how documents travel), linkkeeping.py (links), overlay.py and dialling.py
(which links there should be).
"""

from __future__ import annotations

from collections.abc import Sequence
from random import Random

from weave_gossip.core import reports
from weave_gossip.core.clock import Clock
from weave_gossip.core.dialling import Dialler
from weave_gossip.core.documents import (
    TOPIC_LINKS,
    TOPIC_PEERS,
    TOPIC_REMOVED,
    Document,
    DocumentId,
)
from weave_gossip.core.effects import (
    DeliverUnicast,
    Effect,
    LinkId,
    LogLevel,
    PersistTargets,
)
from weave_gossip.core.errors import InvalidDocument, InvalidMessage, NoRoute, PeerReachable
from weave_gossip.core.exchange import Exchange
from weave_gossip.core.facts import PayloadCodec, PeerFacts
from weave_gossip.core.knowledge import Knowledge
from weave_gossip.core.linkkeeping import LinkKeeper
from weave_gossip.core.links import LinkState, LinkTable
from weave_gossip.core.messages import (
    Hello,
    Message,
    Ping,
    Pong,
    Refusal,
    RefusalCode,
    Unicast,
)
from weave_gossip.core.options import MeshOptions
from weave_gossip.core.outbox import Outbox
from weave_gossip.core.overlay import Overlay
from weave_gossip.core.publishing import Publisher
from weave_gossip.core.status import (
    Connection,
    MeshStatus,
    PeerLinks,
    PeerView,
    QuarantinedDocument,
)
from weave_model.peer import PeerName

# Peers are found in crowds; links are thought about once per crowd.
OVERLAY_DELAY_S = 0.05
# Peers that lost their path are looked for together: others' documents about one loss differ by
# that much in arrival.
SETTLE_DELAY_S = 0.2
# Longest path of a unicast: a chain of peers as CONN_LIMIT=2 may make it in a small mesh.
UNICAST_TTL = 64
MAX_UNICAST_BYTES = 64 * 1024
# A peer that is away this long and has written nothing that matters after it (PERISHABLE_TOPICS) is
# removed. Ring documents are not perishable: only remove_peer takes them.
FORGET_AFTER_S = 3600.0
FORGET_CHECK_S = 60.0
PERISHABLE_TOPICS = frozenset(
    {TOPIC_PEERS, TOPIC_LINKS, TOPIC_REMOVED, "endpoints", "paths", "ipam-space"}
)
NEVER = float("inf")


class Mesh:
    """One peer's view of the mesh and its part in it."""

    def __init__(
        self,
        *,
        name: PeerName,
        incarnation: int,
        facts: PeerFacts,
        codec: PayloadCodec,
        options: MeshOptions,
        rng: Random,
        now: float,
        documents: Sequence[Document] = (),
        targets: Sequence[str] = (),
    ) -> None:
        """`incarnation` is greater than in any earlier life that this peer remembers, and durable.

        `facts.instance` is random per process. `documents` are those loaded from the store: our
        own, and any of others that were kept for a quicker start. `targets` are normalised
        "host:port".
        """
        self._name = name
        self._options = options
        self._clock = Clock(now)
        self._outbox = Outbox(now)
        self._links = LinkTable()
        self._knowledge = Knowledge(name, codec, self._outbox)
        self._exchange = Exchange(self._knowledge, self._links, self._outbox)
        self._publisher = Publisher(
            name,
            incarnation,
            facts,
            codec,
            documents,
            self._knowledge,
            self._exchange,
            self._links,
            self._outbox,
        )
        self._keeper = LinkKeeper(self._links, self._knowledge.replica, self._outbox, rng)
        self._dialler = Dialler(rng, targets, now)
        self._overlay = Overlay(
            name,
            options,
            rng,
            self._links,
            self._knowledge.topology,
            self._knowledge.directory,
            self._dialler,
            now,
        )
        self._overlay_due = now
        self._settle_due = NEVER
        self._forget_due = now + FORGET_CHECK_S
        self._finish(now)

    # Links

    def own_hello(self, epoch: int) -> Hello:
        """What to say on a new link: the epoch of the Dial effect, 0 where we accepted."""
        facts = self._publisher.facts
        return Hello(
            name=self._name,
            nickname=facts.nickname,
            incarnation=self._publisher.incarnation,
            instance=facts.instance,
            listen_port=facts.listen_port,
            link_epoch=epoch,
            node_uid=facts.node_uid,
            features=facts.features,
            universes=facts.universes,
            underlay_addresses=facts.underlay_addresses,
        )

    def judge_hello(
        self, hello: Hello, *, outbound: bool, epoch: int, now: float
    ) -> Refusal | None:
        """The verdict on a Hello: None accepts. `epoch` is the dialler's: ours when outbound."""
        now = self._begin(now)
        if outbound:
            self._dialler.identified(epoch, hello.name)
        refusal = self._keeper.judge(
            self.own_hello(epoch),
            hello,
            precedence=(epoch, self._name if outbound else hello.name),
            has_room=self._overlay.has_room_for(hello.name),
            limit=self._options.connection_limit,
        )
        if refusal is not None and refusal.code is RefusalCode.LIMIT:
            refusal = Refusal(refusal.code, refusal.reason, self._overlay.alternatives())
        self._finish(now)
        return refusal

    def link_established(
        self, link: LinkId, hello: Hello, *, outbound: bool, address: str, epoch: int, now: float
    ) -> None:
        """Both verdicts accepted.

        `address` is the one of the Dial, or where the connection came from.
        """
        now = self._begin(now)
        precedence = (epoch, self._name if outbound else hello.name)
        state = LinkState(link, hello, outbound, address, precedence, now, now, now)
        self._dialler.saw_epoch(epoch)
        if outbound:
            self._dialler.connected(address, hello.name)
        if self._replace(state):
            self._keeper.add(state)
            self._publisher.link_added()
        self._overlay_due = now
        self._finish(now)

    def link_lost(self, link: LinkId, reason: str, now: float) -> None:
        """The stream ended or failed. A link that the core closed itself is ignored."""
        now = self._begin(now)
        state = self._links.get(link)
        if state is not None:
            self._remove_link(state, reason)
        self._finish(now)

    def link_blocked(self, link: LinkId) -> None:
        """The send buffer is full: nothing but pings is sent until `link_drained`.

        The core keeps names, not copies.
        """
        state = self._links.get(link)
        if state is not None and state.blocked_since is None:
            state.blocked_since = self._outbox.now

    def link_drained(self, link: LinkId, now: float) -> None:
        """The send buffer has room again."""
        now = self._begin(now)
        state = self._links.get(link)
        if state is not None and state.blocked_since is not None:
            state.blocked_since = None
            self._exchange.resume(state)
        self._finish(now)

    def dial_failed(self, address: str, refusal: Refusal, now: float) -> None:
        """A Dial came to nothing:

        a refusal of either side, or UNSPECIFIED with what the network said.
        """
        now = self._begin(now)
        self._dialler.failed(address, refusal, now)
        if self._options.discovery:
            self._dialler.hint(refusal.alternatives)
        self._outbox.log(
            LogLevel.INFO, f"->[{address}] error during connection attempt: {refusal.reason}"
        )
        self._overlay_due = now
        self._finish(now)

    def receive(self, link: LinkId, message: Message, now: float) -> None:
        """Takes a message of a link. Never raises; what no peer may send closes that link."""
        now = self._begin(now)
        state = self._links.get(link)
        if state is None:
            return
        state.last_received = self._outbox.now
        try:
            self._dispatch(state, message)
        except InvalidMessage as error:
            self._close(state, Refusal(RefusalCode.MALFORMED, str(error)))
        self._finish(now)

    # Time

    def tick(self, now: float) -> None:
        """Does what is due. Harmless when nothing is."""
        now = self._begin(now)
        self._finish(now)

    def next_deadline(self) -> float | None:
        """When to call `tick` next."""
        due = self._next_deadline()
        return None if due == NEVER else self._clock.wake_at(due)

    def _next_deadline(self) -> float:
        return min(
            self._keeper.next_deadline(),
            self._overlay_due,
            self._settle_due,
            self._forget_due,
            self._exchange.next_deadline(),
            self._publisher.next_deadline(),
        )

    def take_effects(self) -> list[Effect]:
        """What is to be done, oldest first; the list is the caller's."""
        return self._outbox.take()

    # Requests

    def publish(self, topic: str, key: str, payload: bytes, now: float) -> Document:
        """Writes our document; the same payload again changes nothing. Raises InvalidDocument."""
        now = self._begin(now)
        document = self._publisher.publish(topic, key, payload)
        self._finish(now)
        return document

    def withdraw(self, topic: str, key: str, now: float) -> None:
        """Takes our document back; absent is success.

        Raises InvalidDocument for topics of the mesh.
        """
        now = self._begin(now)
        self._publisher.withdraw(topic, key)
        self._finish(now)

    def quarantine(
        self, document_id: DocumentId, incarnation: int, version: int, reason: str, now: float
    ) -> None:
        """Sets one version aside so that it shows in status; one no longer held is success."""
        now = self._begin(now)
        held = self._knowledge.replica.get(document_id)
        if held is not None and (held.incarnation, held.version) == (incarnation, version):
            self._knowledge.set_aside(held, reason)
        self._finish(now)

    def connect(self, targets: Sequence[str], *, replace: bool, now: float) -> None:
        """Adds targets (normalised "host:port"), or replaces all; links stay.

        Also forgets their back-off.
        """
        now = self._begin(now)
        self._dialler.connect(targets, replace=replace)
        self._targets_changed(now)

    def forget(self, targets: Sequence[str], now: float) -> None:
        """Removes targets; links stay until they break."""
        now = self._begin(now)
        self._dialler.forget(targets)
        self._targets_changed(now)

    def remove_peer(self, name: PeerName, now: float) -> None:
        """Removes a departed peer's documents everywhere; unknown is success.

        Raises PeerReachable for a peer that is alive and for ourselves.
        """
        now = self._begin(now)
        self._knowledge.topology.settle()
        if (
            name == self._name
            or self._links.to(name)
            or self._knowledge.topology.is_reachable(name)
        ):
            raise PeerReachable(f"{name} is reachable, so its documents stay; stop it first")
        self._publisher.publish_removal(name)
        self._finish(now)

    def send_unicast(self, destination: PeerName, topic: str, payload: bytes, now: float) -> None:
        """Sends towards a peer; to ourselves it is delivered.

        Raises NoRoute, and InvalidDocument when too large.
        """
        now = self._begin(now)
        if len(payload) > MAX_UNICAST_BYTES:
            raise InvalidDocument(
                f"message of {len(payload)} bytes to {destination}: at most {MAX_UNICAST_BYTES} fit"
            )
        unicast = Unicast(self._name, destination, topic, payload, UNICAST_TTL)
        if destination == self._name:
            self._outbox.put(DeliverUnicast(self._name, topic, payload))
        elif not self._forward(unicast):
            raise NoRoute(f"no path to {destination} now")
        self._finish(now)

    def update_facts(self, facts: PeerFacts, now: float) -> None:
        """Publishes changed facts about ourselves, such as a new underlay address."""
        now = self._begin(now)
        self._publisher.publish_facts(facts)
        self._finish(now)

    # What is known

    def documents(self, topic: str) -> list[Document]:
        """All documents of a topic that are not withdrawn, sorted by writer and key."""
        held = (each for each in self._knowledge.replica if each.id.topic == topic)
        return sorted((each for each in held if not each.withdrawn), key=lambda each: each.id)

    def peers(self) -> list[PeerView]:
        """All known peers, ourselves included, sorted by name."""
        return reports.peers(self._knowledge)

    def peer_links(self) -> list[PeerLinks]:
        """All known peers with the links they say they hold."""
        return reports.peer_links(self._knowledge)

    def connections(self) -> list[Connection]:
        """Links and wanted addresses, for status."""
        return reports.connections(
            self._links, self._dialler, self._knowledge.directory, self._clock
        )

    def targets(self) -> tuple[str, ...]:
        """Addresses the operator asked for."""
        return tuple(self._dialler.direct)

    def quarantined(self) -> list[QuarantinedDocument]:
        """Versions that a consumer, or we ourselves, could not read."""
        return reports.quarantined(self._knowledge, self._clock)

    def common_features(self) -> frozenset[str]:
        """What every reachable peer lists: only these may be switched on."""
        return reports.common_features(self._knowledge)

    def status(self) -> MeshStatus:
        """Counts for status and metrics."""
        return MeshStatus(
            documents=len(self._knowledge.replica),
            state_digest=self._knowledge.replica.state_digest,
            links=len(self._links),
            reachable_peers=len(self._knowledge.topology.reachable()),
            known_peers=len(self._knowledge.directory.names()),
            terminated_connections=self._keeper.terminated,
            connection_limit=self._options.connection_limit,
        )

    # Each input begins and ends here

    def _begin(self, now: float) -> float:
        """Returns the time that all parts count by."""
        self._clock.advance(now, self._next_deadline)
        self._outbox.now = self._clock.now
        return self._clock.now

    def _finish(self, now: float) -> None:
        topology = self._knowledge.topology
        for link, refusal in self._keeper.run(now):
            self._close(link, refusal)
        if now >= self._settle_due:
            topology.settle()
            self._settle_due = NEVER
        elif topology.is_unsettled and self._settle_due == NEVER:
            self._settle_due = now + SETTLE_DELAY_S
        self._publisher.run(now)
        self._show_peers()
        if now >= self._forget_due:
            self._forget_departed()
        if now >= self._overlay_due:
            self._run_overlay()
        self._exchange.run(now)

    # Messages

    def _dispatch(self, link: LinkState, message: Message) -> None:
        match message:
            case Ping():
                digest = self._knowledge.replica.state_digest
                self._outbox.send(link, Pong(message.nonce, digest))
            case Pong():
                self._keeper.receive_pong(link, message)
                self._exchange.receive_pong(link, message)
            case Unicast():
                self._receive_unicast(message)
            case Refusal():
                if self._options.discovery:
                    self._dialler.hint(message.alternatives)
                self._close(link, None, message.reason)
            case _:
                for document in self._exchange.receive(link, message):
                    self._publisher.notice(document)

    def _receive_unicast(self, unicast: Unicast) -> None:
        if unicast.destination == self._name:
            self._outbox.put(DeliverUnicast(unicast.source, unicast.topic, unicast.payload))
        elif 1 < unicast.ttl <= UNICAST_TTL:
            self._forward(
                Unicast(
                    unicast.source,
                    unicast.destination,
                    unicast.topic,
                    unicast.payload,
                    unicast.ttl - 1,
                )
            )

    def _forward(self, unicast: Unicast) -> bool:
        link = self._links.to(unicast.destination)
        if link is None:
            next_hop = self._knowledge.topology.next_hop(unicast.destination)
            link = None if next_hop is None else self._links.to(next_hop)
        if link is None:
            return False
        self._exchange.relay(link, unicast)
        return True

    # Links, inside

    def _replace(self, link: LinkState) -> bool:
        """Ends the other link to the same peer, or the new one if that has to give way."""
        present = self._links.to(link.peer)
        if present is None:
            return True
        reason = f"Multiple connections to {link.peer}({link.hello.nickname})"
        if present.hello.instance == link.hello.instance and present.precedence > link.precedence:
            self._outbox.close(link, Refusal(RefusalCode.DUPLICATE, reason))
            return False
        self._close(present, Refusal(RefusalCode.DUPLICATE, reason))
        return True

    def _close(self, link: LinkState, refusal: Refusal | None, reason: str = "") -> None:
        self._outbox.close(link, refusal)
        self._remove_link(link, reason if refusal is None else refusal.reason)

    def _remove_link(self, link: LinkState, reason: str) -> None:
        now = self._outbox.now
        self._keeper.remove(link, reason)
        self._keeper.reschedule()
        if link.outbound:
            self._dialler.lost(link.address, reason, now - link.since, now)
        self._overlay.link_lost(link, now)
        self._publisher.link_removed()
        self._overlay_due = now

    def _run_overlay(self) -> None:
        now = self._outbox.now
        while (link := self._overlay.shed(now)) is not None:
            reason = "one connection too many; others lead here"
            alternatives = self._overlay.alternatives()
            self._close(link, Refusal(RefusalCode.SHED, reason, alternatives))
        dials, self._overlay_due = self._overlay.dial(now)
        for dial in dials:
            self._outbox.log(LogLevel.INFO, f"->[{dial.address}] attempting connection")
            self._outbox.put(dial)

    def _show_peers(self) -> None:
        now = self._outbox.now
        for peer, reachable in self._knowledge.show_peers():
            if reachable is None:
                self._overlay.peer_is_gone(peer)
                self._keeper.forget_peer(peer)
            elif reachable:
                self._overlay.peer_is_back(peer, now)
            else:
                self._overlay.peer_is_away(peer, now)
            self._overlay_due = min(self._overlay_due, now + OVERLAY_DELAY_S)

    def _forget_departed(self) -> None:
        """Removes peers that left for good and own nothing; the reachable peer of the lowest name
        does it for all.
        """
        now = self._outbox.now
        self._forget_due = now + FORGET_CHECK_S
        self._overlay.tidy()
        if self._name != min(self._knowledge.topology.reachable()):
            return
        for peer, since in list(self._overlay.away_since().items()):
            topics = {each.id.topic for each in self._knowledge.replica.of_writer(peer)}
            if now - since >= FORGET_AFTER_S and topics <= PERISHABLE_TOPICS:
                self._publisher.publish_removal(peer)

    def _targets_changed(self, now: float) -> None:
        self._outbox.put(PersistTargets(self.targets()))
        self._overlay_due = now
        self._finish(now)
