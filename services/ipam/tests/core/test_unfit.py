"""One peer alone: what is asked for or answered when it does not fit."""

from __future__ import annotations

import random

from services.ipam.tests.core.test_allocator import ME, POD, RANGE, started
from services.ipam.tests.core.test_refusals import NOW, OTHER, OTHER_POD, answers, hosts
from weave_ipam.core.allocator import Allocator
from weave_ipam.core.documents import (
    TOPIC_RING,
    TOPICS_NEEDED,
    Message,
    SpaceDenied,
    SpaceRequest,
)
from weave_ipam.core.effects import Effect, Persist, RequestId, SendMessage
from weave_ipam.core.fences import Fence
from weave_ipam.core.options import Consensus, FamilyOptions, Options, Seeded
from weave_ipam.core.pool import RECOVERY_PAUSE_S
from weave_ipam.core.records import (
    Record,
    State,
)
from weave_ipam.core.results import Allocated, PeerInfo
from weave_model.attachment import Workload
from weave_model.errors import Conflict, NotReady
from weave_model.peer import PeerName
from weave_model.prefix import Prefix
from weave_model.ring import Block, Genesis, RingDocument

THIRD = PeerName(bytes([2, 0, 0, 0, 0, 3]))
PART = Prefix.parse("10.0.3.0/28")


def records(effects: list[Effect]) -> list[Record]:
    return [record for e in effects if isinstance(e, Persist) for record in e.records]


def asked(allocator: Allocator) -> list[Message]:
    """What others are asked now."""
    return [e.message for e in allocator.take_effects() if isinstance(e, SendMessage)]


def with_a_dead_peer(*others: PeerName) -> Allocator:
    """A peer that knows these others, none of which is reachable."""
    allocator, _ = started()
    dead = [PeerInfo(other, reachable=False) for other in others]
    allocator.peers_changed([PeerInfo(ME), *dead], NOW)
    allocator.take_effects()
    return allocator


def test_an_address_outside_the_default_subnet_may_be_requested() -> None:
    options = Options(ME, (FamilyOptions(RANGE, PART),), Seeded(Genesis((ME,))))
    allocator, _ = started(options=options)

    allocator.allocate(RequestId(1), POD, Workload(), (), hosts("10.0.3.40"), NOW)

    (outcome,) = answers(allocator)
    assert isinstance(outcome, Allocated)
    assert [issued.subnet for issued in outcome.addresses] == [RANGE]


def test_a_requested_address_that_another_holds_is_refused_by_its_name() -> None:
    allocator, _ = started()
    allocator.claim(RequestId(1), OTHER_POD, Workload(), hosts("10.0.3.7"), NOW)
    answers(allocator)

    allocator.allocate(RequestId(2), POD, Workload(), (), hosts("10.0.3.7"), NOW)

    (outcome,) = answers(allocator)
    assert isinstance(outcome, Conflict)
    assert str(outcome) == f"address 10.0.3.7 is already owned by {OTHER_POD}"


def test_a_requested_address_that_rests_is_waited_for() -> None:
    allocator, _ = started()
    allocator.claim(RequestId(1), OTHER_POD, Workload(), hosts("10.0.3.7"), NOW)
    answers(allocator)
    allocator.release(RequestId(2), OTHER_POD, 0, NOW)
    answers(allocator)

    allocator.allocate(RequestId(3), POD, Workload(), (), hosts("10.0.3.7"), NOW)
    assert answers(allocator) == []
    assert allocator.why_pending(RequestId(3)) == "waiting for the quarantine of 10.0.3.7"

    allocator.tick(NOW + 61)
    (outcome,) = answers(allocator)
    assert isinstance(outcome, Allocated)
    assert [issued.address for issued in outcome.addresses] == list(hosts("10.0.3.7"))


