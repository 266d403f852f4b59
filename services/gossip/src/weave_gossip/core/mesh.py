"""The mesh of one peer as a state machine without I/O: inputs change it, `take_effects` says what
to do about it.

The shell calls one input at a time, then performs `take_effects()`, then sleeps until
`next_deadline()` or the next input. `now` is any clock in seconds; jumps of it do no harm, see
clock.py.

The parts, as assembly.py joins them: knowledge.py (documents and what they say), publishing.py (our
own), exchange.py (how documents travel), connecting.py (which links there are and should be),
unicasting.py (messages to one peer), departures.py (who is removed). rounds.py has what every input
begins and ends with, readings.py the questions.
"""

from __future__ import annotations

from collections.abc import Sequence
from random import Random

from weave_gossip.core.assembly import assemble
from weave_gossip.core.documents import Document, DocumentId
from weave_gossip.core.effects import Effect, LinkId, PersistTargets
from weave_gossip.core.errors import InvalidMessage
from weave_gossip.core.facts import PayloadCodec, PeerFacts
from weave_gossip.core.links import LinkState
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
from weave_gossip.core.readings import Readings
from weave_gossip.core.rounds import Rounds
from weave_model.peer import PeerName


class Mesh(Readings):
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
        super().__init__(
            assemble(name, incarnation, facts, codec, options, rng, now, documents, targets)
        )
        self._outbox = self._parts.outbox
        self._exchange = self._parts.exchange
        self._publisher = self._parts.publisher
        self._connector = self._parts.connector
        self._rounds = Rounds(self._parts)
        self._rounds.end(now)

    # Links

    def own_hello(self, epoch: int) -> Hello:
        """What to say on a new link: the epoch of the Dial effect, 0 where we accepted."""
        return self._connector.own_hello(epoch)

    def judge_hello(
        self, hello: Hello, *, outbound: bool, epoch: int, now: float
    ) -> Refusal | None:
        """The verdict on a Hello: None accepts. `epoch` is the dialler's: ours when outbound."""
        now = self._rounds.begin(now)
        refusal = self._connector.judge(hello, outbound=outbound, epoch=epoch)
        self._rounds.end(now)
        return refusal

    def link_established(
        self, link: LinkId, hello: Hello, *, outbound: bool, address: str, epoch: int, now: float
    ) -> None:
        """Both verdicts accepted.

        `address` is the one of the Dial, or where the connection came from.
        """
        now = self._rounds.begin(now)
        self._connector.established(link, hello, outbound=outbound, address=address, epoch=epoch)
        self._rounds.end(now)

    def link_lost(self, link: LinkId, reason: str, now: float) -> None:
        """The stream ended or failed. A link that the core closed itself is ignored."""
        now = self._rounds.begin(now)
        state = self._links.get(link)
        if state is not None:
            self._connector.lost(state, Refusal(RefusalCode.UNSPECIFIED, reason))
        self._rounds.end(now)

    def link_blocked(self, link: LinkId) -> None:
        """The send buffer is full: nothing but pings is sent until `link_drained`.

        The core keeps names, not copies.
        """
        state = self._links.get(link)
        if state is not None and state.blocked_since is None:
            state.blocked_since = self._outbox.now

    def link_drained(self, link: LinkId, now: float) -> None:
        """The send buffer has room again."""
        now = self._rounds.begin(now)
        state = self._links.get(link)
        if state is not None and state.blocked_since is not None:
            state.blocked_since = None
            self._exchange.resume(state)
        self._rounds.end(now)

    def dial_failed(self, address: str, refusal: Refusal, now: float) -> None:
        """A Dial came to nothing:

        a refusal of either side, or UNSPECIFIED with what the network said.
        """
        now = self._rounds.begin(now)
        self._connector.dial_failed(address, refusal)
        self._rounds.end(now)

    def receive(self, link: LinkId, message: Message, now: float) -> None:
        """Takes a message of a link. Never raises; what no peer may send closes that link."""
        now = self._rounds.begin(now)
        state = self._links.get(link)
        if state is None:
            return
        state.last_received = now
        try:
            self._dispatch(state, message)
        except InvalidMessage as error:
            self._connector.close(state, Refusal(RefusalCode.MALFORMED, str(error)))
        self._rounds.end(now)

    # Time

    def tick(self, now: float) -> None:
        """Does what is due. Harmless when nothing is."""
        self._rounds.end(self._rounds.begin(now))

    def next_deadline(self) -> float | None:
        """When to call `tick` next."""
        return self._rounds.wake_at()

    def take_effects(self) -> list[Effect]:
        """What is to be done, oldest first; the list is the caller's."""
        return self._outbox.take()

    # Requests

    def publish(self, topic: str, key: str, payload: bytes, now: float) -> Document:
        """Writes our document; the same payload again changes nothing. Raises InvalidDocument."""
        now = self._rounds.begin(now)
        document = self._publisher.publish(topic, key, payload)
        self._rounds.end(now)
        return document

    def withdraw(self, topic: str, key: str, now: float) -> None:
        """Takes our document back; absent is success.

        Raises InvalidDocument for topics of the mesh.
        """
        now = self._rounds.begin(now)
        self._publisher.withdraw(topic, key)
        self._rounds.end(now)

    def quarantine(
        self, document_id: DocumentId, incarnation: int, version: int, reason: str, now: float
    ) -> None:
        """Sets one version aside so that it shows in status; one no longer held is success."""
        now = self._rounds.begin(now)
        held = self._knowledge.replica.get(document_id)
        if held is not None and (held.incarnation, held.version) == (incarnation, version):
            self._knowledge.set_aside(held, reason)
        self._rounds.end(now)

    def connect(self, targets: Sequence[str], *, replace: bool, now: float) -> None:
        """Adds targets (normalised "host:port"), or replaces all; links stay.

        Also forgets their back-off.
        """
        now = self._rounds.begin(now)
        self._parts.dialler.connect(targets, replace=replace)
        self._targets_changed(now)

    def forget(self, targets: Sequence[str], now: float) -> None:
        """Removes targets; links stay until they break."""
        now = self._rounds.begin(now)
        self._parts.dialler.forget(targets)
        self._targets_changed(now)

    def remove_peer(self, name: PeerName, now: float) -> None:
        """Removes a departed peer's documents everywhere; unknown is success.

        Raises PeerReachable for a peer that is alive and for ourselves.
        """
        now = self._rounds.begin(now)
        self._parts.departures.remove(name)
        self._rounds.end(now)

    def send_unicast(self, destination: PeerName, topic: str, payload: bytes, now: float) -> None:
        """Sends towards a peer; to ourselves it is delivered.

        Raises NoRoute, and InvalidDocument when too large.
        """
        now = self._rounds.begin(now)
        self._parts.unicasts.send(destination, topic, payload)
        self._rounds.end(now)

    def update_facts(self, facts: PeerFacts, now: float) -> None:
        """Publishes changed facts about ourselves, such as a new underlay address."""
        now = self._rounds.begin(now)
        self._publisher.publish_facts(facts)
        self._rounds.end(now)

    # Inside

    def _dispatch(self, link: LinkState, message: Message) -> None:
        match message:
            case Ping():
                digest = self._knowledge.replica.state_digest
                self._outbox.send(link, Pong(message.nonce, digest))
            case Pong():
                self._parts.keeper.receive_pong(link, message)
                self._exchange.receive_pong(link, message)
            case Unicast():
                self._parts.unicasts.receive(message)
            case Refusal():
                self._connector.hint(message)
                self._outbox.close(link, None)
                self._connector.lost(link, message)
            case _:
                for document in self._exchange.receive(link, message):
                    self._publisher.notice(document)

    def _targets_changed(self, now: float) -> None:
        self._outbox.put(PersistTargets(self.targets()))
        self._connector.targets_changed()
        self._rounds.end(now)
