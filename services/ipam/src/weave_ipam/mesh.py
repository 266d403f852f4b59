"""What gossip and Coordination tell, as inputs of the core.

Keeps the ring documents of other peers in the store too: after a restart of everything on a node
the ring is known before the first link of the mesh is up, so no route is taken away meanwhile.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection, Mapping

from weave_ipam import fence_book
from weave_ipam.core.allocator import Allocator
from weave_ipam.core.documents import (
    TOPIC_PAXOS,
    TOPIC_RING,
    TOPIC_SPACE,
    UNVERSIONED,
    DocumentValue,
    DocumentVersion,
    Unreadable,
    family_of_key,
)
from weave_ipam.core.results import PeerInfo
from weave_ipam.errands import genesis_key
from weave_ipam.gossip_client import Document, DocumentKey, Peer
from weave_ipam.loop import Owner
from weave_ipam.wire import decode_document, decode_genesis, decode_message
from weave_model.peer import PeerName
from weave_model.prefix import Family

TOPICS = (TOPIC_RING, TOPIC_PAXOS, TOPIC_SPACE)
SEEN = "seen"
# Messages that wait for their turn; the core asks again for what is lost.
MAX_MESSAGES = 1024

log = logging.getLogger(__name__)


def seen_key(writer: PeerName, key: str) -> str:
    """The store's key of another peer's ring document."""
    return f"{SEEN}/{key}/{writer}"


def seen_documents(entries: Mapping[str, bytes]) -> dict[DocumentKey, bytes]:
    """The ring documents of other peers that a store holds; what is none is left out."""
    found = {}
    for entry, payload in entries.items():
        kind, _, rest = entry.partition("/")
        key, _, writer = rest.partition("/")
        if kind == SEEN and family_of_key(key) is not None:
            try:
                found[PeerName.parse(writer), key] = payload
            except ValueError:
                log.warning("entry of the store left out", extra={"entry": entry})
    return found


class MeshInputs:
    """A `Listener` of gossip that posts to the owner."""

    def __init__(
        self,
        owner: Owner,
        name: PeerName,
        ring_known: Callable[[], None],
        fail: Callable[[str], None],
    ) -> None:
        self._owner = owner
        self._core: Allocator = owner.allocator
        self._name = name
        self._ring_known = ring_known
        self._fail = fail
        self._messages = 0
        # Nicknames for status texts.
        self.peers: dict[PeerName, Peer] = {}

    def replay(self, seen: Mapping[DocumentKey, bytes]) -> None:
        """Hands over what was known before the restart."""
        for (writer, key), payload in seen.items():
            if writer != self._name:
                self._post_document(TOPIC_RING, writer, key, payload, UNVERSIONED)

    def on_peers(self, peers: Mapping[PeerName, Peer]) -> None:
        """All peers known now."""
        own = next((peer.name for peer in peers.values() if peer.is_self), self._name)
        if own != self._name:
            self._fail(f"gossip's peer name is {own}, this process works under {self._name}")
            return
        self.peers = dict(peers)
        infos = [
            PeerInfo(peer.name, peer.nickname, peer.reachable, peer.incarnation, peer.node_uid)
            for peer in peers.values()
        ]
        self._owner.post(lambda now: self._core.peers_changed(infos, now), "peers")

    def on_documents(
        self,
        topic: str,
        items: Mapping[DocumentKey, Document],
        changed: Collection[DocumentKey],
        removed: Collection[DocumentKey],
    ) -> None:
        """Documents of a topic are new, other or gone."""
        for writer, key in changed:
            document = items[writer, key]
            version = DocumentVersion(document.incarnation, document.version)
            value = self._post_document(topic, writer, key, document.payload, version)
            if topic == TOPIC_RING and writer != self._name and not isinstance(value, Unreadable):
                self._owner.remember(seen_key(writer, key), document.payload)
        for writer, key in removed:
            self._post_removal(topic, writer, key)
            if topic == TOPIC_RING:
                self._owner.remember(seen_key(writer, key), None)
        self._owner.post(lambda now: self._synced(topic, now), ("synced", topic))

    def on_message(self, source: PeerName, payload: bytes) -> None:
        """A peer has sent a message."""
        if self._messages >= MAX_MESSAGES:
            return
        try:
            message = decode_message(payload)
        except ValueError as error:
            log.warning("message left out", extra={"peer": source, "reason": str(error)})
            return
        if message is None:
            return

        def deliver(now: float) -> None:
            self._messages -= 1
            self._core.message_received(source, message, now)

        self._messages += 1
        self._owner.post(deliver)

    def on_entry(self, key: str, _revision: int, value: bytes) -> None:
        """A key of Coordination has another value."""
        try:
            if key == fence_book.key_of(self._name):
                self._post_fence(value)
            for family in Family:
                if key == genesis_key(family):
                    self._post_genesis(family, value)
        except ValueError as error:
            log.warning("Coordination left out", extra={"key": key, "reason": str(error)})

    def _post_fence(self, value: bytes) -> None:
        revision, fence = fence_book.find(value, self._name)
        if fence is not None:
            self._owner.post(
                lambda now: self._core.fence_read(self._name, revision, fence, now), "fence"
            )

    def _post_genesis(self, family: Family, value: bytes) -> None:
        genesis = decode_genesis(value)
        self._owner.post(
            lambda now: self._core.genesis_agreed(family, genesis, now), genesis_key(family)
        )

    def _post_document(
        self, topic: str, writer: PeerName, key: str, payload: bytes, version: DocumentVersion
    ) -> DocumentValue:
        value = decode_document(topic, payload)
        self._owner.post(
            lambda now: self._core.document_received(topic, writer, key, value, now, version),
            ("document", topic, writer, key),
        )
        return value

    def _post_removal(self, topic: str, writer: PeerName, key: str) -> None:
        self._owner.post(
            lambda now: self._core.document_removed(topic, writer, key, now),
            ("document", topic, writer, key),
        )

    def _synced(self, topic: str, now: float) -> None:
        self._core.documents_synced(topic, now)
        if topic == TOPIC_RING:
            self._ring_known()
