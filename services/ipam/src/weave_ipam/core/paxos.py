"""The election of the first ring: single-decree Paxos over replicated documents.

Lamport, "Paxos Made Simple" (2001). Each voter's acceptor state is one document, which only the
voter changes and which every peer sees sooner or later; so no messages are addressed, none is lost
for good, and a proposal that lacks voters needs no repetition: it goes on when they appear. Only a
proposal that another has overtaken and abandoned must be tried again; who does so waits for a time
that grows and varies, so that proposers do not chase each other.

Safety needs what the caller grants: a voter's state is durable before it is published, and after a
loss of state it is taken back from the voter's own document (`recover`) before the first vote. The
votes of a voter that departed still count, for the same reason.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Iterable

from weave_ipam.core.documents import AcceptorState, Ballot
from weave_ipam.core.genesis import MAX_SEEDS
from weave_model.peer import PeerName
from weave_model.ring import Genesis

# Leaves room for later rounds in 64 bits of the wire; beyond it a document is broken.
MAX_ROUND = 1 << 62
# Peers of a lower name go first, this many seconds apart: enough for a proposal to spread on a LAN.
TURN_S = 0.1
MAX_TURNS = 20
# How long a foreign proposal may take before it counts as abandoned.
PATIENCE_S = 1.0
MAX_PATIENCE_S = 30.0
# How long a proposal waits for more promises than it needs, so that all who are there have a share
# from the start; well below the patience of the others.
GATHER_S = 0.5


class Election:
    """One voter. `state` is to be made durable, then published, whenever a method says it
    changed."""

    def __init__(self, me: PeerName, peers: int, state: AcceptorState, rng: random.Random) -> None:
        self.state = state
        self._me = me
        self._expected = peers
        self._majority = peers // 2 + 1
        self._rng = rng
        self._others: dict[PeerName, AcceptorState] = {}
        self._attempts = 0
        self._propose_at: float | None = None
        self._gather_until: float | None = None

    @property
    def known(self) -> int:
        """Voters that have shown themselves, this one included."""
        return len(self._others) + 1

    @property
    def quorum(self) -> int:
        """A majority of the voters expected, or of those known if there are more."""
        return max(self._majority, self.known // 2 + 1)

    @property
    def deadline(self) -> float | None:
        """When `propose_if_due` or `think` has something to do."""
        moments = [when for when in (self._propose_at, self._gather_until) if when is not None]
        return min(moments, default=None)

    def observe(self, voter: PeerName, state: AcceptorState, now: float) -> bool:
        """Takes another voter's document, votes on what it proposes. Says if our state changed."""
        self._others[voter] = state
        changed = self._accept(state) | self._promise(state.promised)
        if changed and self._propose_at is not None:
            self._propose_at = now + self._patience()
        return changed

    def recover(self, state: AcceptorState) -> bool:
        """Takes back what this voter published in an earlier life. Says if our state changed."""
        before = self.state
        if state.accepted is not None and (
            before.accepted is None or state.accepted > before.accepted
        ):
            self.state = AcceptorState(before.promised, state.accepted, state.accepted_value)
        return self._promise(state.promised) | (self.state != before)

    def want(self, peers: Iterable[PeerName], now: float) -> None:
        """A ring is needed: take part as a proposer. `peers` are reachable."""
        if self._propose_at is None:
            turn = min(sum(peer < self._me for peer in peers), MAX_TURNS)
            self._propose_at = now + TURN_S * (turn + self._rng.random() / 2 if turn else 0)

    def propose_if_due(self, now: float) -> bool:
        """Begins a new round if it is time and nobody's, or another's, proposal is in the way."""
        if self._propose_at is None or now < self._propose_at:
            return False
        self._propose_at = now + self._patience()
        promised = self.state.promised
        if promised is not None and promised.proposer == self._me:
            return False
        self._attempts += 1
        rounds = [state.promised.round for state in self._others.values() if state.promised]
        if promised is not None:
            rounds.append(promised.round)
        self._gather_until = now + GATHER_S
        return self._promise(Ballot(max(rounds, default=0) + 1, self._me))

    def think(self, reachable: Iterable[PeerName], now: float) -> bool:
        """Puts a value to the vote once a quorum has promised. Says if our state changed.

        The value: what the promisers accepted last, else the names of the promisers and of all
        other known voters that are reachable. All voters expected get a moment to show themselves.
        """
        if self._gather_until is not None and now >= self._gather_until:
            self._gather_until = None
        ballot = self.state.promised
        if ballot is None or ballot.proposer != self._me or self.state.accepted == ballot:
            return False
        promisers = {
            voter: state for voter, state in self._voters().items() if state.promised == ballot
        }
        if len(promisers) < self.quorum:
            return False
        if self._gather_until is not None and self.known < self._expected:
            return False
        self._gather_until = None
        accepted = [
            (state.accepted, state.accepted_value)
            for state in promisers.values()
            if state.accepted is not None and state.accepted_value is not None
        ]
        if accepted:
            value = max(accepted, key=lambda pair: pair[0])[1]
        else:
            present = self._others.keys() & set(reachable)
            value = Genesis(tuple(sorted({*promisers, *present})[:MAX_SEEDS]))
        self.state = AcceptorState(ballot, ballot, value)
        return True

    def decided(self) -> Genesis | None:
        """The value that a quorum accepted under one ballot, once there is one."""
        votes = Counter(
            (state.accepted, state.accepted_value)
            for state in self._voters().values()
            if state.accepted is not None and state.accepted_value is not None
        )
        return next((value for (_, value), count in votes.items() if count >= self.quorum), None)

    def _voters(self) -> dict[PeerName, AcceptorState]:
        return {**self._others, self._me: self.state}

    def _promise(self, ballot: Ballot | None) -> bool:
        if ballot is None or (self.state.promised is not None and ballot <= self.state.promised):
            return False
        self.state = AcceptorState(ballot, self.state.accepted, self.state.accepted_value)
        return True

    def _accept(self, state: AcceptorState) -> bool:
        ballot, value = state.accepted, state.accepted_value
        if ballot is None or value is None:
            return False
        promised, accepted = self.state.promised, self.state.accepted
        if promised is not None and ballot < promised:
            return False
        if accepted is not None and ballot <= accepted:
            return False
        self.state = AcceptorState(ballot, ballot, value)
        return True

    def _patience(self) -> float:
        patience = min(PATIENCE_S * 2.0 ** min(self._attempts, 10), MAX_PATIENCE_S)
        return patience * (1 + self._rng.random())


def acceptor_fault(state: AcceptorState) -> str | None:
    """Why a voter's document cannot be one; None when it can."""
    if (state.accepted is None) != (state.accepted_value is None):
        return "a ballot was accepted without a value, or a value without a ballot"
    if state.accepted is not None and (state.promised is None or state.accepted > state.promised):
        return "the accepted ballot is greater than the promised one"
    for ballot in (state.promised, state.accepted):
        if ballot is not None and not 0 < ballot.round < MAX_ROUND:
            return f"round {ballot.round} is out of bounds"
    if state.accepted_value is not None and len(state.accepted_value.seeds) > MAX_SEEDS:
        return f"{len(state.accepted_value.seeds)} seeds are more than {MAX_SEEDS}"
    return None
