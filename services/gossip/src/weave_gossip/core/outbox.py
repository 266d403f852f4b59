"""Where the parts of the core put their effects."""

from __future__ import annotations

from weave_gossip.core.effects import CloseLink, Effect, LogEvent, LogLevel, Send
from weave_gossip.core.links import LinkState
from weave_gossip.core.messages import Message, Ping, Pong, Refusal


class Outbox:
    """Effects in order, and the time of the input they answer."""

    def __init__(self, now: float) -> None:
        self.now = now
        self._effects: list[Effect] = []

    def put(self, effect: Effect) -> None:
        self._effects.append(effect)

    def send(self, link: LinkState, message: Message) -> None:
        """Sends unless the link's buffer is full; what is dropped then, anti-entropy makes good."""
        if link.blocked_since is None or isinstance(message, Ping | Pong):
            link.last_sent = self.now
            self._effects.append(Send(link.id, message))

    def close(self, link: LinkState, refusal: Refusal | None) -> None:
        self._effects.append(CloseLink(link.id, refusal))

    def log(self, level: LogLevel, message: str, **fields: str) -> None:
        self._effects.append(LogEvent(level, message, fields))

    def take(self) -> list[Effect]:
        effects, self._effects = self._effects, []
        return effects
