"""What went wrong lately on the way to and from other peers, for `weave status connections`.

Two memories, both bounded, since strangers can fill them: connections from elsewhere that did not
become links, by address, and links that ended, by peer. The core forgets a link when it ends.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

from weave_gossip.core.messages import Refusal, RefusalCode
from weave_model.peer import PeerName

# Long enough that both sides of a failure can be asked why.
SHOWN_S = 600.0
# Somebody connected and left (a port scan, a health check), or both sides dialled at once.
_UNREMARKABLE = frozenset({RefusalCode.UNSPECIFIED, RefusalCode.DUPLICATE})
# Links that end because there is another or a better one.
_AGREED_ENDS = frozenset({RefusalCode.DUPLICATE, RefusalCode.SHED})
# Hosts; what does not fit is of many strangers, of whom a few tell enough.
MAX_REFUSED = 32
# Peers that links were lost to: more than a peer has links.
MAX_LOST = 256


@dataclass(frozen=True, slots=True)
class RefusedInbound:
    """A connection from elsewhere that did not become a link."""

    address: str
    reason: str
    at: float


class Failures:
    """Pure but for the clock it is given."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._refused: dict[str, RefusedInbound] = {}
        self._lost: dict[PeerName, tuple[str, float]] = {}

    def refused(self, host: str, address: str, refusal: Refusal, reason: str) -> bool:
        """A connection from `host` came to nothing. False: not worth a word. One per host."""
        if refusal.code in _UNREMARKABLE:
            return False
        self._refused.pop(host, None)
        self._refused[host] = RefusedInbound(address, reason, self._clock())
        if len(self._refused) > MAX_REFUSED:
            del self._refused[next(iter(self._refused))]
        return True

    def accepted(self, hosts: Iterable[str]) -> None:
        """A link with whoever has these addresses came up: what was wrong no longer is."""
        for host in hosts:
            self._refused.pop(host, None)

    def lost(self, peer: PeerName, refusal: Refusal) -> None:
        """A link to this peer ended."""
        if refusal.code in _AGREED_ENDS:
            return
        self._lost.pop(peer, None)
        self._lost[peer] = (refusal.reason, self._clock())
        if len(self._lost) > MAX_LOST:
            del self._lost[next(iter(self._lost))]

    def refused_inbound(self) -> list[RefusedInbound]:
        """Who was refused lately, oldest first."""
        oldest = self._clock() - SHOWN_S
        return [refused for refused in self._refused.values() if refused.at >= oldest]

    def of(self, peer: PeerName) -> str:
        """Why the last link to this peer ended, if that was lately; else empty."""
        reason, at = self._lost.get(peer, ("", 0.0))
        return reason if at >= self._clock() - SHOWN_S else ""
