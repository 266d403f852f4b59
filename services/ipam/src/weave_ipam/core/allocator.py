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

from weave_ipam.core.assembly import assemble
from weave_ipam.core.clock import SteadyClock
from weave_ipam.core.documents import (
    TOPIC_RING,
    UNVERSIONED,
    DocumentValue,
    DocumentVersion,
    Message,
    SpaceDenied,
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
from weave_ipam.core.options import Options
from weave_ipam.core.progress import LEAVING, Progress
from weave_ipam.core.records import Allocation, NameRecord, State
from weave_ipam.core.requests import AllocateRequest, ClaimRequest, by_family, check_requested
from weave_ipam.core.results import InUse, PeerInfo, Status
from weave_ipam.core.status import describe
from weave_model.attachment import AttachmentKey, Workload
from weave_model.errors import Invalid, NotReady
from weave_model.peer import PeerName
from weave_model.prefix import Family, Prefix
from weave_model.ring import Genesis, RingView


class Allocator:
    """See the module."""

    def __init__(self, options: Options, state: State, rng: random.Random, now: float) -> None:
        """A state of another peer or another universe is taken over as far as it fits: allocations
        stay known, own documents do not."""
        self._clock = SteadyClock(now)
        # The parts hold this very list.
        self._effects: list[Effect] = []
        parts = assemble(options, state, rng, now, self._effects)
        self._peers, self._pools, self._desk = parts.peers, parts.pools, parts.desk
        self._obedience, self._reclaims = parts.obedience, parts.reclaims
        self._orphans = parts.orphans
        self._leaving = parts.leaving
        self._progress = Progress(
            parts, self._clock, self._effects, needs_adoption=state.name is None
        )
        self._quarantine_s = options.quarantine_s

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
        # A family that only others use is nothing to us.
        fault = pool.receive(topic, writer, value, version) if pool is not None else ""
        if fault:
            self._effects.append(Quarantine(topic, writer, key, version, fault))

    def document_removed(self, topic: str, writer: PeerName, key: str, now: float) -> None:
        """The writer has departed. Idempotent."""
        self._advance(now)
        family = family_of_key(key)
        pool = self._pools.get(family) if family is not None else None
        if pool is not None:
            pool.remove(topic, writer)
            if topic == TOPIC_RING and writer == self._peers.me:
                self._obedience.check()

    def documents_synced(self, topic: str, now: float) -> None:
        """All of the topic that gossip holds has been delivered. Idempotent."""
        self._advance(now)
        self._progress.synced.add(topic)
        self._progress.touch()

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
        elif self._progress.obstacle() is None and self._peers.is_reachable(source):
            self._progress.run()
            pool.donate(source, message, self._clock.now, self._desk.allocates_waiting)
            self._progress.stir()

    # From Coordination

    def fence_read(self, victim: PeerName, revision: int, fence: Fence | None, now: float) -> None:
        """Answers `ReadFence`; may also come unasked. Revision 0 and None: there is none."""
        self._advance(now)
        self._progress.run()
        if victim == self._peers.me:
            self._obedience.read(revision, fence)
        else:
            self._obedience.fence_of_heir_read(victim, fence)
            self._reclaims.read(victim, revision, fence)
            self._orphans.read(victim, revision, fence)
        self._progress.touch()

    def fence_written(self, revision: int, fence: Fence, now: float) -> None:
        """Answers `WriteFence`: it stands as given, and has its token."""
        self._advance(now)
        self._progress.run()
        self._reclaims.written(revision, fence, self._clock.now)
        self._progress.stir()

    def fence_raced(self, victim: PeerName, now: float) -> None:
        """Answers `WriteFence`: the revision was another."""
        self._advance(now)
        self._reclaims.raced(victim)

    def fence_failed(self, victim: PeerName, reason: str, now: float) -> None:
        """Coordination is away."""
        self._advance(now)
        if victim == self._peers.me:
            self._obedience.failed(self._clock.now)
        else:
            self._reclaims.failed(victim, reason)

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
        self._progress.primes.append(request)

    def reclaim(self, request: RequestId, peer: PeerName, now: float) -> None:
        """Takes over a dead peer's space."""
        self._advance(now)
        self._progress.run()
        obstacle = self._progress.obstacle()
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
        if request in self._progress.primes:
            self._progress.primes.remove(request)
            return True
        return (
            self._desk.cancel(request)
            or self._reclaims.cancel(request)
            or self._leaving.cancel(request)
        )

    def why_pending(self, request: RequestId) -> str:
        """Why the request is not answered yet, one sentence; "" when it is not pending."""
        self._progress.run()
        if request in self._progress.primes:
            return self._progress.no_ring()
        waits_for = self._desk.waits_for(request)
        if waits_for and self._progress.obstacle() is None and self._progress.no_ring():
            return self._progress.no_ring()
        if self._leaving.waits_for(request):
            waits_for = self._progress.unknown() or self._leaving.waits_for(request)
        waits_for = waits_for or self._reclaims.waits_for(request)
        return f"waiting for {waits_for}" if waits_for else ""

    # From the router

    @property
    def needs_adoption(self) -> bool:
        """Addresses may be in use that the state does not know: `adopt` is waited for."""
        return self._progress.needs_adoption

    def adopt(self, in_use: Iterable[InUse], now: float) -> None:
        """What the kernel says is in use. Adds what is not known; frees nothing. Idempotent."""
        self._advance(now)
        self._desk.adopt(in_use, now)
        if self._progress.needs_adoption:
            # Not before: a crash in between must not pass for a known set.
            self._effects.append(Persist((NameRecord(self._peers.me),)))
            self._progress.needs_adoption = False
        self._progress.touch()

    # Time and effects

    def tick(self, now: float) -> None:
        """Does what is due."""
        self._advance(now)

    def next_deadline(self) -> float | None:
        """When `tick` has something to do; None: not before another input."""
        self._progress.run()
        deadline = self._progress.deadline()
        return self._clock.to_wall(deadline) if deadline is not None else None

    def take_effects(self) -> list[Effect]:
        """What is to be done, in order; each effect is returned once."""
        self._progress.run()
        effects = self._effects.copy()
        self._effects.clear()
        return effects

    # Queries

    def lookup(self, key: AttachmentKey) -> Allocation | None:
        """What an attachment holds."""
        self._progress.run()
        return self._desk.ledger.get(key)

    def allocations(self) -> tuple[Allocation, ...]:
        """All of this peer, sorted by key."""
        self._progress.run()
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
        self._progress.run()
        pool = self._pools.get(family)
        return pool.ring.seen if pool is not None else None

    def status(self) -> Status:
        """The whole state in words and numbers."""
        self._progress.run()
        return describe(
            tuple(self._pools.values()), self._peers, self._desk, self._progress.obstacle()
        )

    def _advance(self, now: float) -> None:
        self._clock.advance(now)
        self._progress.stir()


# The name under which the service declares what it drives.
AllocatorFace = Allocator
