"""Asking other peers for space: one request at a time for each prefix that is wanted."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

from weave_model.peer import PeerName
from weave_model.prefix import Prefix

# A donor answers within a round trip and a durable write; then the next one is asked.
ANSWER_S = 2.0
# When all were asked in vain, the round begins again after this, and some jitter.
ROUND_S = 5.0


@dataclass(frozen=True, slots=True)
class Donors:
    """Who may have space inside a prefix."""

    # Reachable, best first.
    ready: tuple[PeerName, ...] = ()
    # Does an owner exist for every address, and can each of them be asked?
    complete: bool = False


@dataclass(slots=True)
class Want:
    """A prefix inside which space is wanted, and how far the asking has come."""

    asked: PeerName | None = None
    until: float = 0.0
    refused: dict[PeerName, str] = field(default_factory=dict)
    silent: set[PeerName] = field(default_factory=set)
    # All were asked; `until` is when the next round begins.
    over: bool = False
    # All refused, and there is nobody else who could have space: there is none.
    exhausted: bool = False

    def drop_asked(self) -> None:
        """The peer that was asked does not answer."""
        if self.asked is not None:
            self.silent.add(self.asked)
            self.asked = None

    def choose(self, donors: Donors, now: float, pause_s: float) -> PeerName | None:
        """Whom to ask next; with nobody left the round ends."""
        tried = self.refused.keys() | self.silent
        peer = next((peer for peer in donors.ready if peer not in tried), None)
        if peer is not None:
            self.asked, self.until, self.over, self.exhausted = peer, now + ANSWER_S, False, False
        elif not self.over:
            self.over, self.until = True, now + pause_s
            self.exhausted = donors.complete and not self.silent
        return peer


class Asking:
    """The wants of one family."""

    def __init__(self, rng: random.Random) -> None:
        self._rng = rng
        self._wants: dict[Prefix, Want] = {}

    @property
    def exhausted(self) -> frozenset[Prefix]:
        """The prefixes inside which there is no space anywhere."""
        return frozenset(prefix for prefix, want in self._wants.items() if want.exhausted)

    @property
    def is_idle(self) -> bool:
        """Is nothing wanted?"""
        return not self._wants

    @property
    def deadline(self) -> float | None:
        """When `ask` has something to do at the latest."""
        return min((want.until for want in self._wants.values()), default=None)

    def want(self, prefixes: Iterable[Prefix]) -> None:
        """Exactly these are wanted from now on; what is known of others is forgotten."""
        self._wants = {prefix: self._wants.get(prefix) or Want() for prefix in prefixes}

    def refuse(self, source: PeerName, within: Prefix, reason: str) -> bool:
        """A donor has nothing. Says if that was waited for."""
        want = self._wants.get(within)
        if want is None or want.asked != source:
            return False
        want.refused[source] = reason
        want.asked = None
        return True

    def supply(self, gained: Iterable[Prefix]) -> None:
        """Space has come: whoever was asked for it has answered and may be asked for more."""
        for prefix in gained:
            for within, want in self._wants.items():
                if within.overlaps(prefix):
                    want.asked, want.over, want.exhausted = None, False, False

    def refusal(self, prefix: Prefix) -> str | None:
        """Why there is no space inside `prefix`; None while there is hope."""
        want = self._wants.get(prefix)
        if want is None or not want.exhausted:
            return None
        return "; ".join(sorted(set(want.refused.values())))

    def ask(self, donors: Callable[[Prefix], Donors], now: float) -> list[tuple[PeerName, Prefix]]:
        """Whom to ask now for what."""
        requests: list[tuple[PeerName, Prefix]] = []
        for prefix, want in self._wants.items():
            found = donors(prefix)
            before = want.asked
            if before is not None and (now >= want.until or before not in found.ready):
                want.drop_asked()
            elif want.over and now >= want.until:
                want.over = False
                want.refused.clear()
                want.silent.clear()
            if want.asked is None:
                peer = want.choose(found, now, ROUND_S * (1 + self._rng.random() / 2))
                if peer is not None:
                    requests.append((peer, prefix))
        return requests
