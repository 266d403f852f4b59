"""Where one family's first ring comes from: election, given seeds, others, or an outside
authority."""

from __future__ import annotations

import random
from collections.abc import Collection
from dataclasses import replace

from weave_ipam.core.documents import TOPIC_PAXOS, AcceptorState, family_key
from weave_ipam.core.effects import Effect, Persist, ProposeGenesis, Publish
from weave_ipam.core.genesis import MAX_SEEDS
from weave_ipam.core.options import Agreed, Consensus, InitMode, Observer, Seeded
from weave_ipam.core.paxos import Election
from weave_ipam.core.records import AcceptorRecord
from weave_ipam.core.view import incompatible
from weave_model.peer import PeerName
from weave_model.prefix import Prefix
from weave_model.ring import Genesis

# How often an outside authority is asked again that has not answered.
ASK_AGAIN_S = 5.0


class Initial:
    """`hint` is the first ring as far as this peer knows without any ring document."""

    def __init__(
        self,
        universe: Prefix,
        me: PeerName,
        mode: InitMode,
        acceptor: AcceptorState,
        rng: random.Random,
        effects: list[Effect],
    ) -> None:
        self.mode = mode
        self.wanted = False
        # Voters of another range.
        self.rejected: dict[PeerName, str] = {}
        self._universe = universe
        self._family = universe.family
        self._me = me
        self._effects = effects
        self._agreed: Genesis | None = None
        self._ask_at: float | None = None
        self._election: Election | None = None
        # Ballots wait here until all of an earlier life is known.
        self._ballots: dict[PeerName, AcceptorState] = {}
        if isinstance(mode, Consensus):
            self._election = Election(me, mode.peers, acceptor, rng)
            if acceptor.promised is not None:
                self._publish()

    @property
    def pinned(self) -> Genesis | None:
        """What an outside authority said: it stands whatever documents say."""
        return self._agreed

    @property
    def hint(self) -> Genesis | None:
        """What the first ring is while no document tells."""
        if isinstance(self.mode, Seeded):
            return self.mode.genesis
        return self._election.decided() if self._election is not None else self._agreed

    def contradicts(self, genesis: Genesis) -> Genesis | None:
        """The seeds given to us, if they are not those of the ring that stands."""
        if isinstance(self.mode, Seeded) and self.mode.genesis != genesis:
            return self.mode.genesis
        return None

    @property
    def is_observer(self) -> bool:
        """Does it depend on others to found a ring?"""
        return isinstance(self.mode, Observer)

    @property
    def deadline(self) -> float | None:
        """When `step` has something to do."""
        return self._election.deadline if self._election is not None else self._ask_at

    def agree(self, genesis: Genesis) -> bool:
        """The outside authority has spoken. Says if that is new."""
        changed = isinstance(self.mode, Agreed) and self._agreed != genesis
        if changed:
            self._agreed = genesis
        return changed

    def receive(self, voter: PeerName, state: AcceptorState) -> str:
        """A voter's document, our own from an earlier life included. Gives why it is none, if so.

        One of another range counts for nothing: two majorities could found two rings together.
        """
        if state.universe is not None and state.universe != self._universe:
            if voter == self._me:
                return ""
            self.rejected[voter] = incompatible(state.universe, self._universe)
            return self.rejected[voter]
        self.rejected.pop(voter, None)
        self._ballots[voter] = state
        return ""

    def forget(self, voter: PeerName) -> None:
        """The voter has departed; its vote stands."""
        self.rejected.pop(voter, None)

    def step(self, now: float, reachable: Collection[PeerName]) -> bool:
        """Works towards a first ring; only while there is none and all documents are known.

        Says if `hint` may be another now.
        """
        if self._election is not None:
            return self._vote(self._election, now, reachable)
        if isinstance(self.mode, Agreed) and self.wanted and self._agreed is None:
            if self._ask_at is None or now >= self._ask_at:
                self._ask_at = now + ASK_AGAIN_S
                seeds = sorted({self._me, *reachable})[:MAX_SEEDS]
                self._effects.append(ProposeGenesis(self._family, Genesis(tuple(seeds))))
        else:
            self._ask_at = None
        return False

    def status(self) -> str:
        """Weave Net's words for a peer without a ring."""
        if self._election is not None and (self.wanted or self._election.known > 1):
            return (
                f"awaiting consensus (quorum: {self._election.quorum},"
                f" known: {self._election.known})"
            )
        return "priming" if self.wanted else "idle"

    def _vote(self, election: Election, now: float, reachable: Collection[PeerName]) -> bool:
        before = election.state
        ballots, self._ballots = self._ballots, {}
        own = ballots.pop(self._me, None)
        if own is not None:
            election.recover(own)
        for voter, state in ballots.items():
            election.observe(voter, state, now)
        if self.wanted:
            election.want(reachable, now)
            election.propose_if_due(now)
        election.think(reachable, now)
        if election.state != before:
            self._effects.append(Persist((AcceptorRecord(self._family, election.state),)))
            self._publish()
        return bool(ballots) or election.state != before

    def _publish(self) -> None:
        assert self._election is not None
        state = replace(self._election.state, universe=self._universe)
        self._effects.append(Publish(TOPIC_PAXOS, family_key(self._family), state))
