"""What peers say to each other: one dataclass per body of `weave.mesh.v1.Frame`, and Hello.

The shell's codec maps these to protobuf and back. What the codec cannot map (bad lengths, unknown
enum values) closes the link there with MALFORMED; what is well formed but out of bounds is judged
in the core.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum

from weave_gossip.core.documents import Document, DocumentId, DocumentVersion
from weave_model.peer import PeerName


class RefusalCode(IntEnum):
    """Numbers as in mesh.proto. UNSPECIFIED stands for whatever the network said."""

    UNSPECIFIED = 0
    NOT_WEAVE = 1
    PROTOCOL = 2
    CLUSTER = 3
    SECRET_WRONG = 4
    SECRET_MISSING = 5
    SECRET_UNWANTED = 6
    TAMPERED = 7
    SELF = 8
    NAME_COLLISION = 9
    STALE_INCARNATION = 10
    DUPLICATE = 11
    LIMIT = 12
    UNIVERSE = 13
    MALFORMED = 14
    SHUTDOWN = 15
    SHED = 16
    TIMEOUT = 17


# Trying again cannot help until somebody changes something.
PERMANENT_REFUSALS = frozenset({RefusalCode.SELF, RefusalCode.NAME_COLLISION})


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why a link was not made or has ended; `reason` is one sentence with the values."""

    code: RefusalCode
    reason: str
    # Addresses ("10.0.0.2:6783") where the refused may try instead.
    alternatives: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Hello:
    """Who is at the other end. The greeting digest is the shell's business."""

    name: PeerName
    nickname: str
    incarnation: int
    instance: bytes
    listen_port: int
    link_epoch: int = 0
    node_uid: str = ""
    features: tuple[str, ...] = ()
    universes: tuple[str, ...] = ()
    underlay_addresses: tuple[bytes, ...] = ()


@dataclass(frozen=True, slots=True)
class Ping:
    nonce: int
    state_digest: int


@dataclass(frozen=True, slots=True)
class Pong:
    nonce: int
    state_digest: int


@dataclass(frozen=True, slots=True)
class Documents:
    documents: tuple[Document, ...]
    # Hops from the writer of the one that came furthest.
    hops: int = 0
    # Answers a Want: not asked for, not pruned.
    reply: bool = False


@dataclass(frozen=True, slots=True)
class Announce:
    versions: tuple[DocumentVersion, ...]


@dataclass(frozen=True, slots=True)
class Want:
    ids: tuple[DocumentId, ...]


@dataclass(frozen=True, slots=True)
class Prune:
    pass


@dataclass(frozen=True, slots=True)
class Digest:
    buckets: int
    bucket_digests: tuple[int, ...] = ()
    bucket_numbers: tuple[int, ...] = ()
    versions: tuple[DocumentVersion, ...] = ()
    reply_wanted: bool = False


@dataclass(frozen=True, slots=True)
class Unicast:
    source: PeerName
    destination: PeerName
    topic: str
    payload: bytes
    ttl: int


# A Refusal is the body `close`: the last message on a link.
Message = Ping | Pong | Documents | Announce | Want | Prune | Digest | Unicast | Refusal
