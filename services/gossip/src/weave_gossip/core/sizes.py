"""Upper bounds of encoded sizes: batches are split here and never fail at the frame limit."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import TypeVar

from weave_gossip.core.documents import Document, DocumentId

# A batch over this size is split. Far below the frame limit of 1 MiB, so that pings need not wait
# long behind it; a single document may be larger.
MAX_BATCH_BYTES = 256 * 1024
# Numbers, tags and lengths around the strings and bytes of a document or version.
_ENVELOPE_BYTES = 64

_Item = TypeVar("_Item")


def document_bytes(document: Document) -> int:
    """An upper bound of the encoded size."""
    content = len(document.payload) + len(document.signature) + len(document.unknown_fields)
    return id_bytes(document.id) + content


def id_bytes(document_id: DocumentId) -> int:
    """An upper bound of the encoded size of an id or version; UTF-8 takes four bytes at most."""
    return _ENVELOPE_BYTES + 4 * (len(document_id.topic) + len(document_id.key))


def batches(items: Iterable[_Item], size_of: Callable[[_Item], int]) -> Iterator[tuple[_Item, ...]]:
    """Cuts items into batches of MAX_BATCH_BYTES at most; an item over it goes alone."""
    batch: list[_Item] = []
    batch_bytes = 0
    for item in items:
        size = size_of(item)
        if batch and batch_bytes + size > MAX_BATCH_BYTES:
            yield tuple(batch)
            batch, batch_bytes = [], 0
        batch.append(item)
        batch_bytes += size
    if batch:
        yield tuple(batch)
