"""The allocator: all of ipam's decisions, for one family or two side by side.

Inputs are method calls, each with the time; every call may leave effects, fetched with
`take_effects`. No call blocks, none raises for what came from outside; what cannot be answered at
once stays pending until it can, or until it is cancelled. Time is in Unix seconds; jumps of the
clock, back or forth, do no harm but to lengthen or shorten waits.

Start: construct, then perform effects; deliver documents and `documents_synced` for the topics
`ring` and `ipam-paxos`; `peers_changed`; answer `ReadFence`; when `needs_adoption`, deliver
`adopt`. Until all this has come no new address is given. Requests may arrive from the first moment.
"""

from __future__ import annotations

import random
from collections.abc import Iterable

from weave_ipam.core.clock import SteadyClock
from weave_ipam.core.desk import Desk
from weave_ipam.core.documents import (
    TOPIC_PAXOS,
    TOPIC_RING,
    TOPIC_SPACE,
    TOPICS_NEEDED,
    UNVERSIONED,
    AcceptorState,
    DocumentValue,
    DocumentVersion,
    Message,
    SpaceAdvice,
    SpaceDenied,
    Unreadable,
    family_of_key,
)
from weave_ipam.core.effects import (
    Answer,
    Effect,
    Persist,
    Quarantine,
    RequestId,
)
from weave_ipam.core.fences import Fence
from weave_ipam.core.initial import Initial
from weave_ipam.core.leaving import Leaving
from weave_ipam.core.ledger import Ledger
from weave_ipam.core.options import Options
from weave_ipam.core.paxos import acceptor_fault
from weave_ipam.core.peers import Peers
from weave_ipam.core.pool import Pool
from weave_ipam.core.reclaims import Reclaims
from weave_ipam.core.records import Allocation, NameRecord, QuarantineGone, State
from weave_ipam.core.requests import AllocateRequest, ClaimRequest, by_family, check_requested
from weave_ipam.core.restart import fitting
from weave_ipam.core.results import InUse, PeerInfo, Primed, Status
from weave_ipam.core.status import describe
from weave_model.attachment import AttachmentKey, Workload
from weave_model.errors import Invalid, NotReady
from weave_model.peer import PeerName
from weave_model.prefix import Family, Prefix
from weave_model.ring import Genesis, RingDocument, RingView

# Each pass follows what the one before changed: document, view, obeyed fence, new document.
MAX_PASSES = 8
LEAVING = "this peer is leaving"


