"""What must hold after every step, whatever the network does; a broken one names the node and the
time.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import reduce
from operator import xor

from tests.sim.cluster import Cluster
from tests.sim.node import Node
from tests.sim.wire import frame_bytes
from weave_gossip.core.documents import Document, DocumentId
from weave_gossip.core.effects import Dial, DocumentChanged, Effect, Send
from weave_gossip.core.messages import Documents
from weave_model.peer import PeerName

MAX_FRAME_BYTES = 1 << 20
# Checks that look at everything a node holds are made at one in so many of its inputs.
THOROUGH_EVERY = 200


class Broken(AssertionError):
    """An invariant does not hold."""


class Watchman:
    """Looks at every effect of nodes (all unless told) and at a node after each of its inputs."""

    def __init__(
        self, cluster: Cluster, connection_limit: int, nodes: Sequence[Node] | None = None
    ) -> None:
        self._cluster = cluster
        self._limit = connection_limit
        self._newest: dict[tuple[int, int, DocumentId], Document] = {}
        self._inputs = 0
        self.liars: set[PeerName] = set()
        for node in cluster.nodes if nodes is None else nodes:
            self.watch(node)

    def watch(self, node: Node) -> None:
        node.on_effect = self._check_effect
        node.after_input = self._check_node

    def _check_effect(self, node: Node, effect: Effect) -> None:
        match effect:
            case Send(_, message):
                size = frame_bytes(message)
                self._must(size <= MAX_FRAME_BYTES, node, f"a frame of {size} bytes")
                if isinstance(message, Documents):
                    self._check_own_are_stored(node, message)
            case DocumentChanged(document):
                self._check_grows(node, document)
            case Dial(address):
                self._must(address != node.address, node, "dials itself, knowing its address")
            case _:
                pass

    def _check_own_are_stored(self, node: Node, message: Documents) -> None:
        """Nobody hears of a document of ours that a crash could take back."""
        written = node.mesh._publisher._author._documents
        for document in message.documents:
            # Those under our name that others wrote are forwarded like any, and answered soon.
            if document.id.writer == node.name and written.get(document.id) == document:
                is_stored = node.stored.get(document.id) == document
                self._must(is_stored, node, f"sends {document.id} before it is stored")

    def _check_grows(self, node: Node, document: Document) -> None:
        """A replica only ever goes forward."""
        key = (node.number, node.life, document.id)
        before = self._newest.get(key)
        is_forward = before is None or before.order < document.order
        self._must(is_forward, node, f"{document.id} goes back from {before} to {document}")
        self._newest[key] = document

    def _check_node(self, node: Node) -> None:
        mesh = node.mesh
        due = mesh.next_deadline()
        self._must(due is None or due > node.now, node, f"wants a tick at {due} at {node.now}")
        links = list(mesh._links)
        limit = self._limit or len(self._cluster.nodes)
        self._must(len(links) <= limit, node, f"holds {len(links)} links")
        self._must(len({link.peer for link in links}) == len(links), node, "two links to one peer")
        self._must(all(link.peer != node.name for link in links), node, "a link to itself")
        self._inputs += 1
        if self._inputs % THOROUGH_EVERY == 0:
            self._check_thoroughly(node)

    def _check_thoroughly(self, node: Node) -> None:
        knowledge = node.mesh._knowledge
        replica = knowledge.replica
        digest = reduce(xor, (document.fingerprint for document in replica), 0)
        self._must(digest == replica.state_digest, node, "the state digest is wrong")
        folded = reduce(xor, replica.bucket_digests(16))
        self._must(digest == folded, node, "the bucket digests do not add up")
        for link in node.mesh._links:
            for waiting in (link.push, link.replies, link.announce):
                bound = len(replica) + 64
                self._must(len(waiting) <= bound, node, f"{len(waiting)} wait for a link")
        topology = knowledge.topology
        if not topology.is_unsettled:
            found = _search(topology._neighbours, node.name)
            self._must(set(topology.reachable()) == found, node, "reachability is wrong")

    def _must(self, holds: bool, node: Node, text: str) -> None:
        if not holds:
            raise Broken(f"t={self._cluster.now:.3f} node{node.number}: {text}")


def _search(neighbours: dict[PeerName, dict[PeerName, None]], start: PeerName) -> set[PeerName]:
    found = {start}
    queue = [start]
    while queue:
        for other in neighbours.get(queue.pop(), {}):
            if other not in found:
                found.add(other)
                queue.append(other)
    return found
