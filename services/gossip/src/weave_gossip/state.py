"""What this peer keeps over restarts: who it is, its life, its targets, and documents.

    name                           6 bytes
    incarnation                    8 bytes, the present life; written before it is used
    targets                        JSON list of "host:port"
    own/<topic>\\0<key>            our documents, written before they are spread
    seen/<topic>\\0<writer>\\0<key>  documents of others: a restart does not begin by knowing nobody

Documents of others may be old or missing: the mesh repairs them.
"""

from __future__ import annotations

import asyncio
import json
import os
from dataclasses import dataclass

from weave_gossip.codec.frames import decode_document, encode_document
from weave_gossip.core.documents import TOPIC_LINKS, Document, DocumentId
from weave_gossip.errors import StartError
from weave_model.peer import PEER_NAME_BYTES, PeerName
from weave_runtime.store import Store, StoreError

_NAME = "name"
_INCARNATION = "incarnation"
_TARGETS = "targets"
_OWN = "own/"
_SEEN = "seen/"
_INCARNATION_BYTES = 8
# One write for all changes of a while: a thousand peers must not wear a disk out. The first comes
# soon: whoever is killed shortly after its start must not begin by knowing nobody.
SEEN_PERIOD_S = 5.0
SEEN_DELAY_S = 0.25


@dataclass(frozen=True, slots=True)
class Loaded:
    """What was found. `is_restart`: this peer has lived before."""

    name: PeerName
    incarnation: int
    targets: tuple[str, ...]
    documents: tuple[Document, ...]
    is_restart: bool
    # Set when --name differs from the kept name, whose documents are left out then.
    former_name: PeerName | None = None


async def begin_life(
    store: Store, wanted_name: PeerName | None, witnessed_name: PeerName | None = None
) -> Loaded:
    """Reads the state and makes this life's incarnation durable.

    `witnessed_name` is who the kernel's data path says this is, for a state that was lost: under
    another name all addresses of this node's pods would be somebody else's. The mesh remembers the
    incarnation. Raises StartError for entries that cannot be read, and leaves them as they are.
    """
    entries = await store.load()
    try:
        kept_name = PeerName(entries[_NAME]) if _NAME in entries else None
        last = int.from_bytes(entries.get(_INCARNATION, b""), "big")
        targets = tuple(map(str, json.loads(entries.get(_TARGETS, b"[]"))))
        documents = {
            key: decode_document(value)
            for key, value in entries.items()
            if key.startswith((_OWN, _SEEN))
        }
    except (ValueError, TypeError) as error:
        raise StartError(
            f"the gossip state cannot be read ({error}); nothing was changed: run the release that "
            "wrote it, or move the state directory away to start without it"
        ) from error
    name = wanted_name or kept_name or witnessed_name or _new_name()
    incarnation = last + 1
    changes: dict[str, bytes | None] = {_NAME: name, _INCARNATION: _incarnation_bytes(incarnation)}
    if kept_name is not None and kept_name != name:
        # Documents of the former name are another peer's; the mesh forgets them with that peer.
        changes |= {key: None for key in documents if key.startswith(_OWN)}
        documents = {key: value for key, value in documents.items() if key.startswith(_SEEN)}
    await store.commit(changes)
    return Loaded(
        name,
        incarnation,
        targets,
        tuple(documents.values()),
        is_restart=kept_name is not None,
        former_name=kept_name if kept_name != name else None,
    )


def incarnation_entry(incarnation: int) -> tuple[str, bytes]:
    """The entry to commit for a life that had to be begun anew."""
    return _INCARNATION, _incarnation_bytes(incarnation)


def targets_entry(targets: tuple[str, ...]) -> tuple[str, bytes]:
    """The entry to commit for the present targets."""
    return _TARGETS, json.dumps(targets).encode()


def own_document_entry(document: Document) -> tuple[str, bytes]:
    """The entry to commit before a document of ours is spread."""
    return f"{_OWN}{document.id.topic}\0{document.id.key}", encode_document(document)


def seen_document_entry(document: Document) -> tuple[str, bytes]:
    """The entry of another's document."""
    return seen_document_key(document.id), encode_document(document)


def seen_document_key(document_id: DocumentId) -> str:
    """Under which another's document is kept."""
    return f"{_SEEN}{document_id.topic}\0{document_id.writer.hex()}\0{document_id.key}"


def _new_name() -> PeerName:
    return PeerName.from_random(os.urandom(PEER_NAME_BYTES))


def _incarnation_bytes(incarnation: int) -> bytes:
    return incarnation.to_bytes(_INCARNATION_BYTES, "big")


class SeenDocuments:
    """Keeps documents of others, behind the present by at most SEEN_PERIOD_S."""

    def __init__(
        self,
        store: Store,
        own_name: PeerName,
        *,
        delay_s: float = SEEN_DELAY_S,
        period_s: float = SEEN_PERIOD_S,
    ) -> None:
        self._delay_s = delay_s
        self._period_s = period_s
        self._is_dirty = asyncio.Event()
        self._store = store
        self._own_name = own_name
        self._dirty: dict[str, Document | None] = {}

    def changed(self, document: Document) -> None:
        """Another's document is new or newer; our own are kept elsewhere."""
        if self._is_kept(document.id):
            self._dirty[seen_document_key(document.id)] = document
            self._is_dirty.set()

    def removed(self, document_id: DocumentId) -> None:
        """Another's document is gone."""
        if self._is_kept(document_id):
            self._dirty[seen_document_key(document_id)] = None
            self._is_dirty.set()

    async def run(self) -> None:
        """Writes soon after a change, and then not again for a while, until cancelled; what fails
        is repeated with the next."""
        while True:
            await self._is_dirty.wait()
            await asyncio.sleep(self._delay_s)
            self._is_dirty.clear()
            await self.flush()
            await asyncio.sleep(self._period_s - self._delay_s)

    async def flush(self) -> None:
        """Writes what has changed. The driver reports a store that fails; this one is optional."""
        batch = {
            key: encode_document(document) if document else None
            for key, document in self._dirty.items()
        }
        if not batch:
            return
        dirty, self._dirty = self._dirty, {}
        try:
            await self._store.commit(batch)
        except StoreError:
            self._dirty = dirty | self._dirty
            self._is_dirty.set()

    def _is_kept(self, document_id: DocumentId) -> bool:
        # Links change all the time and are worth nothing after a restart.
        return document_id.writer != self._own_name and document_id.topic != TOPIC_LINKS
