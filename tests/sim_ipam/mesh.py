"""A minimal link model: replicated documents and messages that are delayed, lost, doubled, cut off.

It keeps gossip's promises (one writer per document, the greatest order wins, repair in the end) and
nothing more: no topology, no relays.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Protocol

from tests.sim.scheduler import Scheduler
from weave_ipam.core.documents import DocumentVersion, Message, PublishedValue
from weave_ipam.core.results import PeerInfo
from weave_model.peer import PeerName

DocumentId = tuple[str, PeerName, str]


@dataclass(slots=True)
class Links:
    """What the links do; times in seconds, shares of one."""

    delay_s: float = 0.0
    loss: float = 0.0
    duplication: float = 0.0
    # How long until a cut or a dead peer is noticed, at most.
    notice_s: float = 0.0
    # How often each peer compares all it has with a random other one.
    repair_s: float = 1.0
    # Peers in different groups do not reach each other.
    group: dict[PeerName, int] = field(default_factory=dict)

    def join(self, one: PeerName, other: PeerName) -> bool:
        """Do packets pass?"""
        return self.group.get(one, 0) == self.group.get(other, 0)


@dataclass(frozen=True, slots=True)
class Stored:
    """One version of a document."""

    order: DocumentVersion
    value: PublishedValue


class Listener(Protocol):
    """The ipam of one peer, as gossip sees it; nothing arrives while it is down."""

    def document_received(self, document: DocumentId, stored: Stored) -> None: ...
    def document_removed(self, document: DocumentId) -> None: ...
    def peers_changed(self, peers: list[PeerInfo]) -> None: ...
    def message_received(self, source: PeerName, message: Message) -> None: ...


@dataclass(slots=True)
class Replica:
    """One peer's gossip. All of it is durable."""

    name: PeerName
    listener: Listener
    incarnation: int = 1
    up: bool = True
    documents: dict[DocumentId, Stored] = field(default_factory=dict)
    # Removed peers: documents up to this incarnation are dropped.
    removed: dict[PeerName, int] = field(default_factory=dict)
    noticed: frozenset[PeerName] = frozenset()

    def accepts(self, document: DocumentId, stored: Stored) -> bool:
        """Is this version new here?"""
        if stored.order.incarnation <= self.removed.get(document[1], 0):
            return False
        held = self.documents.get(document)
        return held is None or held.order < stored.order


