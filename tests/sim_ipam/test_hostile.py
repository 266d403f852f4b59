"""Whatever documents and messages say: no exception, one view for all, nothing of ours
forgotten."""

from __future__ import annotations

import random
from typing import NamedTuple

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.sim_ipam.world import World, address_of, peer_name, pod
from weave_ipam.core.allocator import Allocator
from weave_ipam.core.documents import (
    TOPIC_PAXOS,
    TOPIC_RING,
    TOPIC_SPACE,
    TOPICS_NEEDED,
    AcceptorState,
    Ballot,
    DocumentValue,
    DocumentVersion,
    Message,
    SpaceAdvice,
    SpaceDenied,
    SpaceRequest,
    Unreadable,
)
from weave_ipam.core.effects import Quarantine
from weave_ipam.core.fences import Fence
from weave_ipam.core.options import Consensus, FamilyOptions, Options, Seeded
from weave_ipam.core.records import State
from weave_ipam.core.results import PeerInfo
from weave_model.peer import PeerName
from weave_model.prefix import Family, Prefix
from weave_model.ring import Block, Genesis, Grant, RingDocument

pytestmark = pytest.mark.sim

UNIVERSE = Prefix.parse("10.0.3.0/26")
PEERS = [peer_name(number) for number in range(1, 5)]
ME = PEERS[0]


class Delivery(NamedTuple):
    """A document, as gossip hands it over."""

    topic: str
    writer: PeerName
    key: str
    value: DocumentValue


class Unicast(NamedTuple):
    """A message, as gossip hands it over."""

    source: PeerName
    message: Message


peers = st.sampled_from(PEERS)
# Everything from below the lowest to far beyond the highest generation there may be.
generations = st.one_of(st.integers(-2, 4), st.sampled_from([1 << 61, (1 << 62) - 1, 1 << 62]))
geneses = st.sets(peers, min_size=1).map(lambda names: Genesis(tuple(sorted(names))))


@st.composite
def prefixes(draw: st.DrawFn) -> Prefix:
    """Mostly inside the universe, sometimes around or far from it, sometimes of the other
    family."""
    length = draw(st.integers(24, 32))
    if draw(st.integers(0, 9)) == 0:
        return draw(st.sampled_from([Prefix.parse("0.0.0.0/0"), Prefix.parse("fd00::/64")]))
    address = UNIVERSE.address + draw(st.integers(0, 79))
    return Prefix(UNIVERSE.family, address >> (32 - length) << (32 - length), length)


documents = st.builds(
    RingDocument,
    st.sampled_from([UNIVERSE, UNIVERSE, UNIVERSE, Prefix.parse("10.0.3.0/25")]),
    geneses,
    st.lists(st.builds(Block, prefixes(), generations), max_size=3).map(tuple),
    st.lists(st.builds(Grant, prefixes(), generations, peers), max_size=3).map(tuple),
)
ballots = st.none() | st.builds(Ballot, st.integers(-1, 3) | st.just(1 << 62), peers)
acceptors = st.builds(AcceptorState, ballots, ballots, st.none() | geneses)
values: st.SearchStrategy[DocumentValue] = st.one_of(
    documents,
    acceptors,
    st.builds(SpaceAdvice, st.integers(-1, 1 << 64)),
    st.just(Unreadable("no document")),
)
topics = st.sampled_from([TOPIC_RING, TOPIC_PAXOS, TOPIC_SPACE, "other"])
deliveries = st.builds(Delivery, topics, peers, st.sampled_from(["4", "6", "", "x"]), values)
messages: st.SearchStrategy[Message] = st.one_of(
    st.builds(SpaceRequest, prefixes()), st.builds(SpaceDenied, prefixes(), st.just("no"))
)


def started(init: Seeded | Consensus) -> Allocator:
    options = Options(ME, (FamilyOptions(UNIVERSE, UNIVERSE),), init)
    allocator = Allocator(options, State(), random.Random(1), 0.0)
    for topic in TOPICS_NEEDED:
        allocator.documents_synced(topic, 0.0)
    allocator.adopt([], 0.0)
    allocator.fence_read(ME, 0, None, 0.0)
    allocator.peers_changed([PeerInfo(peer) for peer in PEERS], 0.0)
    allocator.take_effects()
    return allocator


