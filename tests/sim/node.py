"""One simulated machine: a core, a store that survives it, and its own clock."""

from __future__ import annotations

from collections.abc import Callable
from ipaddress import IPv4Address
from random import Random
from typing import Any

from tests.sim.network import Network, Stream
from weave_gossip.core.documents import Document, DocumentId
from weave_gossip.core.effects import (
    CloseLink,
    DeliverUnicast,
    Dial,
    DocumentChanged,
    Effect,
    LinkId,
    LogEvent,
    PeerChanged,
    PeerRemoved,
    PersistDocument,
    PersistIncarnation,
    PersistTargets,
    Send,
)
from weave_gossip.core.facts import PayloadCodec, PeerFacts
from weave_gossip.core.mesh import Mesh
from weave_gossip.core.messages import Hello, Message, Refusal
from weave_gossip.core.options import MeshOptions
from weave_model.peer import PeerName

MESH_PORT = 6783


class Node:
    """Number n has the name 02:00:00:00:xx:xx and the address 10.0.x.x, unless it is a clone."""

    def __init__(
        self,
        number: int,
        network: Network,
        rng: Random,
        options: MeshOptions,
        codec: PayloadCodec,
        targets: tuple[str, ...],
        name: PeerName | None = None,
    ) -> None:
        self.number = number
        self.name = name or PeerName(b"\x02" + (number + 1).to_bytes(5, "big"))
        self.network = network
        self.is_up = False
        # Down, and nobody answers for it: the machine is off rather than the process.
        self.is_dark = False
        self.life = 0
        self.clock_offset = 1000.0
        self.stalled_until = 0.0
        self.sent_bytes = 0
        self.received_bytes = 0
        self.mesh: Mesh
        self.unicasts: list[DeliverUnicast] = []
        # What `weave status` would be told, kept from effects as a shell keeps it.
        self.reachable: set[PeerName] = set()
        self.on_document: Callable[[Node, Document], None] | None = None
        self.on_effect: Callable[[Node, Effect], None] | None = None
        self.on_peer: Callable[[Node, PeerName, bool], None] | None = None
        self.after_input: Callable[[Node], None] | None = None
        self.log: list[str] | None = None
        self._rng = rng
        self._options = options
        self._codec = codec
        self.streams: dict[LinkId, Stream] = {}
        self._tick_at = float("inf")
        # The store.
        self.stored: dict[DocumentId, Document] = {}
        self.stored_incarnation = 0
        self.stored_targets = targets
        network.listen(self)

    @property
    def address(self) -> str:
        return f"{self._ip}:{MESH_PORT}"

    @property
    def _ip(self) -> IPv4Address:
        return IPv4Address((10 << 24) + self.number + 1)

    def address_from(self) -> str:
        """Where a connection of ours seems to come from: our address, with an ephemeral port."""
        return f"{self._ip}:{32768 + self._rng.randrange(28000)}"

    @property
    def now(self) -> float:
        """By this machine's own clock."""
        return self.network.scheduler.now + self.clock_offset

    # Life

    def start(self) -> None:
        """Starts the process with what the store holds."""
        assert not self.is_up
        self.is_up = True
        self.is_dark = False
        self.life += 1
        self.stalled_until = 0.0
        self.reachable = set()
        self.streams = {}
        self._tick_at = float("inf")
        self.stored_incarnation += 1
        facts = PeerFacts(
            nickname=f"node{self.number}",
            instance=self._rng.randbytes(8),
            listen_port=MESH_PORT,
            underlay_addresses=(self._ip.packed,),
            universes=("10.32.0.0/12",),
        )
        self.mesh = Mesh(
            name=self.name,
            incarnation=self.stored_incarnation,
            facts=facts,
            codec=self._codec,
            options=self._options,
            rng=Random(self._rng.getrandbits(64)),
            now=self.now,
            documents=tuple(self.stored.values()),
            targets=self.stored_targets,
        )
        self._perform()

    def crash(self, *, dark: bool, lose_state: bool = False) -> None:
        """Stops at once. Unless the machine goes dark, its kernel closes the sockets."""
        assert self.is_up
        streams = list(self.streams.values())
        if dark:
            for stream in streams:
                stream.is_open = False
        else:
            for stream in streams:
                self.network.close(stream, "connection reset by peer", None)
        self.is_up = False
        self.is_dark = dark
        self.streams = {}
        if lose_state:
            self.stored.clear()
            self.stored_incarnation = 0

    def stall(self, seconds: float) -> None:
        """Does nothing for a while, as a process that is starved of CPU."""
        self.stalled_until = max(self.stalled_until, self.network.scheduler.now + seconds)

    # Inputs

    def judge(self, hello: Hello, *, outbound: bool, epoch: int) -> Refusal | None:
        refusal = self.mesh.judge_hello(hello, outbound=outbound, epoch=epoch, now=self.now)
        self._perform()
        return refusal

    def open(
        self, stream: Stream, hello: Hello, *, outbound: bool, address: str, epoch: int
    ) -> None:
        self.streams[stream.link] = stream
        self.mesh.link_established(
            stream.link, hello, outbound=outbound, address=address, epoch=epoch, now=self.now
        )
        self._perform()

    def receive(self, stream: Stream, message: Message) -> None:
        self.mesh.receive(stream.link, message, self.now)
        self._perform()

    def lost(self, stream: Stream, reason: str) -> None:
        self.streams.pop(stream.link, None)
        self.mesh.link_lost(stream.link, reason, self.now)
        self._perform()

    def blocked(self, stream: Stream) -> None:
        if self.is_up and stream.is_open:
            self.mesh.link_blocked(stream.link)

    def drained(self, stream: Stream) -> None:
        if self.is_up:
            self.mesh.link_drained(stream.link, self.now)
            self._perform()

    def dial_failed(self, address: str, refusal: Refusal) -> None:
        self.mesh.dial_failed(address, refusal, self.now)
        self._perform()

    def publish(self, topic: str, key: str, payload: bytes) -> Document:
        document = self.mesh.publish(topic, key, payload, self.now)
        self._perform()
        return document

    def perform(self) -> None:
        """After a direct call of the core."""
        self._perform()

    # Effects

    def _perform(self) -> None:
        for effect in self.mesh.take_effects():
            if self.on_effect is not None:
                self.on_effect(self, effect)
            perform = _PERFORM.get(type(effect))
            if perform is not None:
                perform(self, effect)
        if self.after_input is not None:
            self.after_input(self)
        self._schedule()

    def note_peer(self, name: PeerName, *, reachable: bool) -> None:
        if reachable == (name in self.reachable):
            return
        if reachable:
            self.reachable.add(name)
        else:
            self.reachable.discard(name)
        if self.on_peer is not None:
            self.on_peer(self, name, reachable)

    def _schedule(self) -> None:
        due = self.mesh.next_deadline()
        if due is None:
            return
        when = due - self.clock_offset
        if when < self._tick_at:
            self._tick_at = when
            self.network.scheduler.at(when, self._tick, self.life, when)

    def _tick(self, life: int, when: float) -> None:
        if life != self.life or not self.is_up or when != self._tick_at:
            return
        now = self.network.scheduler.now
        self._tick_at = float("inf")
        if self.stalled_until > now:
            self._tick_at = self.stalled_until
            self.network.scheduler.at(self.stalled_until, self._tick, life, self.stalled_until)
            return
        self.mesh.tick(self.now)
        self._perform()


