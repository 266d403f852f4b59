"""A mesh without a network: documents and messages of several peers, with links that can be cut.

Replication is instant where a path of links exists. Knows nothing of gRPC.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, replace

from weave_model.errors import Aborted, Absent, Conflict, Invalid
from weave_model.peer import PeerName
from weave_runtime.watch import Table

# The limits of gossip.proto.
MAX_NAME_BYTES = 128
MAX_PAYLOAD_BYTES = 1 << 20
MAX_MESSAGE_BYTES = 1 << 16
OWN_TOPICS = frozenset({"peers", "links"})


@dataclass(frozen=True, slots=True)
class Document:
    """One version of a document."""

    topic: str
    writer: PeerName
    key: str
    incarnation: int
    version: int
    payload: bytes

    @property
    def order(self) -> tuple[int, int]:
        """Newer is greater."""
        return self.incarnation, self.version


@dataclass(frozen=True, slots=True)
class Peer:
    """A peer as another sees it."""

    name: PeerName
    nickname: str
    reachable: bool
    incarnation: int
    node_uid: str


@dataclass(frozen=True, slots=True)
class Quarantined:
    """A version that a consumer rejected."""

    document: Document
    reason: str


class MeshPeer:
    """What one gossip process holds."""

    def __init__(self, mesh: Mesh, name: PeerName, nickname: str, node_uid: str) -> None:
        self.mesh = mesh
        self.name = name
        self.nickname = nickname
        self.node_uid = node_uid
        self.incarnation = 1
        self.targets: list[str] = []
        self.peers: Table[PeerName, Peer] = Table()
        self.quarantined: dict[tuple[str, PeerName, str], Quarantined] = {}
        self._topics: dict[str, Table[tuple[PeerName, str], Document]] = {}
        self._inboxes: dict[str, set[asyncio.Queue[tuple[PeerName, bytes]]]] = {}
        self.peers.complete()

    @property
    def topics(self) -> list[str]:
        """All topics that anything is known of."""
        return list(self._topics)

    def documents(self, topic: str) -> Table[tuple[PeerName, str], Document]:
        """All documents of a topic that are known here."""
        if topic not in self._topics:
            self._topics[topic] = Table()
            self._topics[topic].complete()
        return self._topics[topic]

    def publish(self, topic: str, key: str, payload: bytes) -> Document:
        """Writes an own document; the same payload again changes nothing. Raises Invalid."""
        if topic in OWN_TOPICS:
            raise Invalid(f"topic {topic!r} is written by gossip itself")
        for what, text in (("topic", topic), ("key", key)):
            if len(text.encode()) > MAX_NAME_BYTES:
                raise Invalid(f"{what} has more than {MAX_NAME_BYTES} bytes")
        if not topic:
            raise Invalid("topic is empty")
        if len(payload) > MAX_PAYLOAD_BYTES:
            raise Invalid(f"payload has {len(payload)} bytes, more than {MAX_PAYLOAD_BYTES}")
        present = self.documents(topic).items.get((self.name, key))
        if present is not None and present.payload == payload:
            return present
        version = present.version + 1 if present and present.incarnation == self.incarnation else 1
        document = Document(topic, self.name, key, self.incarnation, version, payload)
        self.documents(topic).put((self.name, key), document)
        self.mesh.spread(self)
        return document

    def withdraw(self, topic: str, key: str) -> None:
        """Takes an own document back from all that can be reached."""
        for peer in self.mesh.reachable(self.name):
            peer.documents(topic).remove((self.name, key))

    def quarantine(self, document: Document, reason: str) -> None:
        """Sets a version aside if it is the one held."""
        held = self.documents(document.topic).items.get((document.writer, document.key))
        if held is not None and held.order == document.order:
            self.quarantined[document.topic, document.writer, document.key] = Quarantined(
                held, reason
            )

    def send(self, to: PeerName, topic: str, payload: bytes) -> None:
        """Hands a message over to a peer. Raises Absent without a route, Invalid above 64 KiB."""
        if len(payload) > MAX_MESSAGE_BYTES:
            raise Invalid(f"message has {len(payload)} bytes, more than {MAX_MESSAGE_BYTES}")
        target = next((p for p in self.mesh.reachable(self.name) if p.name == to), None)
        if target is None:
            raise Absent(f"no route to {to}")
        target.deliver(self.name, topic, payload)

    def deliver(self, source: PeerName, topic: str, payload: bytes) -> None:
        """Puts a message into every inbox of its topic."""
        for inbox in self._inboxes.get(topic, ()):
            inbox.put_nowait((source, payload))

    def open_inbox(self, topic: str) -> asyncio.Queue[tuple[PeerName, bytes]]:
        """Messages under a topic from now on, until `close_inbox`."""
        inbox: asyncio.Queue[tuple[PeerName, bytes]] = asyncio.Queue()
        self._inboxes.setdefault(topic, set()).add(inbox)
        return inbox

    def close_inbox(self, topic: str, inbox: asyncio.Queue[tuple[PeerName, bytes]]) -> None:
        """Ends an inbox. Idempotent."""
        self._inboxes.get(topic, set()).discard(inbox)

    def remove_peer(self, name: PeerName) -> None:
        """Forgets a departed peer here and wherever a path leads. Raises Conflict."""
        if name == self.name:
            raise Conflict(f"{name} is this peer")
        if any(peer.name == name for peer in self.mesh.reachable(self.name)):
            raise Conflict(f"{name} is reachable")
        for peer in self.mesh.reachable(self.name):
            peer.forget(name)

    def forget(self, name: PeerName) -> None:
        """Drops a peer and its documents. Idempotent."""
        self.peers.remove(name)
        for table in self._topics.values():
            table.update({}, [key for key in table.items if key[0] == name])

    def merge(self, other: MeshPeer) -> None:
        """Takes what the other holds newer; meets its own documents of an earlier life."""
        for topic in other.topics:
            newer = {
                key: document
                for key, document in other.documents(topic).items.items()
                if self._is_news(topic, key, document)
            }
            self.documents(topic).update(newer)

    def _is_news(self, topic: str, key: tuple[PeerName, str], document: Document) -> bool:
        held = self.documents(topic).items.get(key)
        if (
            document.writer == self.name
            and document.incarnation >= self.incarnation
            and held is None
        ):
            self.incarnation = document.incarnation + 1
            return False
        return held is None or document.order > held.order


class Mesh:
    """All peers and the links between them: every pair is linked until it is cut."""

    def __init__(self) -> None:
        self._peers: dict[PeerName, MeshPeer] = {}
        self._cut: set[frozenset[PeerName]] = set()
        self._down: set[PeerName] = set()

    def add(self, name: PeerName, *, nickname: str = "", node_uid: str = "") -> MeshPeer:
        """A new peer, linked to all others."""
        peer = MeshPeer(self, name, nickname or f"node-{len(self._peers) + 1}", node_uid)
        self._peers[name] = peer
        self._relink()
        return peer

    def cut(self, one: PeerName, other: PeerName) -> None:
        """Takes the link between two peers away."""
        self._cut.add(frozenset((one, other)))
        self._relink()

    def heal(self) -> None:
        """All links are back."""
        self._cut.clear()
        self._relink()

    def take_down(self, name: PeerName) -> None:
        """A peer dies: none of its links is left. It stays known."""
        self._down.add(name)
        self._relink()

    def bring_up(self, name: PeerName) -> None:
        """A peer comes back with what it knew, in a new life."""
        self._down.discard(name)
        self._peers[name].incarnation += 1
        self._relink()

    def reachable(self, name: PeerName) -> list[MeshPeer]:
        """All peers to which a path of links leads, the peer itself first."""
        found = [name]
        for here in found:
            found += [
                there for there in self._peers if there not in found and self._linked(here, there)
            ]
        return [self._peers[peer] for peer in found]

    def spread(self, origin: MeshPeer) -> None:
        """Everybody reachable learns what the origin knows."""
        for peer in self.reachable(origin.name):
            if peer is not origin:
                peer.merge(origin)

    def _linked(self, one: PeerName, other: PeerName) -> bool:
        return frozenset((one, other)) not in self._cut and not {one, other} & self._down

    def _relink(self) -> None:
        for peer in self._peers.values():
            there = self.reachable(peer.name)
            for other in there:
                known = Peer(other.name, other.nickname, True, other.incarnation, other.node_uid)
                peer.peers.put(other.name, known)
                if other is not peer:
                    peer.merge(other)
            for name, known in list(peer.peers.items.items()):
                if self._peers[name] not in there:
                    peer.peers.put(name, replace(known, reachable=False))


class Coordinated:
    """The values of Coordination, shared by all peers that can reach its back-end."""

    def __init__(self) -> None:
        # Key -> (revision, value).
        self.table: Table[str, tuple[int, bytes]] = Table()
        self.table.complete()

    def get(self, key: str) -> tuple[int, bytes]:
        """Revision 0 and nothing for a key that does not exist."""
        return self.table.items.get(key, (0, b""))

    def compare_and_swap(self, key: str, expected: int, value: bytes) -> int:
        """The new revision. Raises Aborted when the present one is not the expected."""
        revision, _ = self.get(key)
        if revision != expected:
            raise Aborted(f"key {key!r} has revision {revision}, not {expected}")
        self.table.put(key, (revision + 1, value))
        return revision + 1