class Mesh:
    """All replicas and what is under way between them."""

    def __init__(self, scheduler: Scheduler, rng: random.Random, links: Links) -> None:
        self.links = links
        self.replicas: dict[PeerName, Replica] = {}
        self._scheduler = scheduler
        self._rng = rng

    def add(self, name: PeerName, listener: Listener) -> Replica:
        """A peer that comes up now."""
        replica = self.replicas[name] = Replica(name, listener)
        self._scheduler.after(self._repair_pause(), self._repair, replica)
        self.links_changed()
        return replica

    def start(self, replica: Replica) -> None:
        """Gossip of a peer comes up again with what it had."""
        replica.up = True
        replica.incarnation += 1
        self._republish(replica)

    def stop(self, replica: Replica) -> None:
        """Gossip of a peer is gone."""
        replica.up = False
        self.links_changed()

    # What ipam asks for

    def publish(self, replica: Replica, topic: str, key: str, value: PublishedValue) -> None:
        document = (topic, replica.name, key)
        held = replica.documents.get(document)
        if held is not None and held.value == value:
            return
        version = held.order.version + 1 if held is not None else 1
        self._store(replica, document, Stored(DocumentVersion(replica.incarnation, version), value))

    def send(self, replica: Replica, to: PeerName, message: Message) -> None:
        receiver = self.replicas.get(to)
        if receiver is not None:
            self._transmit(
                replica, receiver, receiver.listener.message_received, replica.name, message
            )

    def remove_peer(self, replica: Replica, victim: PeerName) -> None:
        """Refused, as gossip does, for a peer that is reachable."""
        if victim not in replica.noticed and victim != replica.name:
            known = self.replicas.get(victim)
            incarnation = max(
                (s.order.incarnation for (_, w, _), s in replica.documents.items() if w == victim),
                default=known.incarnation if known is not None else 0,
            )
            self._remove(replica, victim, incarnation)

    # Reachability

    def links_changed(self) -> None:
        """Every peer notices sooner or later what reaches it now."""
        for replica in self.replicas.values():
            self._scheduler.after(self._rng.random() * self.links.notice_s, self._notice, replica)

    def peers_of(self, replica: Replica) -> list[PeerInfo]:
        """What gossip tells about peers."""
        return [
            PeerInfo(
                other.name,
                nickname=f"node-{other.name[-1]}",
                reachable=other.name in replica.noticed or other is replica,
                incarnation=other.incarnation,
            )
            for other in self.replicas.values()
            if replica.removed.get(other.name, 0) < other.incarnation
        ]

    def has_heard(self, replica: Replica, topic: str, writer: PeerName) -> bool:
        """Has it heard, or forgotten, all that others have heard of what a peer wrote?"""
        return not any(
            replica.accepts(document, stored)
            for other in self.replicas.values()
            for document, stored in other.documents.items()
            if document[:2] == (topic, writer) and other.name != writer
        )

    def _notice(self, replica: Replica) -> None:
        noticed = frozenset(
            other.name
            for other in self.replicas.values()
            if other is not replica and other.up and self.links.join(replica.name, other.name)
        )
        if replica.up:
            replica.noticed = noticed
            replica.listener.peers_changed(self.peers_of(replica))

    # Spreading

    def _store(self, replica: Replica, document: DocumentId, stored: Stored) -> None:
        replica.documents[document] = stored
        replica.listener.document_received(document, stored)
        for other in self.replicas.values():
            if other is not replica:
                self._transmit(replica, other, self._receive, other, document, stored)

    def _receive(self, replica: Replica, document: DocumentId, stored: Stored) -> None:
        if not replica.accepts(document, stored):
            return
        if document[1] == replica.name:
            # Our own document is ahead of us.
            replica.incarnation = max(replica.incarnation, stored.order.incarnation + 1)
            replica.documents.setdefault(document, stored)
            self._republish(replica)
            return
        replica.documents[document] = stored
        replica.listener.document_received(document, stored)

    def _receive_removal(self, replica: Replica, victim: PeerName, incarnation: int) -> None:
        if replica.removed.get(victim, 0) < incarnation:
            self._remove(replica, victim, incarnation)

    def _remove(self, replica: Replica, victim: PeerName, incarnation: int) -> None:
        if victim == replica.name:
            if replica.incarnation <= incarnation:
                replica.incarnation = incarnation + 1
                self._republish(replica)
            return
        replica.removed[victim] = max(replica.removed.get(victim, 0), incarnation)
        gone = [
            document
            for document, stored in replica.documents.items()
            if document[1] == victim and stored.order.incarnation <= incarnation
        ]
        for document in gone:
            # The listener may have removed it meanwhile.
            if replica.documents.pop(document, None) is not None:
                replica.listener.document_removed(document)
        for other in self.replicas.values():
            if other is not replica:
                self._transmit(replica, other, self._receive_removal, other, victim, incarnation)

    def _republish(self, replica: Replica) -> None:
        """A new life: its documents are newer than all before, and all peers hear of it."""
        for document, stored in list(replica.documents.items()):
            if document[1] == replica.name:
                order = DocumentVersion(replica.incarnation, stored.order.version + 1)
                self._store(replica, document, Stored(order, stored.value))
        self.links_changed()

    def _repair(self, replica: Replica) -> None:
        self._scheduler.after(self._repair_pause(), self._repair, replica)
        others = [
            other
            for other in self.replicas.values()
            if other is not replica and other.up and self.links.join(replica.name, other.name)
        ]
        if not replica.up or not others:
            return
        other = self._rng.choice(others)
        for giver, taker in ((replica, other), (other, replica)):
            for victim, incarnation in list(giver.removed.items()):
                self._receive_removal(taker, victim, incarnation)
            held = taker.documents
            news = [item for item in giver.documents.items() if held.get(item[0]) is not item[1]]
            for document, stored in news:
                self._receive(taker, document, stored)

    def _repair_pause(self) -> float:
        return self.links.repair_s * (0.5 + self._rng.random())

    def _transmit(
        self, source: Replica, to: Replica, call: Callable[..., None], *args: object
    ) -> None:
        if not source.up or not self.links.join(source.name, to.name):
            return
        copies = 1 + (self._rng.random() < self.links.duplication)
        for _ in range(copies):
            if self._rng.random() >= self.links.loss:
                delay = self.links.delay_s * (0.2 + 1.6 * self._rng.random())
                self._scheduler.after(delay, self._deliver, source, to, call, args)

    def _deliver(
        self, source: Replica, to: Replica, call: Callable[..., None], args: tuple[object, ...]
    ) -> None:
        if to.up and self.links.join(source.name, to.name):
            call(*args)
