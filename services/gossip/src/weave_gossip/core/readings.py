"""What may be asked of a mesh without changing it."""

from __future__ import annotations

from weave_gossip.core import reports
from weave_gossip.core.assembly import Parts
from weave_gossip.core.documents import Document
from weave_gossip.core.status import (
    Connection,
    MeshStatus,
    PeerLinks,
    PeerView,
    QuarantinedDocument,
)


class Readings:
    """The questions that views, status and metrics ask."""

    def __init__(self, parts: Parts) -> None:
        self._parts = parts
        self._links = parts.links
        self._knowledge = parts.knowledge

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
            self._links, self._parts.dialler, self._knowledge.directory, self._parts.clock
        )

    def targets(self) -> tuple[str, ...]:
        """Addresses the operator asked for."""
        return tuple(self._parts.dialler.direct)

    def quarantined(self) -> list[QuarantinedDocument]:
        """Versions that a consumer, or we ourselves, could not read."""
        return reports.quarantined(self._knowledge, self._parts.clock)

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
            terminated_connections=self._parts.keeper.terminated,
            connection_limit=self._parts.options.connection_limit,
        )
