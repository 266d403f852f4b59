"""A peer that says what is not so:

malformed, conflicting and forged documents, messages against the rules.
"""

from __future__ import annotations

from random import Random

from tests.sim.cluster import Cluster
from tests.sim.node import Node
from weave_gossip.core.documents import Document, DocumentId
from weave_gossip.core.messages import Announce, Digest, Documents, Message, Unicast, Want
from weave_model.peer import PeerName


class Liar:
    """Sends lies over the links of an otherwise honest node."""

    def __init__(self, node: Node, rng: Random) -> None:
        self._node = node
        self._rng = rng

    def lie(self, cluster: Cluster, unsure: set[PeerName]) -> str:
        """Tells each neighbour a lie of one kind; whose documents it touches becomes unsure."""
        node = self._node
        if not node.is_up or not node.streams:
            return ""
        victim = self._rng.choice(cluster.nodes).name
        kind = self._rng.randrange(7)
        unsure |= {node.name, victim}
        for stream in list(node.streams.values()):
            for message in self._messages(kind, victim):
                node.network.send(stream, message)
        return f"node{node.number} lies, kind {kind}, victim {victim}"

    def _messages(self, kind: int, victim: PeerName) -> list[Message]:
        own = self._node.name
        incarnation = self._node.stored_incarnation
        noise = self._rng.randbytes(8)
        match kind:
            case 0:  # Documents about itself that nobody can read.
                return [
                    Documents((Document(DocumentId("links", own, ""), incarnation, 1000, noise),)),
                    Documents((Document(DocumentId("peers", own, ""), incarnation, 1000, noise),)),
                ]
            case 1:  # Each neighbour another state of one version.
                return [
                    Documents((Document(DocumentId("ring", own, "4"), incarnation, 500, noise),))
                ]
            case 2:  # A state of somebody else's document, ahead of its writer.
                forged = DocumentId(self._rng.choice(["ring", "peers", "links"]), victim, "")
                return [Documents((Document(forged, incarnation + 3, 7, noise),))]
            case 3:  # Far more documents than a peer may have.
                many = [
                    Document(DocumentId("ring", own, f"{number:03}"), incarnation, 1, noise)
                    for number in self._rng.sample(range(1000), 100)
                ]
                return [Documents(tuple(many))]
            case 4:  # Against the rules.
                return [Digest(buckets=3, bucket_digests=(1, 2, 3), reply_wanted=True)]
            case 5:  # Names of things that do not exist.
                nothing = DocumentId("ring", victim, "none")
                missing = Document(nothing, incarnation, 9, noise).stamp
                return [Announce((missing,)), Want((nothing,))]
            case _:  # A message that goes nowhere.
                return [Unicast(own, PeerName(b"nobody"), "x", noise, 64)]
