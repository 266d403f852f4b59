"""Being taken over: our own fence is known, obeyed, and what is owed to its heir is given.

A peer that lives on obeys a fence it has not obeyed yet by granting all that is free to the heir:
it gives nothing that the heir may have given, and nothing is lost, whatever the heir saw.
"""

from __future__ import annotations

import random

from weave_ipam.core.effects import Effect, Note, Persist, ReadFence, Severity
from weave_ipam.core.fences import Fence
from weave_ipam.core.peers import Peers
from weave_ipam.core.pool import Pool
from weave_ipam.core.records import FenceRecord, Owed, OwedRecord
from weave_model.peer import PeerName
from weave_model.prefix import Prefix

# Our own fence must be read before anything is given: ask again soon.
READ_AGAIN_S = 1.0
# How long an address that is the heir's rests when the heir cannot be told so; then it is tried
# again.
UNTOLD_S = 5.0


class Obedience:
    """`is_known`: it is known whether this peer was reclaimed; nothing is given before that."""

    def __init__(
        self,
        peers: Peers,
        pools: tuple[Pool, ...],
        revision: int,
        owed: Owed | None,
        rng: random.Random,
        effects: list[Effect],
    ) -> None:
        self.is_known = False
        self.obeyed = revision
        self._peers = peers
        self._pools = pools
        self._rng = rng
        self._effects = effects
        self._owed = owed
        self._tell_pools()
        self._own: tuple[int, Fence] | None = None
        self._last: Fence | None = None
        self._newest = 0
        self._read_at: float | None = 0.0

    # What stands in Coordination

    def check(self) -> None:
        """Something hints that we were reclaimed: read our fence again."""
        self._read_at = 0.0

    def ask(self, now: float) -> None:
        """Reads our fence when that is due."""
        if self._read_at is not None and now >= self._read_at:
            # One question at a time; the shell answers each with `read` or `failed`.
            self._read_at = None
            self._effects.append(ReadFence(self._peers.me))

    def read(self, revision: int, fence: Fence | None) -> None:
        """Our fence, or that there is none."""
        self.is_known = True
        self._read_at = None
        if revision < self._newest:
            # Asked for before a newer one was seen.
            return
        self._newest = revision
        self._last = fence
        if fence is not None and revision > self.obeyed and fence.heir != self._peers.me:
            self._own = (revision, fence)

    def failed(self, now: float) -> None:
        """Coordination is away."""
        self._read_at = now + READ_AGAIN_S * (1 + self._rng.random())

    def fence_of_heir_read(self, heir: PeerName, fence: Fence | None) -> None:
        """Whom we owe may have been removed; if it has left by itself, nobody may have it."""
        if self._owed is None or heir != self._owed.heir:
            return
        info = self._peers.info(heir)
        if fence is not None and (
            info is None or (not info.reachable and info.incarnation <= fence.victim_incarnation)
        ):
            self._owe(fence.heir, self._owed.addresses)
        elif fence is None and info is None:
            self._owe(self._peers.me, self._owed.addresses)

    @property
    def deadline(self) -> float | None:
        """When `ask` has something to do."""
        return self._read_at

    # Obeying

    @property
    def revision(self) -> int:
        """The last fence of ours that is known, obeyed or not."""
        return self._own[0] if self._own is not None else self.obeyed

    @property
    def last(self) -> Fence | None:
        """The last fence of ours that was read, obeyed or not."""
        return self._last

    @property
    def must_obey(self) -> bool:
        """Is there a fence to be obeyed?"""
        return self._own is not None

    def obey(self) -> None:
        """Hands what is free here to the heir of a fence that we have not obeyed yet.

        The heir may have given it already, and we may not know. What is in use here stays ours for
        so long, unless the heir has listed it: it may not have known of it. But as soon as it is
        free it is the heir's too (`settle_debts`).
        """
        if self._own is None:
            return
        (revision, fence), self._own = self._own, None
        self.obeyed = revision
        kept = frozenset(
            Prefix.host(pool.family, number)
            for pool in self._pools
            for number in (*pool.space.used, *pool.space.resting)
        )
        # First: a document that shows what is kept without saying whose it is must never get out.
        self._owe(fence.heir, kept)
        for pool in self._pools:
            pool.hand_over(fence.heir, with_taken=False, obeyed=fence.heir_revision)
        self._effects.append(Persist((FenceRecord(revision),)))
        self._effects.append(
            Note(
                Severity.WARNING,
                f"This peer was removed by {self._peers.label(fence.heir)}:"
                " its addresses are handed over, new space is asked for",
            )
        )

    def settle_debts(self, now: float) -> None:
        """Gives the heir of the last fence what is free by now of what was in use then.

        The heir's document may still be unknown here: what the heir may have given must never be
        given here again. An heir that cannot be told is waited for, or was removed and has an heir.
        """
        if self._owed is None:
            return
        heir, owed = self._owed.heir, self._owed.addresses
        idle = [(pool, pool.idle(owed)) for pool in self._pools]
        given = {address for _, addresses in idle for address in addresses}
        if not given:
            return
        if not self._peers.is_reachable(heir):
            for pool, addresses in idle:
                for address in addresses:
                    pool.space.rest(address.address, now + UNTOLD_S)
            self._effects.append(ReadFence(heir))
            return
        for pool, addresses in idle:
            pool.hand_back(addresses, heir)
        self._owe(heir, owed - given)

    @property
    def share_for(self) -> PeerName | None:
        """Who gets the share that we have of the first ring as a seed, and what we were granted
        before our last fence: the heir of that, who may not have known of it; None while that is
        not known or not obeyed."""
        if not self.is_known or self._own is not None:
            return None
        if not self.obeyed:
            return self._peers.me
        return self._last.heir if self._last is not None else None

    @property
    def heirs_life(self) -> int:
        """The last fence that the heir had obeyed when it took us over."""
        return self._last.heir_revision if self._last is not None else 0

    @property
    def may_be_another(self) -> bool:
        """May an heir own some of our blocks without our knowing?"""
        return not self.is_known or self._own is not None or self._owed is not None

    def _owe(self, heir: PeerName, addresses: frozenset[Prefix]) -> None:
        is_owed = addresses and heir != self._peers.me
        self._owed = Owed(heir, addresses) if is_owed else None
        self._effects.append(Persist((OwedRecord(self._owed),)))
        self._tell_pools()

    def _tell_pools(self) -> None:
        for pool in self._pools:
            pool.owed = self._owed.addresses if self._owed is not None else frozenset()
            pool.ring.owed = self._owed
            pool.ring.touch()
