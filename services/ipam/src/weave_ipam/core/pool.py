"""One family of this peer: its part of the ring, the addresses in it, and the trade with other
peers."""

from __future__ import annotations

import random
from collections.abc import Iterable, Mapping

from weave_ipam.core.advice import Advice
from weave_ipam.core.asking import ANSWER_S, Asking, Donors
from weave_ipam.core.documents import (
    TOPIC_PAXOS,
    TOPIC_RING,
    TOPIC_SPACE,
    AcceptorState,
    DocumentValue,
    DocumentVersion,
    SpaceAdvice,
    SpaceDenied,
    SpaceRequest,
    Unreadable,
)
from weave_ipam.core.effects import Effect, SendMessage
from weave_ipam.core.granted import Taken
from weave_ipam.core.initial import Initial
from weave_ipam.core.options import FamilyOptions
from weave_ipam.core.own import carry, give, take_over
from weave_ipam.core.paxos import acceptor_fault
from weave_ipam.core.peers import Peers
from weave_ipam.core.ring import Ring
from weave_ipam.core.space import Space
from weave_ipam.core.view import Title
from weave_model.peer import PeerName
from weave_model.prefix import Family, Prefix, subtract
from weave_model.ring import RingDocument

# Conflicting addresses that are asked back at a time, and the pause after a refusal.
MAX_RECOVERING = 16
RECOVERY_PAUSE_S = 60.0


