"""What gossip knows of the peers, as ipam needs it."""

from __future__ import annotations

from collections.abc import Iterable

from weave_ipam.core.results import PeerInfo
from weave_model.peer import PeerName


class Peers:
    """All known peers but this one."""

    def __init__(self, me: PeerName, nickname: str) -> None:
        self.me = me
        self.reachable: frozenset[PeerName] = frozenset()
        self._nickname = nickname
        self._known: dict[PeerName, PeerInfo] = {}

    def replace(self, peers: Iterable[PeerInfo]) -> None:
        """All that gossip knows now."""
        self._known = {peer.name: peer for peer in peers if peer.name != self.me}
        self.reachable = frozenset(peer.name for peer in self._known.values() if peer.reachable)

    def is_reachable(self, peer: PeerName) -> bool:
        """Can it be asked? We can always ask ourselves."""
        return peer == self.me or peer in self.reachable

    def info(self, peer: PeerName) -> PeerInfo | None:
        """None for a peer that gossip does not know (any more)."""
        return self._known.get(peer)

    def nickname(self, peer: PeerName) -> str:
        """Empty when unknown."""
        if peer == self.me:
            return self._nickname
        info = self._known.get(peer)
        return info.nickname if info is not None else ""

    def label(self, peer: PeerName) -> str:
        """`name(nickname)`, as Weave Net prints peers."""
        nickname = self.nickname(peer)
        return f"{peer}({nickname})" if nickname else str(peer)

    def named(self, text: str) -> PeerName | None:
        """By nickname, where it is one peer's only."""
        found = [peer.name for peer in self._known.values() if peer.nickname == text]
        if self._nickname == text:
            found.append(self.me)
        return found[0] if len(found) == 1 else None
