"""What the core shows of itself: values for watches, `weave status` and metrics."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

from weave_gossip.core.documents import DocumentId
from weave_model.peer import PeerName


@dataclass(frozen=True, slots=True)
class PeerView:
    """A peer as its newest documents describe it."""

    name: PeerName
    nickname: str
    is_self: bool
    # A path of two-way links leads there; true of ourselves.
    reachable: bool
    incarnation: int
    node_uid: str = ""
    underlay_addresses: tuple[bytes, ...] = ()
    universes: tuple[str, ...] = ()
    features: tuple[str, ...] = ()
    # Set by the shell: the cluster no longer has the machine.
    departed: bool = False


class ConnectionState(Enum):
    CONNECTING = "connecting"
    ESTABLISHED = "established"
    # Failed, and being tried again now.
    RETRYING = "retrying"
    # Failed: see last_error, and next_try for when it is tried again, if ever.
    FAILED = "failed"


@dataclass(frozen=True, slots=True)
class Connection:
    """A link, or an address where we want one."""

    address: str
    outbound: bool
    state: ConnectionState
    peer: PeerName | None = None
    nickname: str = ""
    last_error: str = ""
    # On the clock that the core is fed with; None: no try is planned.
    next_try: float | None = None
    # Of the last ping; None before the first pong.
    rtt_s: float | None = None


@dataclass(frozen=True, slots=True)
class PeerLink:
    peer: PeerName
    nickname: str
    outbound: bool
    # The other end lists it too.
    established: bool
    # Where the other end listens; empty when unknown.
    address: str = ""


@dataclass(frozen=True, slots=True)
class PeerLinks:
    """A peer and the links it says it holds."""

    peer: PeerView
    links: tuple[PeerLink, ...]


@dataclass(frozen=True, slots=True)
class QuarantinedDocument:
    """A version that a consumer could not read. It is stored and forwarded all the same."""

    id: DocumentId
    incarnation: int
    version: int
    reason: str
    since: float


@dataclass(frozen=True, slots=True)
class MeshStatus:
    """Counts for status and metrics."""

    documents: int
    state_digest: int
    links: int
    reachable_peers: int
    known_peers: int
    terminated_connections: int
    connection_limit: int
