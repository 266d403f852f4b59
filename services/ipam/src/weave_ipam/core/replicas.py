"""The ring documents of one family that this peer holds, its own included."""

from __future__ import annotations

from weave_ipam.core.documents import UNVERSIONED, DocumentVersion, Unreadable
from weave_ipam.core.genesis import differing
from weave_ipam.core.view import document_fault
from weave_model.peer import PeerName
from weave_model.prefix import Prefix
from weave_model.ring import Genesis, RingDocument


class Replicas:
    """Keeps, for each writer, the newest document or why it is none.

    A removed document is kept as departed until its writer's space is seen elsewhere: the removal
    may overtake the document of the heir.
    """

    def __init__(self, universe: Prefix, me: PeerName) -> None:
        self.departed: set[PeerName] = set()
        self._universe = universe
        self._me = me
        self._documents: dict[PeerName, RingDocument] = {}
        self._faults: dict[PeerName, str] = {}
        self._versions: dict[PeerName, DocumentVersion] = {}

    @property
    def own(self) -> RingDocument | None:
        """What this peer says itself."""
        return self._documents.get(self._me)

    def get(self, writer: PeerName) -> RingDocument | None:
        """The document of a writer, if it has no fault."""
        return self._documents.get(writer)

    def put_own(self, document: RingDocument) -> None:
        """Replaces this peer's document."""
        self._documents[self._me] = document

    def receive(
        self, writer: PeerName, value: RingDocument | Unreadable, version: DocumentVersion
    ) -> bool:
        """Another peer's document is new or newer. Says if it says anything new."""
        self._versions[writer] = version
        if value == self._documents.get(writer) and writer not in self.departed:
            return False
        self.discard(writer)
        self._versions[writer] = version
        fault = (
            value.reason if isinstance(value, Unreadable) else document_fault(self._universe, value)
        )
        if fault is not None:
            self._faults[writer] = fault
        elif isinstance(value, RingDocument):
            self._documents[writer] = value
        return True

    def depart(self, writer: PeerName) -> bool:
        """The document was removed from gossip. Says if it is kept, as departed, from now on."""
        if writer in self._documents:
            is_new = writer not in self.departed
            self.departed.add(writer)
            return is_new
        self.discard(writer)
        return False

    def put_departed(self, writer: PeerName, document: RingDocument) -> None:
        """Keeps what an earlier life of this process kept."""
        self._documents[writer] = document
        self.departed.add(writer)

    def discard(self, writer: PeerName) -> None:
        """Forgets a writer."""
        self._documents.pop(writer, None)
        self._faults.pop(writer, None)
        self._versions.pop(writer, None)
        self.departed.discard(writer)

    def geneses(self) -> set[Genesis]:
        """All agreements that documents grew from."""
        return {document.genesis for document in self._documents.values()}

    def grown_from(self, genesis: Genesis) -> dict[PeerName, RingDocument]:
        """The documents of one ring."""
        return {
            writer: document
            for writer, document in self._documents.items()
            if document.genesis == genesis
        }

    def rejected(self, genesis: Genesis | None) -> dict[PeerName, str]:
        """Why documents of other peers are no part of the ring with this genesis."""
        rejected = dict(self._faults)
        for writer, document in self._documents.items():
            if writer != self._me and genesis is not None and document.genesis != genesis:
                rejected[writer] = differing(document.genesis, genesis)
        return rejected

    def version(self, writer: PeerName) -> DocumentVersion:
        """Which version of a writer's document is held."""
        return self._versions.get(writer, UNVERSIONED)
