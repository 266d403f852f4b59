"""Replicated documents: values with one writer each, and the total order that decides between two
of them.

The order of a document is (incarnation, version, SHA-256 of the payload). All replicas keep the
greatest, so merging is a maximum: commutative, associative, idempotent, total. A withdrawn document
stays as a marker without payload and takes part in the order like any other; its third component is
zero.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from hashlib import blake2b, sha256
from typing import NamedTuple

from weave_model.peer import PeerName

TOPIC_PEERS = "peers"
TOPIC_LINKS = "links"
# Which lives of which peers have departed, as seen by the writer: see removal.py.
TOPIC_REMOVED = "removed"
# Written by the mesh itself; publish() and withdraw() refuse them.
OWN_TOPICS = frozenset({TOPIC_PEERS, TOPIC_LINKS, TOPIC_REMOVED})

# In bytes of UTF-8. A document's name travels with every announcement of it.
MAX_TOPIC_BYTES = 128
MAX_KEY_BYTES = 128
# The frame limit is 1 MiB; 4 KiB are left for names, numbers and the envelope.
MAX_PAYLOAD_BYTES = (1 << 20) - 4096
# Half of the 64-bit range: a peer that sees itself ahead can always go one further.
MAX_INCARNATION = (1 << 63) - 1

# Digests are kept at this resolution and folded to coarser ones. At 10,000 documents a bucket of
# ten is the smallest worth telling apart.
MAX_BUCKETS = 1024
_LEAF_SHIFT = 64 - 10

_WITHDRAWN_DIGEST = bytes(32)


class DocumentId(NamedTuple):
    """What a document is about; only `writer` may change it."""

    topic: str
    writer: PeerName
    key: str


class DocumentVersion(NamedTuple):
    """Which state of a document somebody holds; `hash` heads the order's third component.

    Of two versions of one document the greater tuple is the newer state.
    """

    id: DocumentId
    incarnation: int
    version: int
    hash: int


@dataclass(frozen=True, slots=True)
class Document:
    """One state of a replicated document. `payload` is opaque and forwarded byte for byte."""

    id: DocumentId
    incarnation: int
    version: int
    payload: bytes = b""
    withdrawn: bool = False
    signature: bytes = b""
    # Wire bytes of fields that a newer version wrote; kept for forwarding, never looked at.
    unknown_fields: bytes = b""
    # SHA-256 of the payload, zero when withdrawn: third component of the order.
    digest: bytes = field(init=False, repr=False, compare=False)
    # The version as it is announced.
    stamp: DocumentVersion = field(init=False, repr=False, compare=False)
    # 64 bits over (id, order): what this document adds to the state digest.
    fingerprint: int = field(init=False, repr=False, compare=False)
    # Which of MAX_BUCKETS equal parts of the hash space its id falls in.
    leaf: int = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        digest = _WITHDRAWN_DIGEST if self.withdrawn else sha256(self.payload).digest()
        head = int.from_bytes(digest[:8], "big")
        stamp = DocumentVersion(self.id, self.incarnation, self.version, head)
        object.__setattr__(self, "digest", digest)
        object.__setattr__(self, "stamp", stamp)
        encoded = encode_id(self.id)
        object.__setattr__(
            self, "fingerprint", _fingerprint(encoded, self.incarnation, self.version, digest)
        )
        object.__setattr__(self, "leaf", _hash_id(encoded) >> _LEAF_SHIFT)

    @property
    def order(self) -> tuple[int, int, bytes]:
        return (self.incarnation, self.version, self.digest)


def _fingerprint(encoded_id: bytes, incarnation: int, version: int, digest: bytes) -> int:
    hashed = blake2b(encoded_id, digest_size=8)
    hashed.update(incarnation.to_bytes(8, "big") + version.to_bytes(8, "big") + digest)
    return int.from_bytes(hashed.digest(), "big")


def encode_id(document_id: DocumentId) -> bytes:
    """The bytes that hashes of an id are taken over; part of the protocol.

    Lengths keep it injective.
    """
    topic = document_id.topic.encode()
    key = document_id.key.encode()
    return b"%c%b%b%c%b" % (len(topic), topic, document_id.writer, len(key), key)


def _hash_id(encoded_id: bytes) -> int:
    """64 bits that place a document in a bucket; the bucket is their top bits."""
    return int.from_bytes(blake2b(encoded_id, digest_size=8, person=b"bucket").digest(), "big")
