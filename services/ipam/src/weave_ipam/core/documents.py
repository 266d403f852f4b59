"""What ipam replicates through gossip, and what it sends to one peer. See docs/adr/0002.

The shell reads and writes the protobuf form; what it cannot read it hands in as `Unreadable`.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from weave_model.peer import PeerName
from weave_model.prefix import Family, Prefix
from weave_model.ring import Genesis, RingDocument

# Topics of the replicated documents; the key is that of the family.
TOPIC_RING = "ring"
TOPIC_SPACE = "ipam-space"
TOPIC_PAXOS = "ipam-paxos"
# Topic of messages to one peer.
TOPIC_MESSAGES = "ipam"

# Seen whole before anything starts: what this peer wrote in an earlier life is there.
TOPICS_NEEDED = frozenset({TOPIC_RING, TOPIC_PAXOS})


@dataclass(frozen=True, slots=True, order=True)
class Ballot:
    """A proposal's number: compared by round, then by proposer. Rounds begin at 1."""

    round: int
    proposer: PeerName


@dataclass(frozen=True, slots=True)
class AcceptorState:
    """One voter's side of the election: `accepted_value` is set exactly when `accepted` is.

    `universe` is what the election is about, where the voter says it; no part of the vote.
    """

    promised: Ballot | None = None
    accepted: Ballot | None = None
    accepted_value: Genesis | None = None
    universe: Prefix | None = field(default=None, compare=False)


@dataclass(frozen=True, slots=True)
class SpaceAdvice:
    """Free addresses of the writer in its default subnet, rounded down to a power of two; 0 when
    none. A writer that is `leaving` takes no space from others."""

    free: int
    leaving: bool = False


@dataclass(frozen=True, slots=True)
class Unreadable:
    """A document whose bytes mean nothing; `reason` is one sentence for the operator."""

    reason: str


@dataclass(frozen=True, slots=True, order=True)
class DocumentVersion:
    """Which version of a document gossip delivered; only handed back in `Quarantine`."""

    incarnation: int
    version: int


@dataclass(frozen=True, slots=True)
class SpaceRequest:
    """Space inside `within` is wanted; a single address has full length.

    `obeyed`: the last fence of its own that the sender has obeyed.
    """

    within: Prefix
    obeyed: int = 0


@dataclass(frozen=True, slots=True)
class SpaceDenied:
    """The donor has nothing free inside `within`."""

    within: Prefix
    reason: str


UNVERSIONED = DocumentVersion(0, 0)

DocumentValue = RingDocument | SpaceAdvice | AcceptorState | Unreadable
PublishedValue = RingDocument | SpaceAdvice | AcceptorState
Message = SpaceRequest | SpaceDenied


def family_key(family: Family) -> str:
    """The key of a family's documents: "4" or "6"."""
    return str(int(family))


def family_of_key(key: str) -> Family | None:
    """The family of a document's key; None for any other text."""
    return next((family for family in Family if family_key(family) == key), None)
