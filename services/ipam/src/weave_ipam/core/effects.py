"""What the core asks its shell to do.

Effects are ordered. A `Persist` must be durable before any effect behind it is performed: so
nobody hears of a document or an address that a crash could take back. Persisting earlier is always
allowed: a shell may gather all `Persist` of several calls into one commit and perform the rest
after it. When a commit fails, nothing behind it may be performed: the shell tries the same records
again or ends.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass
from typing import NewType

from weave_ipam.core.documents import DocumentVersion, Message, PublishedValue
from weave_ipam.core.fences import Fence
from weave_ipam.core.records import Record
from weave_ipam.core.results import Result
from weave_model.errors import DomainError
from weave_model.peer import PeerName
from weave_model.prefix import Family
from weave_model.ring import Genesis, RingView

# Chosen by the shell, never used twice in one process.
RequestId = NewType("RequestId", int)


class Severity(enum.StrEnum):
    """How loud a `Note` is."""

    INFO = "info"
    WARNING = "warning"
    ERROR = "error"


@dataclass(frozen=True, slots=True)
class Persist:
    """Write the batch in one transaction, in order."""

    records: tuple[Record, ...]


@dataclass(frozen=True, slots=True)
class Publish:
    """Write this peer's document. Idempotent; the shell repeats it until gossip has taken it.

    Only the newest value of a (topic, key) matters.
    """

    topic: str
    key: str
    value: PublishedValue


@dataclass(frozen=True, slots=True)
class SendMessage:
    """Send to one peer; may be lost (the core asks again)."""

    peer: PeerName
    message: Message


@dataclass(frozen=True, slots=True)
class Answer:
    """The outcome of a request; each request has exactly one, unless it was cancelled before.

    Where it cannot be delivered any more, the shell releases what was allocated.
    """

    request: RequestId
    outcome: Result | DomainError


@dataclass(frozen=True, slots=True)
class Quarantine:
    """Tell gossip that this version of a document is set aside, and why."""

    topic: str
    writer: PeerName
    key: str
    version: DocumentVersion
    reason: str


@dataclass(frozen=True, slots=True)
class RingChanged:
    """A family's ring, as routes see it, is another than before."""

    view: RingView


@dataclass(frozen=True, slots=True)
class ReadFence:
    """Read the fence of a peer (also our own) from Coordination: answer with `fence_read`, or with
    `fence_failed` when Coordination is away (the core asks again)."""

    victim: PeerName


@dataclass(frozen=True, slots=True)
class WriteFence:
    """Write a fence if its revision is still `expected_revision`, then draw a fencing token,
    greater than `floor` and all drawn before, and write it into the fence under the same revision,
    then read our own fence: answer with `fence_read` and `fence_written`, with `fence_raced` when
    the revision is another, or with `fence_failed`.

    In this order: of two peers of which one removes the other, either that one's token is the
    greater, or the other hears of its removal before it takes anything."""

    fence: Fence
    expected_revision: int
    floor: int


@dataclass(frozen=True, slots=True)
class ProposeGenesis:
    """Write the first ring in Coordination if there is none: answer with `genesis_agreed` and what
    stands there, ours or another's. The core asks again until it is answered."""

    family: Family
    genesis: Genesis


@dataclass(frozen=True, slots=True)
class RemovePeer:
    """Tell gossip to drop the documents of a reclaimed peer; repeat until it is done. A refusal
    because the peer is reachable ends it."""

    peer: PeerName


@dataclass(frozen=True, slots=True)
class Note:
    """A line for the log that an operator would ask about."""

    severity: Severity
    text: str


Effect = (
    Persist
    | Publish
    | SendMessage
    | Answer
    | Quarantine
    | RingChanged
    | ReadFence
    | WriteFence
    | ProposeGenesis
    | RemovePeer
    | Note
)