def test_a_claim_that_waits_is_listed_with_its_addresses() -> None:
    options = Options(ME, (FamilyOptions(RANGE, RANGE),), Consensus(3))
    allocator, _ = started(options=options)

    allocator.claim(RequestId(1), POD, Workload(), hosts("10.0.3.7"), NOW)
    allocator.take_effects()

    (family,) = allocator.status().families
    assert family.pending_claims == 1
    assert family.pending == (f"{POD} 10.0.3.7/32 (address 10.0.3.7 from nobody)",)


def test_nobody_is_removed_before_it_is_known_what_is_in_use_here() -> None:
    options = Options(ME, (FamilyOptions(RANGE, RANGE),), Seeded(Genesis((ME,))))
    allocator = Allocator(options, State(), random.Random(1), NOW)
    for topic in TOPICS_NEEDED:
        allocator.documents_synced(topic, NOW)
    allocator.fence_read(ME, 0, None, NOW)

    allocator.reclaim(RequestId(1), OTHER, NOW)

    (outcome,) = answers(allocator)
    assert isinstance(outcome, NotReady)
    assert "the addresses in use: the router has not answered" in str(outcome)


def test_the_caller_of_one_takeover_of_two_can_leave() -> None:
    allocator = with_a_dead_peer(OTHER, THIRD)
    for number, victim in enumerate((OTHER, THIRD)):
        allocator.reclaim(RequestId(number), victim, NOW)

    assert allocator.why_pending(RequestId(1)) == f"waiting for the fence of {THIRD}"
    assert allocator.cancel(RequestId(1), NOW)

    assert allocator.why_pending(RequestId(1)) == ""
    assert allocator.why_pending(RequestId(0)) == f"waiting for the fence of {OTHER}"


def test_an_answer_of_coordination_that_nobody_waits_for_is_nothing() -> None:
    allocator = with_a_dead_peer(OTHER)

    allocator.fence_written(1, Fence(OTHER, 1, "", ME, token=1), NOW)
    allocator.fence_failed(OTHER, "it is away", NOW)
    assert allocator.take_effects() == []

    allocator.tick(NOW + 100)
    assert records(allocator.take_effects()) == []


def test_what_departs_of_an_unknown_kind_or_family_is_nothing() -> None:
    allocator, _ = started()

    allocator.document_removed("ring", OTHER, "6", NOW)
    allocator.document_removed("another topic", OTHER, "4", NOW)

    assert allocator.take_effects() == []


def test_a_conflicting_address_that_is_refused_is_asked_back_after_a_pause() -> None:
    """Its new owner uses it, too, and may do so for long."""
    (address,) = hosts("10.0.3.40")
    allocator, _ = started()
    allocator.claim(RequestId(1), POD, Workload(), (address,), NOW)
    answers(allocator)
    allocator.peers_changed([PeerInfo(ME), PeerInfo(OTHER)], NOW)
    _, upper = RANGE.halves()
    owners = RingDocument(RANGE, Genesis((ME,)), (Block(upper, 5),))
    allocator.document_received(TOPIC_RING, OTHER, "4", owners, NOW)
    assert asked(allocator) == [SpaceRequest(address)]

    allocator.message_received(OTHER, SpaceDenied(address, "it is in use"), NOW)
    assert asked(allocator) == []
    allocator.tick(NOW + RECOVERY_PAUSE_S - 1)
    assert asked(allocator) == []

    allocator.tick(NOW + RECOVERY_PAUSE_S)
    assert asked(allocator) == [SpaceRequest(address)]


def test_the_own_nickname_names_this_peer_unless_another_has_it_too() -> None:
    options = Options(ME, (FamilyOptions(RANGE, RANGE),), Seeded(Genesis((ME,))), nickname="node-1")
    allocator, _ = started(options=options)
    assert allocator.resolve_peer("node-1") == ME

    allocator.peers_changed([PeerInfo(ME), PeerInfo(OTHER, nickname="node-1")], NOW)

    assert allocator.resolve_peer("node-1") is None
    assert allocator.resolve_peer(str(OTHER)) == OTHER
