"""What peers tell each other about their space, to choose donors and heirs.

Coarse and late on purpose: a wrong choice costs one refusal.
"""

from __future__ import annotations

from weave_ipam.core.documents import TOPIC_SPACE, SpaceAdvice, family_key
from weave_ipam.core.effects import Effect, Publish
from weave_ipam.core.space import Space
from weave_model.peer import PeerName
from weave_model.prefix import Prefix

INTERVAL_S = 5.0
# What 64 bits can say; an IPv6 block holds more.
MAX_ADVICE = 1 << 63


class Advice:
    """One family's: what others said, and what this peer has said."""

    def __init__(self, effects: list[Effect]) -> None:
        # Who leaves takes no space and says so, or two of them would hand theirs to and fro.
        self.is_leaving = False
        self._effects = effects
        self._others: dict[PeerName, SpaceAdvice] = {}
        # None: nothing is said yet; an earlier life may have said more than there is.
        self._said: SpaceAdvice | None = None
        self._next_at = 0.0
        self._counted = -1
        self._waits = False

    def receive(self, writer: PeerName, said: SpaceAdvice) -> None:
        """Another peer says how much it has."""
        self._others[writer] = said

    def forget(self, writer: PeerName) -> None:
        """The peer has departed."""
        self._others.pop(writer, None)

    def free(self, peer: PeerName) -> int | None:
        """How much a peer has; None when it has not said so."""
        said = self._others.get(peer)
        return said.free if said is not None else None

    @property
    def leavers(self) -> frozenset[PeerName]:
        """Peers that are about to leave."""
        return frozenset(peer for peer, said in self._others.items() if said.leaving)

    @property
    def deadline(self) -> float | None:
        """When `publish` has something to say."""
        return self._next_at if self._waits else None

    def publish(self, space: Space, subnet: Prefix, now: float) -> None:
        """Tells others how much of the default subnet is free here, now and then; at once that
        this peer leaves."""
        begins_to_leave = self.is_leaving and not (self._said and self._said.leaving)
        if self._counted == space.changes and not self._waits and not begins_to_leave:
            return
        self._counted = space.changes
        free = 0 if self.is_leaving else space.usable_count(subnet)
        coarse = min(1 << free.bit_length() - 1, MAX_ADVICE) if free else 0
        advice = SpaceAdvice(coarse, self.is_leaving)
        is_due = now >= self._next_at or begins_to_leave
        self._waits = advice != self._said and not is_due
        if advice != self._said and is_due:
            self._said, self._next_at = advice, now + INTERVAL_S
            self._effects.append(Publish(TOPIC_SPACE, family_key(subnet.family), advice))
