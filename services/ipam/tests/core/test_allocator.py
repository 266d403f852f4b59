"""One peer alone: requests, answers, effects."""

from __future__ import annotations

import random

from weave_ipam.core.allocator import Allocator
from weave_ipam.core.documents import TOPICS_NEEDED
from weave_ipam.core.effects import Answer, Effect, Persist, ReadFence, RequestId
from weave_ipam.core.options import FamilyOptions, Options, Seeded
from weave_ipam.core.records import State
from weave_ipam.core.results import Allocated
from weave_model.attachment import AttachmentKey, ContainerId, Workload
from weave_model.peer import PeerName
from weave_model.prefix import Prefix
from weave_model.ring import Genesis

ME = PeerName(bytes([2, 0, 0, 0, 0, 1]))
RANGE = Prefix.parse("10.0.3.0/26")
POD = AttachmentKey("weave", ContainerId("pod"), "eth0")


ALONE = Options(ME, (FamilyOptions(RANGE, RANGE),), Seeded(Genesis((ME,))))


def started(
    state: State | None = None, now: float = 1000.0, options: Options = ALONE
) -> tuple[Allocator, list[Effect]]:
    allocator = Allocator(options, state or State(), random.Random(1), now)
    effects = allocator.take_effects()
    for topic in TOPICS_NEEDED:
        allocator.documents_synced(topic, now)
    allocator.adopt([], now)
    if ReadFence(ME) in effects:
        allocator.fence_read(ME, 0, None, now)
    return allocator, effects + allocator.take_effects()


def test_an_allocation_is_durable_before_it_is_answered() -> None:
    allocator, effects = started()

    allocator.allocate(RequestId(1), POD, Workload(), (), (), 1000.0)
    effects += allocator.take_effects()

    answer = next(effect for effect in effects if isinstance(effect, Answer))
    before = effects[: effects.index(answer)]
    assert isinstance(answer.outcome, Allocated)
    state = State()
    for effect in before:
        if isinstance(effect, Persist):
            state = state.with_records(effect.records)
    assert state.allocations[POD].addresses == (answer.outcome.addresses[0].address,)


def test_the_same_key_gets_the_same_address_again_also_after_a_restart() -> None:
    allocator, effects = started()
    allocator.allocate(RequestId(1), POD, Workload(), (), (), 1000.0)
    effects += allocator.take_effects()
    first = next(effect for effect in effects if isinstance(effect, Answer)).outcome
    state = State()
    for effect in effects:
        if isinstance(effect, Persist):
            state = state.with_records(effect.records)

    again, _ = started(state)
    again.allocate(RequestId(2), POD, Workload(), (), (), 1001.0)

    assert Answer(RequestId(2), first) in again.take_effects()
