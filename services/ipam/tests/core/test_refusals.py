"""One peer alone: what it refuses and with which words, what it bounds, what grows."""

from __future__ import annotations

import random

import pytest

import weave_ipam.core.desk
from services.ipam.tests.core.test_allocator import ME, POD, RANGE, started
from weave_ipam.core.allocator import Allocator
from weave_ipam.core.documents import SpaceDenied, SpaceRequest
from weave_ipam.core.effects import Answer, Note, RequestId, SendMessage
from weave_ipam.core.options import Consensus, FamilyOptions, Observer, Options, Seeded
from weave_ipam.core.records import State
from weave_ipam.core.results import Claimed, InUse, PeerInfo
from weave_ipam.core.space import MAX_CURSORS, Space
from weave_model.attachment import AttachmentKey, ContainerId, Workload
from weave_model.errors import Conflict, Invalid, NotReady
from weave_model.peer import PeerName
from weave_model.prefix import Family, Prefix
from weave_model.ring import Genesis

NOW = 1000.0
OTHER = PeerName(bytes([2, 0, 0, 0, 0, 2]))
OTHER_POD = AttachmentKey("weave", ContainerId("other"), "eth0")


def hosts(*texts: str) -> tuple[Prefix, ...]:
    return tuple(map(Prefix.parse, texts))


def answers(allocator: Allocator) -> list[object]:
    return [e.outcome for e in allocator.take_effects() if isinstance(e, Answer)]


@pytest.mark.parametrize(
    ("subnets", "requested", "said"),
    [
        ((), ("fd00::1",), "no IPv6 range is configured"),
        (("10.9.0.0/24",), (), "range 10.9.0.0/24 out of bounds: 10.0.3.0/26"),
        (("10.0.3.0/28", "10.0.3.16/28"), (), "was given for the same family"),
        ((), ("10.0.3.0/30",), "is no single address"),
        (("10.0.3.0/28",), ("10.0.3.20",), "lies outside the subnet 10.0.3.0/28"),
    ],
)
def test_an_allocation_that_cannot_be_is_refused_with_the_reason(
    subnets: tuple[str, ...], requested: tuple[str, ...], said: str
) -> None:
    allocator, _ = started()

    allocator.allocate(RequestId(1), POD, Workload(), hosts(*subnets), hosts(*requested), NOW)

    (outcome,) = answers(allocator)
    assert isinstance(outcome, Invalid)
    assert said in str(outcome)


@pytest.mark.parametrize(
    ("addresses", "said"),
    [((), "no address is given"), (("10.0.3.0/30",), "10.0.3.0/30 is no single address")],
)
def test_a_claim_that_cannot_be_is_refused_with_the_reason(
    addresses: tuple[str, ...], said: str
) -> None:
    allocator, _ = started()

    allocator.claim(RequestId(1), POD, Workload(), hosts(*addresses), NOW)

    (outcome,) = answers(allocator)
    assert isinstance(outcome, Invalid)
    assert str(outcome) == said


def test_an_attachment_that_claims_more_holds_all_of_it() -> None:
    allocator, _ = started()
    allocator.claim(RequestId(1), POD, Workload("ns", "pod"), hosts("10.0.3.7"), NOW)
    (first,) = answers(allocator)
    allocator.claim(RequestId(2), POD, Workload(), hosts("10.0.3.7", "10.0.3.9"), NOW + 5)

    (second,) = answers(allocator)

    held = allocator.lookup(POD)
    assert isinstance(first, Claimed)
    assert isinstance(second, Claimed)
    assert held is not None
    assert held.addresses == hosts("10.0.3.7", "10.0.3.9")
    assert (held.generation, held.since) == (second.generation, NOW)
    assert held.workload == Workload("ns", "pod")
    assert second.generation > first.generation


def test_two_attachments_with_one_address_in_the_kernel_are_told() -> None:
    allocator, _ = started()
    address = hosts("10.0.3.7")

    allocator.adopt([InUse(POD, address, Workload()), InUse(OTHER_POD, address, Workload())], NOW)

    notes = [effect.text for effect in allocator.take_effects() if isinstance(effect, Note)]
    assert f"address 10.0.3.7/32 is in use by {OTHER_POD} and by {POD}" in notes
    assert allocator.lookup(OTHER_POD) is None