class Pool:
    """See the module. `supplied` is set when a request that waits may succeed now."""

    def __init__(
        self,
        options: FamilyOptions,
        own: RingDocument | None,
        departed: Mapping[PeerName, RingDocument],
        initial: Initial,
        peers: Peers,
        rng: random.Random,
        effects: list[Effect],
    ) -> None:
        self.options = options
        self.ring = Ring(options.universe, own, departed, initial, peers, effects)
        self.space = Space(options.family)
        self.asking = Asking(rng)
        self.advice = Advice(effects)
        self.supplied = False
        # What is the heir's as soon as it is free: nobody else may have it before.
        self.owed: frozenset[Prefix] = frozenset()
        self._peers = peers
        self._rng = rng
        self._effects = effects
        self._held: list[Prefix] = []
        # Who asked while a grant to it was under way: for what, and until when it waits.
        self._postponed: dict[PeerName, tuple[SpaceRequest, float]] = {}
        # Conflicting addresses and when to ask for them again.
        self._recover_at: dict[int, float] = {}

    @property
    def family(self) -> Family:
        """The family of all its addresses."""
        return self.options.family

    def refresh(self, *, may_write: bool, share_for: PeerName | None) -> None:
        """Follows the documents."""
        if self.ring.refresh(may_write=may_write, share_for=share_for):
            self._hold()
            self.supplied = True

    def receive(
        self, topic: str, writer: PeerName, value: DocumentValue, version: DocumentVersion
    ) -> str:
        """A document of this family is new or newer. Gives why it does not count, if so; the ring
        says so itself of its own."""
        if topic == TOPIC_RING and isinstance(value, Unreadable | RingDocument):
            self.ring.receive(writer, value, version)
            return ""
        if isinstance(value, Unreadable):
            return value.reason
        if topic == TOPIC_SPACE and isinstance(value, SpaceAdvice):
            self.advice.receive(writer, value)
        elif topic == TOPIC_PAXOS and isinstance(value, AcceptorState):
            return acceptor_fault(value) or self.ring.vote_received(writer, value)
        return ""

    def remove(self, topic: str, writer: PeerName) -> None:
        """A document's writer has departed. Idempotent."""
        if topic == TOPIC_SPACE:
            self.advice.forget(writer)
        elif topic == TOPIC_PAXOS:
            self.ring.initial.forget(writer)
        elif topic == TOPIC_RING:
            self.ring.remove(writer)

    # What we give

    def donate(self, source: PeerName, request: SpaceRequest, now: float, needed: int) -> None:
        """Grants space to a peer that asked, or refuses.

        A peer that has yet to list what it was granted there gets no more until it has: it may
        have asked before it saw the grant, or have used all of it already.

        As many addresses as are `needed` here stay: a caller may wait for one of the other family
        only, and two peers in such need would give each other the last address for ever.
        """
        own, within = self.ring.own, request.within
        if own is None:
            self._deny(source, within, "owns no addresses there")
            return
        if self._owes(source, within):
            self._postponed[source] = request, now + ANSWER_S
            return
        if not within.is_host and self.space.usable_count(within) <= needed:
            self._deny(source, within, self._refusal(within))
            return
        gift = self.space.gift(within)
        obeyed = max(request.obeyed, self.ring.life(source))
        given = give(own, [gift], source, obeyed) if gift is not None else own
        if given == own:
            self._deny(source, within, self._refusal(within))
            return
        self._write(given)

    def donate_postponed(self, now: float, needed: int) -> None:
        """Answers those who have listed what they were granted, while they wait for an answer."""
        for source, (request, until) in list(self._postponed.items()):
            if now >= until or not self._owes(source, request.within):
                del self._postponed[source]
                if now < until and self._peers.is_reachable(source):
                    self.donate(source, request, now, needed)

    def hand_over(self, heir: PeerName, *, with_taken: bool, obeyed: int = 0) -> int:
        """Grants our blocks to `heir`, `with_taken` also the addresses that are used or resting.

        `obeyed`: a fence that the heir is known to have obeyed. Gives the number of addresses.
        """
        own = self.ring.own
        if own is None:
            return 0
        given = [block.prefix for block in own.blocks]
        if not with_taken:
            taken = (*self.space.used, *self.space.resting)
            given = subtract(given, (Prefix.host(self.family, number) for number in taken))
        if given:
            self._write(give(own, given, heir, max(obeyed, self.ring.life(heir))))
        return sum(prefix.size for prefix in given)

    def idle(self, addresses: Iterable[Prefix]) -> list[Prefix]:
        """Those of this family that nothing uses here any more and that have rested."""
        return [
            address
            for address in sorted(addresses)
            if address.family is self.family
            and address.address not in self.space.used
            and address.address not in self.space.resting
        ]

    def hand_back(self, addresses: list[Prefix], heir: PeerName) -> None:
        """Grants to `heir` those of the addresses that are ours."""
        own = self.ring.own
        if own is not None and addresses:
            given = give(own, addresses, heir, self.ring.life(heir))
            if given != own:
                self._write(given)

    # What we take

    def take_over(self, victim: PeerName, former: PeerName | None, token: int) -> int:
        """Lists what a fenced peer owns. Gives the number of addresses.

        `former`: the heir of the last fence that the victim had obeyed. `token`: see
        `own.take_over`.
        """
        view, before = self.ring.view, self.ring.own
        if view is None:
            return 0
        me = self._peers.me
        document = take_over(view, before, victim, self.ring.documents, me, former, token)
        if document != before:
            self._remember(victim, document, before)
            self._write(document)
        had = sum(block.prefix.size for block in before.blocks) if before is not None else 0
        return sum(block.prefix.size for block in document.blocks) - had

    def _remember(
        self, victim: PeerName, document: RingDocument, before: RingDocument | None
    ) -> None:
        known = {block.prefix for block in before.blocks} if before is not None else set()
        new = [block for block in document.blocks if block.prefix not in known]
        if new:
            generation = min(block.generation for block in new)
            prefixes = tuple(block.prefix for block in new)
            self.ring.taken[victim] = Taken(generation, prefixes)

    def carry(self, victim: PeerName, heir: PeerName, obeyed: int, token: int) -> None:
        """Tells the heir of a removed peer what we know that it owned.

        `obeyed`: a fence that the heir is known to have obeyed. `token`: see `own.carry`.
        """
        view, documents = self.ring.view, self.ring.documents
        if view is not None and victim in documents:
            life = max(obeyed, self.ring.life(heir))
            carried = carry(view, self.ring.own, victim, documents, heir, life, token)
            if carried != self.ring.own and (carried.grants or carried.blocks):
                self._write(carried)

    # What we ask for

    def ask(self, wants: Iterable[Prefix], now: float, *, recover: bool) -> None:
        """Asks for the prefixes wanted by requests, and, to `recover` them, for conflicting
        addresses in use here."""
        wanted = set(wants)
        recovering = self._recovering(now, recover=recover)
        self.asking.want(wanted | recovering)
        hopeless = self.asking.exhausted
        for peer, prefix in self.asking.ask(self._donors, now):
            request = SpaceRequest(prefix, max(self.ring.obeyed, self.ring.life(self._peers.me)))
            self._effects.append(SendMessage(peer, request))
        self.supplied |= not self.asking.exhausted <= hopeless
        for prefix in recovering:
            if self.asking.refusal(prefix) is not None:
                self._recover_at[prefix.address] = now + RECOVERY_PAUSE_S

    def publish_advice(self, now: float) -> None:
        """Tells others about the space here as soon as there is a ring."""
        if self.ring.view is not None:
            self.advice.publish(self.space, self.options.default_subnet, now)

    def deadlines(self) -> list[float]:
        """When this pool has something to do without any input."""
        found: list[float] = []
        if self.ring.view is None and self.ring.initial.deadline is not None:
            found.append(self.ring.initial.deadline)
        if self.asking.deadline is not None:
            found.append(self.asking.deadline)
        if self.advice.deadline is not None:
            found.append(self.advice.deadline)
        found += self._recover_at.values()
        return found

    def exhaustion(self) -> str:
        """Why no address of the default subnet can be had now; empty while one can, or may.

        All who own some and can be asked have said that none is free (their advice).
        """
        view, subnet = self.ring.view, self.options.default_subnet
        if view is None or self.space.find(subnet) is not None:
            return ""
        lost = 0
        for segment in view.within(subnet):
            if segment.owner == self._peers.me:
                if segment.title is not Title.LISTED:
                    return ""  # it will be ours in a moment
            elif not self._peers.is_reachable(segment.owner):
                lost += segment.end - segment.start
            elif self.advice.free(segment.owner) != 0:
                return ""
        text = f"no free address is left in {subnet}"
        if lost:
            text += f": {lost} are owned by unreachable peers - use 'rmpeer' if they are dead"
        elif self.space.is_resting_within(subnet):
            text += ": those released last are in quarantine"
        return text

    def owner_label(self, address: int) -> str:
        """Whose an address is, for texts."""
        owner = self.ring.view.owner_of(address) if self.ring.view is not None else None
        return self._peers.label(owner) if owner is not None else "nobody"

    def _owes(self, source: PeerName, within: Prefix) -> bool:
        grants = self.ring.own.grants if self.ring.own is not None else ()
        return any(grant.to == source and grant.prefix.overlaps(within) for grant in grants)

    def _write(self, document: RingDocument) -> None:
        """Nothing may be given that this document has just given away."""
        self.ring.write(document)
        self._hold()

    def _hold(self) -> None:
        blocks = self.ring.own.blocks if self.ring.own is not None else ()
        held = [block.prefix for block in blocks]
        if not self.asking.is_idle:
            self.asking.supply(subtract(held, self._held))
        self._held = held
        self.space.set_held(held)

    def _recovering(self, now: float, *, recover: bool) -> set[Prefix]:
        view = self.ring.view
        if view is None or not recover or not self.space.conflicting:
            self._recover_at.clear()
            return set()
        self._recover_at = {
            address: when
            for address, when in self._recover_at.items()
            if when > now and address in self.space.conflicting
        }
        due = [
            address
            for address in sorted(self.space.conflicting)
            if address not in self._recover_at
            and view.owner_of(address) not in (None, self._peers.me)
        ]
        return {Prefix.host(self.family, address) for address in due[:MAX_RECOVERING]}

    def _donors(self, within: Prefix) -> Donors:
        view = self.ring.view
        if view is None:
            # Who can vote begins the election on behalf of who cannot.
            peers = sorted(self._peers.reachable) if self.ring.initial.is_observer else []
            self._rng.shuffle(peers)
            return Donors(tuple(peers))
        sizes: dict[PeerName, int] = {}
        covered = 0
        for segment in view.within(within):
            covered += segment.end - segment.start
            if segment.owner != self._peers.me:
                size = segment.end - segment.start
                sizes[segment.owner] = sizes.get(segment.owner, 0) + size
            elif segment.title is not Title.LISTED:
                covered = -within.size
        ready = [peer for peer in sizes if self._peers.is_reachable(peer)]
        weight = {peer: self._supply(peer, sizes[peer]) * self._rng.random() for peer in ready}
        ready.sort(key=lambda peer: (-weight[peer], peer))
        return Donors(tuple(ready), covered == within.size and len(ready) == len(sizes))

    def _supply(self, peer: PeerName, size: int) -> int:
        free = self.advice.free(peer)
        return size if free is None else free

    def _refusal(self, within: Prefix) -> str:
        if within.is_host and within.address in self.space.used:
            return f"address {within} is in use"
        if within.is_host and within.address in self.space.resting:
            return f"address {within} was released a moment ago"
        return "no free addresses there"

    def _deny(self, source: PeerName, within: Prefix, reason: str) -> None:
        text = f"{self._peers.label(self._peers.me)}: {reason}"
        self._effects.append(SendMessage(source, SpaceDenied(within, text)))
