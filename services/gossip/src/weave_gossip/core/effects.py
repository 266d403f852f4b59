"""What the core asks its shell to do. Effects are performed in order.

`Persist*` must be durable before any later effect is performed, so that nobody hears of a document
that a crash could take back. A shell may gather consecutive ones into one commit.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum
from typing import NewType

from weave_gossip.core.documents import Document, DocumentId
from weave_gossip.core.messages import Message, Refusal
from weave_gossip.core.status import PeerView
from weave_model.peer import PeerName

# Chosen by the shell, never used twice in one process.
LinkId = NewType("LinkId", int)


@dataclass(frozen=True, slots=True)
class Send:
    """Write one frame. A link that cannot take more is told with `link_blocked`."""

    link: LinkId
    message: Message


@dataclass(frozen=True, slots=True)
class CloseLink:
    """Send `refusal` as the last frame, as far as the socket takes it at once, and close.

    The core has forgotten the link already; a `link_lost` for it is ignored. None: the other side
    closed it.
    """

    link: LinkId
    refusal: Refusal | None


@dataclass(frozen=True, slots=True)
class Dial:
    """Connect to `address` ("host:port"), with `epoch` in the Hello.

    Answered by `link_established` with the same address or by `dial_failed`, within 30 s.
    """

    address: str
    epoch: int


@dataclass(frozen=True, slots=True)
class PersistIncarnation:
    incarnation: int


@dataclass(frozen=True, slots=True)
class PersistDocument:
    """One of our own documents, withdrawn ones included."""

    document: Document


@dataclass(frozen=True, slots=True)
class PersistTargets:
    """All targets, replacing those stored."""

    targets: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class DocumentChanged:
    """New or newer, and not withdrawn. Of every topic, our own included."""

    document: Document


@dataclass(frozen=True, slots=True)
class DocumentRemoved:
    """Withdrawn by its writer, or its writer has departed."""

    id: DocumentId


@dataclass(frozen=True, slots=True)
class PeerChanged:
    peer: PeerView


@dataclass(frozen=True, slots=True)
class PeerRemoved:
    name: PeerName


@dataclass(frozen=True, slots=True)
class DeliverUnicast:
    source: PeerName
    topic: str
    payload: bytes


class LogLevel(Enum):
    DEBUG = "debug"
    INFO = "info"
    WARNING = "warning"
    ERROR = "error"


@dataclass(frozen=True, slots=True)
class LogEvent:
    """A line for the log; `message` has the wording a Weave user knows."""

    level: LogLevel
    message: str
    fields: dict[str, str] = field(default_factory=dict)


Effect = (
    Send
    | CloseLink
    | Dial
    | PersistIncarnation
    | PersistDocument
    | PersistTargets
    | DocumentChanged
    | DocumentRemoved
    | PeerChanged
    | PeerRemoved
    | DeliverUnicast
    | LogEvent
)