def test_callers_that_wait_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(weave_ipam.core.desk, "MAX_WAITING", 2)
    allocator = Allocator(
        Options(ME, (FamilyOptions(RANGE, RANGE),), Observer()), State(), random.Random(1), NOW
    )
    for number in range(3):
        key = AttachmentKey("weave", ContainerId(f"pod{number}"), "eth0")
        allocator.allocate(RequestId(number), key, Workload(), (), (), NOW)

    (outcome,) = answers(allocator)
    assert isinstance(outcome, NotReady)
    assert str(outcome) == "2 requests are waiting already"


def test_a_prime_that_waits_says_for_what_and_can_be_cancelled() -> None:
    options = Options(ME, (FamilyOptions(RANGE, RANGE),), Consensus(3))
    allocator = Allocator(options, State(), random.Random(1), NOW)
    allocator.documents_synced("ring", NOW)
    allocator.documents_synced("ipam-paxos", NOW)

    allocator.prime(RequestId(1), NOW)

    assert allocator.why_pending(RequestId(1)) == "awaiting consensus (quorum: 2, known: 1)"
    assert allocator.cancel(RequestId(1), NOW)
    assert allocator.why_pending(RequestId(1)) == ""


def test_a_peer_does_not_remove_itself() -> None:
    allocator, _ = started()

    allocator.reclaim(RequestId(1), ME, NOW)

    (outcome,) = answers(allocator)
    assert isinstance(outcome, Conflict)
    assert "is this peer: use reset to leave" in str(outcome)


def test_a_race_for_a_fence_that_nobody_wants_any_more_is_nothing() -> None:
    allocator, _ = started()

    allocator.fence_raced(OTHER, NOW)

    assert allocator.take_effects() == []


def test_a_peer_without_addresses_says_so_to_who_asks() -> None:
    options = Options(ME, (FamilyOptions(RANGE, RANGE),), Seeded(Genesis((OTHER,))))
    allocator = Allocator(options, State(), random.Random(1), NOW)
    for topic in ("ring", "ipam-paxos"):
        allocator.documents_synced(topic, NOW)
    allocator.fence_read(ME, 0, None, NOW)
    allocator.adopt([], NOW)
    allocator.peers_changed([PeerInfo(ME), PeerInfo(OTHER)], NOW)

    allocator.message_received(OTHER, SpaceRequest(RANGE), NOW)

    sent = [effect for effect in allocator.take_effects() if isinstance(effect, SendMessage)]
    assert [(one.peer, type(one.message)) for one in sent] == [(OTHER, SpaceDenied)]
    assert "owns no addresses there" in str(sent[0].message)


def test_the_rotations_of_subnets_are_bounded() -> None:
    space = Space(Family.IPV4)
    wide = Prefix.parse("10.0.0.0/16")
    space.set_held([wide])
    subnets = [Prefix(Family.IPV4, wide.address + 16 * n, 28) for n in range(MAX_CURSORS + 1)]

    for subnet in subnets:
        space.rotate(subnet, subnet.address + 1)

    assert space.find(subnets[0]) == subnets[0].address + 1
    assert space.find(subnets[-1]) == subnets[-1].address + 2


@pytest.mark.parametrize(
    ("universe", "subnet", "said"),
    [
        ("10.0.0.0/31", "10.0.0.0/31", "at least 4 are needed"),
        ("10.0.0.0/24", "10.1.0.0/24", "10.1.0.0/24"),
    ],
)
def test_a_range_that_is_too_small_or_a_subnet_outside_is_refused(
    universe: str, subnet: str, said: str
) -> None:
    with pytest.raises(ValueError, match=said):
        FamilyOptions(Prefix.parse(universe), Prefix.parse(subnet))


def test_an_election_without_voters_two_ranges_of_a_family_and_negative_times_are_refused() -> None:
    family = FamilyOptions(RANGE, RANGE)
    with pytest.raises(ValueError, match="consensus=0"):
        Consensus(0)
    with pytest.raises(ValueError, match="one range per family"):
        Options(ME, (family, family), Observer())
    with pytest.raises(ValueError, match="-1"):
        Options(ME, (family,), Observer(), quarantine_s=-1.0)
