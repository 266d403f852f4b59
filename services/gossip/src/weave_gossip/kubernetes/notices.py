"""What an operator must be told, from what an agent sees. Pure: the clock is handed in.

Told at the edges only: when something has been wrong for a while, and when it is well again.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from weave_model.peer import PeerName

# Longer than a rolling update of a node takes, and shorter than somebody looks for the reason.
NOT_READY_FOR_S = 30.0
UNREACHED_FOR_S = 60.0
# Of the names in one text.
_NAMES = 5


@dataclass(frozen=True, slots=True)
class Notice:
    """What becomes an Event. `key` is the same on all agents for what all of them see."""

    reason: str
    message: str
    is_warning: bool = False
    key: str = ""


@dataclass(frozen=True, slots=True)
class Sight:
    """What is seen at one moment.

    `why_not_ready` is empty when an ADD would succeed here. `unreached` are Nodes that say that
    their network works and that no mesh link leads to, with what is known of the failure.
    """

    why_not_ready: str
    unreached: Mapping[str, str] = field(default_factory=dict)
    departed: Mapping[PeerName, str] = field(default_factory=dict)


class Notices:
    """Remembers what was told."""

    def __init__(self) -> None:
        self._was_ready = False
        self._not_ready_since: float | None = None
        self._told_not_ready = False
        self._unreached_since: dict[str, float] = {}
        self._told_unreached: frozenset[str] = frozenset()
        # What was so before this process looked has been told by others.
        self._told_departed: frozenset[PeerName] | None = None

    def look(self, sight: Sight, now: float) -> list[Notice]:
        """What is to be told now."""
        return [
            *self._readiness(sight.why_not_ready, now),
            *self._reach(sight.unreached, now),
            *self._departures(sight.departed),
        ]

    def _readiness(self, why_not: str, now: float) -> list[Notice]:
        if not why_not:
            is_news = not self._was_ready or self._told_not_ready
            self._was_ready, self._told_not_ready, self._not_ready_since = True, False, None
            text = "The pod network of this node works"
            return [Notice("WeaveReady", text)] if is_news else []
        if self._not_ready_since is None:
            self._not_ready_since = now
        if self._told_not_ready or now - self._not_ready_since < NOT_READY_FOR_S:
            return []
        self._told_not_ready = True
        text = f"New pods of this node get no network: {why_not}"
        return [Notice("WeaveNotReady", text, is_warning=True)]

    def _reach(self, unreached: Mapping[str, str], now: float) -> list[Notice]:
        self._unreached_since = {name: self._unreached_since.get(name, now) for name in unreached}
        lasting = frozenset(
            name for name, since in self._unreached_since.items() if now - since >= UNREACHED_FOR_S
        )
        news, self._told_unreached = (
            lasting - self._told_unreached,
            lasting | (self._told_unreached & unreached.keys()),
        )
        if news:
            return [Notice("WeavePeersUnreachable", _unreached_text(lasting, unreached), True)]
        return []

    def _departures(self, departed: Mapping[PeerName, str]) -> list[Notice]:
        told = frozenset(departed) if self._told_departed is None else self._told_departed
        news = departed.keys() - told
        self._told_departed = frozenset(departed)
        return [
            Notice(
                "WeaveNodeDeparted",
                f"Node {departed[name]} is gone for good: its addresses (peer {name}) return",
                key=f"departed.{str(name).replace(':', '')}",
            )
            for name in sorted(news)
        ]


def _unreached_text(names: frozenset[str], reasons: Mapping[str, str]) -> str:
    shown = ", ".join(sorted(names)[:_NAMES])
    more = f" and {len(names) - _NAMES} more" if len(names) > _NAMES else ""
    reason = next((reasons[name] for name in sorted(names) if reasons[name]), "")
    advice = reason or "is TCP port 6783 open between the nodes?"
    return f"No mesh link leads to {shown}{more}: {advice}"
