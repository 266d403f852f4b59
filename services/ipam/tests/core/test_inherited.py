"""What a peer finds in its store: of other options, of another name, in disorder, and debts."""

from __future__ import annotations

import pytest

from services.ipam.tests.core.test_allocator import ME, POD, RANGE, started
from services.ipam.tests.core.test_refusals import NOW, OTHER, OTHER_POD, hosts
from services.ipam.tests.core.test_unfit import THIRD, records
from weave_ipam.core.documents import (
    TOPIC_PAXOS,
    AcceptorState,
)
from weave_ipam.core.effects import Quarantine, RequestId
from weave_ipam.core.fences import Fence
from weave_ipam.core.ledger import Ledger
from weave_ipam.core.obedience import UNTOLD_S
from weave_ipam.core.options import Consensus, FamilyOptions, Options, Seeded
from weave_ipam.core.records import (
    Allocation,
    DocumentRecord,
    Owed,
    OwedRecord,
    QuarantineRecord,
    State,
)
from weave_ipam.core.results import PeerInfo, Released
from weave_ipam.core.space import Space
from weave_model.attachment import Workload
from weave_model.prefix import Family, Prefix
from weave_model.ring import Genesis


def held(text: str, generation: int = 1) -> Allocation:
    return Allocation(POD, hosts(text), Workload(), generation, NOW)


def test_an_address_of_another_range_is_given_back_without_a_rest() -> None:
    allocator, _ = started(State(name=ME, allocations={POD: held("10.9.0.1")}))

    allocator.release(RequestId(1), POD, 0, NOW)
    effects = allocator.take_effects()

    assert Released(hosts("10.9.0.1")) in [getattr(e, "outcome", None) for e in effects]
    assert not [r for r in records(effects) if isinstance(r, QuarantineRecord)]


def test_an_address_of_another_range_that_rests_is_passed_over() -> None:
    """As is one that is in use all the same."""
    quarantine = dict.fromkeys(hosts("10.9.0.1", "10.0.3.7", "10.0.3.9"), NOW + 30)
    state = State(name=ME, allocations={POD: held("10.0.3.7")}, quarantine=quarantine)

    allocator, _ = started(state)

    (family,) = allocator.status().families
    assert (family.active, family.quarantined) == (1, 1)


def test_another_name_owes_nothing_of_what_the_former_one_did() -> None:
    owed = Owed(THIRD, frozenset(hosts("10.0.3.7")))

    _, effects = started(State(name=OTHER, owed=owed))

    assert OwedRecord(None) in records(effects)


def test_of_two_holders_in_a_broken_store_the_newer_one_keeps_the_address() -> None:
    (address,) = hosts("10.0.3.7")
    newer = Allocation(OTHER_POD, (address,), Workload(), 2, NOW)
    ledger = Ledger({POD: held("10.0.3.7"), OTHER_POD: newer}, 3)
    assert len(ledger) == 2

    ledger.remove(POD)

    assert ledger.holder(address) == OTHER_POD
    assert ledger.all() == (newer,)


def test_an_own_vote_on_another_range_from_an_earlier_life_is_told_to_nobody() -> None:
    options = Options(ME, (FamilyOptions(RANGE, RANGE),), Consensus(3))
    allocator, _ = started(options=options)
    vote = AcceptorState(universe=Prefix.parse("10.9.0.0/24"))

    for writer in (ME, OTHER):
        allocator.document_received(TOPIC_PAXOS, writer, "4", vote, NOW)

    effects = allocator.take_effects()
    assert [e.writer for e in effects if isinstance(e, Quarantine)] == [OTHER]


def test_an_address_that_rests_again_rests_until_the_later_time() -> None:
    space = Space(Family.IPV4)
    space.set_held([RANGE])
    number = RANGE.address + 7

    for until in (10.0, 20.0):
        space.rest(number, until)

    assert space.rested(15.0) == []
    assert space.rested(20.0) == [number]
    assert space.usable_count(RANGE) == RANGE.size - 2


@pytest.mark.parametrize(("fence", "is_ours"), [(None, True), (Fence(OTHER, 1, "", THIRD), False)])
def test_what_is_owed_to_an_heir_that_left_by_itself_stays_here(
    fence: Fence | None, *, is_ours: bool
) -> None:
    """One that was removed has an heir of its own."""
    owed = Owed(OTHER, frozenset(hosts("10.0.3.7")))
    allocator, _ = started(State(name=ME, generation=1, owed=owed))

    allocator.fence_read(OTHER, 1, fence, NOW)
    effects = allocator.take_effects()

    (record,) = [r for r in records(effects) if isinstance(r, OwedRecord)]
    assert record.owed == (None if is_ours else Owed(THIRD, owed.addresses))


def test_a_debt_of_one_family_leaves_the_other_as_it_is() -> None:
    wide = Prefix.parse("fd00::/120")
    families = (FamilyOptions(RANGE, RANGE), FamilyOptions(wide, wide))
    owed = Owed(OTHER, frozenset(hosts("10.0.3.7")))
    allocator, _ = started(
        State(name=ME, generation=1, owed=owed),
        options=Options(ME, families, Seeded(Genesis((ME,)))),
    )

    allocator.peers_changed([PeerInfo(ME), PeerInfo(OTHER)], NOW)
    # It was tried before the heir was there.
    allocator.tick(NOW + UNTOLD_S)

    written = records(allocator.take_effects())
    (document,) = [r.document for r in written if isinstance(r, DocumentRecord)]
    assert [(g.prefix, g.to) for g in document.grants] == [(*hosts("10.0.3.7"), OTHER)]
    assert OwedRecord(None) in written