@given(
    st.lists(st.one_of(deliveries, st.builds(Unicast, peers, messages), peers), max_size=12),
    st.sampled_from([Seeded(Genesis((ME,))), Consensus(2)]),
)
def test_no_input_raises_and_nothing_foreign_is_held(
    inputs: list[Delivery | Unicast | PeerName], init: Seeded | Consensus
) -> None:
    allocator = started(init)
    for step, item in enumerate(inputs):
        now = float(step)
        if isinstance(item, PeerName):
            allocator.document_removed(TOPIC_RING, item, "4", now)
            allocator.fence_read(item, step, Fence(item, 0, "", PEERS[step % 4]), now)
        elif isinstance(item, Unicast):
            allocator.message_received(item.source, item.message, now)
        else:
            allocator.document_received(*item, now, DocumentVersion(1, step))
        allocator.take_effects()
        allocator.next_deadline()
        status = allocator.status()
        view = allocator.ring(Family.IPV4)
        assert sum(share.fraction for share in status.families[0].shares) <= 1.0
        mine = [b.prefix.size for b in view.blocks if b.owner == ME] if view is not None else []
        assert status.families[0].free <= sum(mine)


@given(
    st.lists(
        st.tuples(st.sampled_from(PEERS[1:]), documents), max_size=6, unique_by=lambda d: d[0]
    ),
    st.randoms(use_true_random=False),
)
def test_the_order_of_arrival_does_not_matter(
    arrived: list[tuple[PeerName, RingDocument]], shuffler: random.Random
) -> None:
    """Seen by a peer that has no document of its own, so that it adds nothing to the set."""

    def seen(order: list[tuple[PeerName, RingDocument]]) -> tuple[object, frozenset[str]]:
        options = Options(peer_name(9), (FamilyOptions(UNIVERSE, UNIVERSE),), Consensus(9))
        allocator = Allocator(options, State(), random.Random(1), 0.0)
        for writer, document in order:
            allocator.document_received(TOPIC_RING, writer, "4", document, 0.0)
            allocator.take_effects()
        troubles = allocator.status().families[0].troubles
        ring = allocator.ring(Family.IPV4) if allocator.status().families[0].ring else None
        return ring, frozenset(troubles)

    other = list(arrived)
    shuffler.shuffle(other)

    assert seen(arrived) == seen(other)


@given(st.lists(documents, min_size=1, max_size=3))
def test_what_a_rival_takes_from_us_stays_known(rivals: list[RingDocument]) -> None:
    """Each address in use is ours, or it is reported as conflicting with its owner."""
    world = World(str(UNIVERSE))
    world.add(1, Seeded(Genesis((ME,))))
    calls = [world.allocate(1, f"pod{number}") for number in range(10)]
    world.run()
    allocator = world.peers[1].allocator
    assert allocator is not None

    for number, rival in enumerate(rivals):
        allocator.document_received(TOPIC_RING, PEERS[number + 1], "4", rival, world.peers[1].now)
    allocator.take_effects()

    (status,) = allocator.status().families
    assert status.active == 10
    conflicting = {conflict.address: conflict.owner for conflict in status.conflicting}
    view = allocator.ring(Family.IPV4)
    assert view is not None
    for index, call in enumerate(calls):
        address = Prefix.parse(address_of(call))
        owner = next((b.owner for b in view.blocks if b.prefix.contains(address)), None)
        assert (owner != ME) == (address in conflicting)
        assert conflicting.get(address) == (owner if owner != ME else None)
        assert allocator.lookup(pod(f"pod{index}")) is not None


def test_an_unreadable_document_is_set_aside_once_for_each_version() -> None:
    allocator = started(Seeded(Genesis((ME,))))
    seen = []
    for version in (1, 1, 2):
        number = DocumentVersion(1, version)
        allocator.document_received(TOPIC_RING, PEERS[1], "4", Unreadable("bytes"), 0.0, number)
        seen += [one for one in allocator.take_effects() if isinstance(one, Quarantine)]

    assert seen == [
        Quarantine(TOPIC_RING, PEERS[1], "4", DocumentVersion(1, version), "bytes")
        for version in (1, 2)
    ]
