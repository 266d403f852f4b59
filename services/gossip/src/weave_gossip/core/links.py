"""The links we hold, and when each has to be pinged or given up.

The side that dialled pings after 2 s of silence in either direction; the answer breaks the silence
for both, so one ping and one pong per link and two seconds is all an idle mesh says. The other side
pings only when that did not happen. A link ends after 7 s without anything received, or with a send
buffer that stayed full for 7 s: a black hole is noticed within that time, and everybody knows of a
dead peer within 10 s.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field

from weave_gossip.core.documents import DocumentId
from weave_gossip.core.effects import LinkId
from weave_gossip.core.messages import Hello, Unicast
from weave_model.peer import PeerName

# An idle link costs a ping and a pong in this time; DROP_AFTER_S allows for three.
PING_AFTER_S = 2.0
# Were it the same, both sides would find the link silent at once, and each would ping.
ANSWERER_PING_AFTER_S = 3.0
# Pings wait this long for others that fall due, so that one waking of the process does for several.
PING_SLACK_S = 0.25
# Three pings lost in a row, or one and two stalls of 2 s as a busy machine shows them.
DROP_AFTER_S = 7.0
# Unicasts held back while a send buffer is full; older ones are lost first.
MAX_WAITING_UNICASTS = 64


@dataclass(slots=True, eq=False)
class Challenge:
    """A ping that has to be answered, since another life of the peer said Hello elsewhere."""

    nonce: int
    due: float
    answered_at: float | None = None

    @property
    def is_answered(self) -> bool:
        return self.answered_at is not None


@dataclass(slots=True, eq=False)
class LinkState:
    """One link and what waits to go out on it: names of documents, never copies."""

    id: LinkId
    hello: Hello
    outbound: bool
    address: str
    # (link epoch, name of the dialler).
    precedence: tuple[int, PeerName]
    since: float
    last_received: float
    last_sent: float
    ping_sent: float | None = None
    ping_nonce: int = 0
    rtt_s: float | None = None
    blocked_since: float | None = None
    challenge: Challenge | None = None
    # The other end lists the link too: told once in the log.
    is_fully_established: bool = False
    # Broadcasts: an eager link gets documents, a lazy one announcements.
    is_eager: bool = True
    # Document to hops: what to push, and what was asked for.
    push: dict[DocumentId, int] = field(default_factory=dict)
    replies: dict[DocumentId, int] = field(default_factory=dict)
    announce: dict[DocumentId, None] = field(default_factory=dict)
    announce_due: float = float("inf")
    unicasts: deque[Unicast] = field(default_factory=lambda: deque(maxlen=MAX_WAITING_UNICASTS))
    # Repair: since when the digests differ, and whether they ever agreed.
    differs_since: float | None = None
    has_agreed: bool = False

    @property
    def peer(self) -> PeerName:
        return self.hello.name

    @property
    def label(self) -> str:
        """As log lines name a link."""
        return f"->[{self.address}|{self.hello.name}({self.hello.nickname})]"

    def ping_due(self) -> float:
        """When the next ping may go out if nothing happens until then."""
        silent_since = self.last_received
        if self.last_sent < silent_since:
            silent_since = self.last_sent
        if self.ping_sent is not None and self.ping_sent > silent_since:
            silent_since = self.ping_sent
        return silent_since + (PING_AFTER_S if self.outbound else ANSWERER_PING_AFTER_S)

    def drop_due(self) -> float:
        """When the link has to be given up if nothing happens until then."""
        due = self.last_received + DROP_AFTER_S
        if self.blocked_since is not None:
            due = min(due, self.blocked_since + DROP_AFTER_S)
        if self.challenge is not None and not self.challenge.is_answered:
            due = min(due, self.challenge.due)
        return due


class LinkTable:
    """Links by id and by peer; at most one link to a peer."""

    def __init__(self) -> None:
        self._by_id: dict[LinkId, LinkState] = {}
        self._by_peer: dict[PeerName, LinkState] = {}

    def __len__(self) -> int:
        return len(self._by_id)

    def __iter__(self) -> Iterator[LinkState]:
        return iter(self._by_id.values())

    def add(self, link: LinkState) -> None:
        assert link.id not in self._by_id, f"link {link.id} is used twice"
        assert link.peer not in self._by_peer
        self._by_id[link.id] = link
        self._by_peer[link.peer] = link

    def remove(self, link: LinkState) -> None:
        del self._by_id[link.id]
        del self._by_peer[link.peer]

    def get(self, link_id: LinkId) -> LinkState | None:
        return self._by_id.get(link_id)

    def to(self, peer: PeerName) -> LinkState | None:
        return self._by_peer.get(peer)

    def peers(self) -> list[PeerName]:
        return list(self._by_peer)

    def next_deadline(self) -> float:
        """When the earliest ping must go out or link end; infinity without links."""
        dues = (
            min(link.ping_due() + PING_SLACK_S, link.drop_due()) for link in self._by_id.values()
        )
        return min(dues, default=float("inf"))