def _send(node: Node, effect: Send) -> None:
    stream = node.streams.get(effect.link)
    if stream is not None:
        node.network.send(stream, effect.message)


def _close(node: Node, effect: CloseLink) -> None:
    stream = node.streams.pop(effect.link, None)
    if stream is not None:
        reason = "closed" if effect.refusal is None else effect.refusal.reason
        node.network.close(stream, reason, effect.refusal)


def _dial(node: Node, effect: Dial) -> None:
    node.network.dial(node, effect)


def _show_document(node: Node, effect: DocumentChanged) -> None:
    if node.on_document is not None:
        node.on_document(node, effect.document)


def _change_peer(node: Node, effect: PeerChanged) -> None:
    node.note_peer(effect.peer.name, reachable=effect.peer.reachable)


def _remove_peer(node: Node, effect: PeerRemoved) -> None:
    node.note_peer(effect.name, reachable=False)


def _store_document(node: Node, effect: PersistDocument) -> None:
    node.stored[effect.document.id] = effect.document


def _store_incarnation(node: Node, effect: PersistIncarnation) -> None:
    node.stored_incarnation = effect.incarnation


def _store_targets(node: Node, effect: PersistTargets) -> None:
    node.stored_targets = effect.targets


def _deliver(node: Node, effect: DeliverUnicast) -> None:
    node.unicasts.append(effect)


def _log(node: Node, effect: LogEvent) -> None:
    if node.log is not None:
        node.log.append(effect.message)


_PERFORM: dict[type, Callable[[Node, Any], None]] = {
    Send: _send,
    CloseLink: _close,
    Dial: _dial,
    DocumentChanged: _show_document,
    PeerChanged: _change_peer,
    PeerRemoved: _remove_peer,
    PersistDocument: _store_document,
    PersistIncarnation: _store_incarnation,
    PersistTargets: _store_targets,
    DeliverUnicast: _deliver,
    LogEvent: _log,
}