class Allocator:
    """See the module."""

    def __init__(self, options: Options, state: State, rng: random.Random, now: float) -> None:
        """A state of another peer or another universe is taken over as far as it fits: allocations
        stay known, own documents do not."""
        self._clock = SteadyClock(now)
        self._effects: list[Effect] = []
        self._peers = Peers(options.name, options.nickname)
        fit = fitting(state, options, self._effects)
        self._pools: dict[Family, Pool] = {}
        for family_options in options.families:
            family = family_options.family
            acceptor = fit.acceptors.get(family, AcceptorState())
            initial = Initial(
                family_options.universe, options.name, options.init, acceptor, rng, self._effects
            )
            own = fit.documents.get(family)
            self._pools[family] = Pool(
                family_options, own, initial, self._peers, rng, self._effects
            )
        pools = tuple(self._pools.values())
        self._desk = Desk(Ledger(fit.allocations, fit.generation), self._pools, self._effects)
        self._reclaims = Reclaims(
            self._peers, pools, fit.fence_revision, fit.owed, rng, self._effects
        )
        self._leaving = Leaving(self._peers, pools, self._effects)
        self._quarantine_s = options.quarantine_s
        self._synced: set[str] = set()
        self._primes: list[RequestId] = []
        self._needs_adoption = state.name is None
        self._desk.load(fit.quarantine, now, options.quarantine_s)
        self._stirred = True

    # From gossip

    def document_received(
        self,
        topic: str,
        writer: PeerName,
        key: str,
        value: DocumentValue,
        now: float,
        version: DocumentVersion = UNVERSIONED,
    ) -> None:
        """A document is new or newer; our own come too."""
        self._advance(now)
        family = family_of_key(key)
        pool = self._pools.get(family) if family is not None else None
        fault = value.reason if isinstance(value, Unreadable) else None
        if pool is None:
            # A family that only others use.
            return
        if topic == TOPIC_RING and isinstance(value, Unreadable | RingDocument):
            pool.ring.receive(writer, value, version)
            return
        if topic == TOPIC_SPACE and isinstance(value, SpaceAdvice):
            pool.advice.receive(writer, value)
        elif topic == TOPIC_PAXOS and isinstance(value, AcceptorState):
            fault = acceptor_fault(value) or pool.ring.vote_received(writer, value)
        if fault:
            self._effects.append(Quarantine(topic, writer, key, version, fault))

    def document_removed(self, topic: str, writer: PeerName, key: str, now: float) -> None:
        """The writer has departed. Idempotent."""
        self._advance(now)
        family = family_of_key(key)
        pool = self._pools.get(family) if family is not None else None
        if pool is None:
            return
        if topic == TOPIC_SPACE:
            pool.advice.forget(writer)
        elif topic == TOPIC_PAXOS:
            pool.ring.initial.forget(writer)
        elif topic == TOPIC_RING:
            pool.ring.remove(writer)
            if writer == self._peers.me:
                self._reclaims.check_own()

    def documents_synced(self, topic: str, now: float) -> None:
        """All of the topic that gossip holds has been delivered. Idempotent."""
        self._advance(now)
        self._synced.add(topic)
        self._touch()

    def peers_changed(self, peers: Iterable[PeerInfo], now: float) -> None:
        """All peers that gossip knows, self included or not."""
        self._advance(now)
        self._peers.replace(peers)

    def message_received(self, source: PeerName, message: Message, now: float) -> None:
        """May come late, twice, or from anybody."""
        self._advance(now)
        pool = self._pools.get(message.within.family)
        if pool is None or source == self._peers.me:
            return
        if isinstance(message, SpaceDenied):
            if pool.asking.refuse(source, message.within, message.reason):
                pool.supplied = True
        elif pool.ring.view is None:
            pool.ring.initial.wanted = True
        elif self._obstacle() is None and self._peers.is_reachable(source):
            self._progress()
            pool.donate(source, message.within, self._clock.now, self._desk.allocates_waiting)
            self._stirred = True

    # From Coordination

    def fence_read(self, victim: PeerName, revision: int, fence: Fence | None, now: float) -> None:
        """Answers `ReadFence`; may also come unasked. Revision 0 and None: there is none."""
        self._advance(now)
        self._progress()
        self._reclaims.read(victim, revision, fence)
        self._touch()

    def fence_written(self, victim: PeerName, revision: int, now: float) -> None:
        """Answers `WriteFence`: it is ours, and has this revision."""
        self._advance(now)
        self._progress()
        self._reclaims.written(victim, revision, self._clock.now)
        self._stirred = True

    def fence_raced(self, victim: PeerName, now: float) -> None:
        """Answers `WriteFence`: the revision was another."""
        self._advance(now)
        self._reclaims.raced(victim)

    def fence_failed(self, victim: PeerName, reason: str, now: float) -> None:
        """Coordination is away."""
        self._advance(now)
        self._reclaims.failed(victim, reason, self._clock.now)

    def genesis_agreed(self, family: Family, genesis: Genesis, now: float) -> None:
        """What stands in Coordination; also without having been asked."""
        self._advance(now)
        pool = self._pools.get(family)
        if pool is not None and pool.ring.initial.agree(genesis):
            pool.ring.touch()

    # From callers. Each is answered by one `Answer`, at once or later.

    def allocate(
        self,
        request: RequestId,
        key: AttachmentKey,
        workload: Workload,
        subnets: tuple[Prefix, ...],
        requested: tuple[Prefix, ...],
        now: float,
    ) -> None:
        """One address per family, inside `subnets` or exactly those `requested` (host prefixes), at
        most one of each per family. Idempotent for the key."""
        self._advance(now)
        try:
            within = by_family(subnets, self._pools, "subnet")
            exactly = by_family(requested, self._pools, "address")
            check_requested(exactly, within)
        except Invalid as error:
            self._effects.append(Answer(request, error))
            return
        self._desk.submit(AllocateRequest(request, key, workload, within, exactly))

    def claim(
        self,
        request: RequestId,
        key: AttachmentKey,
        workload: Workload,
        addresses: tuple[Prefix, ...],
        now: float,
    ) -> None:
        """The addresses are in use by the attachment already. Idempotent."""
        self._advance(now)
        broad = next((address for address in addresses if not address.is_host), None)
        if broad is not None or not addresses:
            text = "no address is given" if broad is None else f"{broad} is no single address"
            self._effects.append(Answer(request, Invalid(text)))
            return
        self._desk.submit(ClaimRequest(request, key, workload, addresses))

    def release(self, request: RequestId, key: AttachmentKey, generation: int, now: float) -> None:
        """Frees what the attachment holds, if its generation is this one (0: whatever it has)."""
        self._advance(now)
        until = self._clock.now + self._quarantine_s
        self._desk.release(request, key, generation, until, now + self._quarantine_s)

    def prime(self, request: RequestId, now: float) -> None:
        """Answered when every family has a ring."""
        self._advance(now)
        self._primes.append(request)

    def reclaim(self, request: RequestId, peer: PeerName, now: float) -> None:
        """Takes over a dead peer's space."""
        self._advance(now)
        self._progress()
        obstacle = self._obstacle()
        if obstacle is not None:
            self._effects.append(Answer(request, NotReady(obstacle)))
        else:
            self._reclaims.reclaim(request, peer)

    def leave(self, request: RequestId, now: float) -> None:
        """Hands all space over to other peers; no address is given any more.

        Also what is in use here: the node's pods are no part of the network any more.
        """
        self._advance(now)
        self._leaving.begin(request)
        self._desk.close(LEAVING)

    def cancel(self, request: RequestId, now: float) -> bool:
        """Forgets a pending request and leaves nothing of it behind. False: it is answered already
        (or unknown), and what it allocated is allocated."""
        self._advance(now)
        if request in self._primes:
            self._primes.remove(request)
            return True
        return (
            self._desk.cancel(request)
            or self._reclaims.cancel(request)
            or self._leaving.cancel(request)
        )

    def why_pending(self, request: RequestId) -> str:
        """Why the request is not answered yet, one sentence; "" when it is not pending."""
        self._progress()
        if request in self._primes:
            return self._no_ring()
        waits_for = self._desk.waits_for(request)
        if waits_for and self._obstacle() is None and self._no_ring():
            return self._no_ring()
        waits_for = (
            waits_for or self._reclaims.waits_for(request) or self._leaving.waits_for(request)
        )
        return f"waiting for {waits_for}" if waits_for else ""

    # From the router

    @property
    def needs_adoption(self) -> bool:
        """Addresses may be in use that the state does not know: `adopt` is waited for."""
        return self._needs_adoption

    def adopt(self, in_use: Iterable[InUse], now: float) -> None:
        """What the kernel says is in use. Adds what is not known; frees nothing. Idempotent."""
        self._advance(now)
        self._desk.adopt(in_use, now)
        if self._needs_adoption:
            # Not before: a crash in between must not pass for a known set.
            self._effects.append(Persist((NameRecord(self._peers.me),)))
            self._needs_adoption = False
        self._touch()

    # Time and effects

    def tick(self, now: float) -> None:
        """Does what is due."""
        self._advance(now)

    def next_deadline(self) -> float | None:
        """When `tick` has something to do; None: not before another input."""
        self._progress()
        deadlines = self._reclaims.deadlines()
        for pool in self._pools.values():
            deadlines += pool.deadlines()
            if pool.space.resting:
                deadlines.append(next(iter(pool.space.resting.values())))
        return self._clock.to_wall(min(deadlines)) if deadlines else None

    def take_effects(self) -> list[Effect]:
        """What is to be done, in order; each effect is returned once."""
        self._progress()
        effects = self._effects.copy()
        # The parts hold this very list.
        self._effects.clear()
        return effects

    # Queries

    def lookup(self, key: AttachmentKey) -> Allocation | None:
        """What an attachment holds."""
        self._progress()
        return self._desk.ledger.get(key)

    def allocations(self) -> tuple[Allocation, ...]:
        """All of this peer, sorted by key."""
        self._progress()
        return self._desk.ledger.all()

    def resolve_peer(self, text: str) -> PeerName | None:
        """A peer by nickname, else by name; None when neither is known."""
        named = self._peers.named(text)
        if named is not None:
            return named
        try:
            return PeerName.parse(text)
        except ValueError:
            return None

    def ring(self, family: Family) -> RingView | None:
        """None while there is no ring, or for a family that is not configured."""
        self._progress()
        pool = self._pools.get(family)
        return pool.ring.seen if pool is not None else None

    def status(self) -> Status:
        """The whole state in words and numbers."""
        self._progress()
        return describe(tuple(self._pools.values()), self._peers, self._desk, self._obstacle())

    # Progress

    def _advance(self, now: float) -> None:
        self._clock.advance(now)
        self._stirred = True

    def _touch(self) -> None:
        self._stirred = True
        for pool in self._pools.values():
            pool.ring.touch()

    @property
    def _may_write(self) -> bool:
        return self._synced >= TOPICS_NEEDED

    def _obstacle(self) -> str | None:
        if self._leaving.is_leaving:
            return LEAVING
        waits_for = self._unknown()
        return f"waiting for {waits_for}" if waits_for is not None else None

    def _unknown(self) -> str | None:
        if not self._may_write:
            return "the documents of the other peers: gossip has not answered"
        if not self._reclaims.is_known:
            return "whether this peer was removed meanwhile: Coordination has not answered"
        if self._needs_adoption:
            return "the addresses in use: the router has not answered"
        return None

    def _progress(self) -> None:
        passes = 0
        while self._stirred and passes < MAX_PASSES:
            self._stirred = False
            passes += 1
            self._pass(self._clock.now)

    def _pass(self, now: float) -> None:
        self._expire(now)
        pools = self._pools.values()
        share_for = None if self._leaving.is_leaving else self._reclaims.share_for
        for pool in pools:
            pool.ring.may_be_another = self._reclaims.may_be_another
            pool.refresh(may_write=self._may_write, share_for=share_for)
            if pool.ring.has_lost:
                pool.ring.has_lost = False
                self._reclaims.check_own()
                self._stirred = True
            if pool.ring.view is None and self._may_write:
                self._found(pool, now)
        if self._may_write:
            if self._reclaims.must_obey and not self._needs_adoption:
                self._reclaims.obey()
                self._touch()
            self._reclaims.settle_debts(now)
            self._stirred |= self._leaving.step()
            self._stirred |= self._reclaims.take(now)
        self._reclaims.ask(now)
        self._serve()
        for pool in pools:
            if self._obstacle() is None:
                pool.donate_postponed(now, self._desk.allocates_waiting)
            pool.ask(self._desk.wants(pool.family), now, recover=not self._leaving.is_leaving)
            self._stirred |= pool.supplied
            pool.publish_advice(now)
        self._answer_primes()

    def _found(self, pool: Pool, now: float) -> None:
        pool.ring.initial.wanted |= bool(self._primes) or not self._desk.is_idle
        if pool.ring.initial.step(now, self._peers.reachable):
            pool.ring.touch()
            self._stirred = True

    def _serve(self) -> None:
        self._desk.obstacle = self._unknown()
        retry = any(pool.supplied for pool in self._pools.values())
        self._desk.serve(self._clock.wall, retry=retry)
        for pool in self._pools.values():
            pool.supplied = False

    def _expire(self, now: float) -> None:
        for pool in self._pools.values():
            rested = pool.space.rested(now)
            if rested:
                pool.supplied = True
                self._effects.append(
                    Persist(tuple(QuarantineGone(Prefix.host(pool.family, a)) for a in rested))
                )

    def _no_ring(self) -> str:
        return ", ".join(
            pool.ring.initial.status() for pool in self._pools.values() if pool.ring.view is None
        )

    def _answer_primes(self) -> None:
        if self._primes and all(pool.ring.view is not None for pool in self._pools.values()):
            self._effects.extend(Answer(request, Primed()) for request in self._primes)
            self._primes.clear()


# The name under which the service declares what it drives.
AllocatorFace = Allocator
