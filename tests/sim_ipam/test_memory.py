"""State loss, leaks, reuse: rows 11, 12 and 13, defect 24; growth, cost: defects 4 and 7, row 15.

Numbers are the rows of the list of field failures and of the defects found by reading.
"""

from __future__ import annotations

import pytest

from tests.sim_ipam.clusters import cluster, seeds
from tests.sim_ipam.world import World, address_of, pod
from weave_ipam.core.effects import Persist, RequestId
from weave_ipam.core.results import Allocated, Left
from weave_model.attachment import Workload
from weave_model.prefix import Family

pytestmark = pytest.mark.sim


def test_row_11_after_loss_of_state_no_running_pod_gets_a_twin() -> None:
    world = cluster("10.0.0.0/24", 1, 2)
    running = [world.allocate(1, f"old{number}") for number in range(20)]
    world.run(1.0)
    peer = world.peers[1]
    peer.crash()
    peer.lose_state()

    peer.start()
    fresh = [world.allocate(1, f"new{number}") for number in range(80)]
    world.run(5.0)

    old = {address_of(call) for call in running}
    assert not old & {address_of(call) for call in fresh}
    assert peer.allocator is not None
    assert {allocation.key for allocation in peer.allocator.allocations()} >= {
        pod(f"old{number}") for number in range(20)
    }


def test_row_11_a_crash_before_the_kernel_was_asked_does_not_pass_for_knowledge() -> None:
    """Found by the simulation, seed 9: the state had a name again, but not the pods."""
    world = cluster("10.0.0.0/24", 1)
    world.allocate(1, "old")
    world.run(1.0)
    peer = world.peers[1]
    peer.crash()
    peer.lose_state()
    world.speed.start_s = 1.0
    peer.start()
    world.run(0.1)
    peer.crash()

    peer.start()

    assert peer.allocator is not None
    assert peer.allocator.needs_adoption


def test_row_12_a_released_address_rests_and_the_rotation_goes_on() -> None:
    world = cluster("10.0.0.0/24", 1)
    given: list[str] = []
    for number in range(50):
        call = world.allocate(1, f"pod{number}")
        world.run(0.5)
        given.append(address_of(call))
        world.release(1, f"pod{number}")
        world.run(0.5)

    assert len(set(given)) == len(given)


def test_row_12_a_quarantine_survives_a_restart() -> None:
    world = cluster("10.0.0.0/30", 1)
    first = world.allocate(1, "a")
    second = world.allocate(1, "b")
    world.run(1.0)
    world.release(1, "a")
    world.run(10.0)

    world.peers[1].crash()
    world.peers[1].start()
    call = world.allocate(1, "c")
    world.run(45.0)
    assert not call.is_answered

    world.run(10.0)
    assert address_of(call) == address_of(first)
    assert address_of(second) != address_of(first)


def test_row_13_churn_leaks_nothing() -> None:
    world = World("10.0.0.0/24", quarantine_s=1.0)
    world.add(1, seeds(1))
    world.run(1.0)
    allocator = world.peers[1].allocator
    assert allocator is not None
    before = allocator.status().families[0].free

    for number in range(2000):
        world.allocate(1, f"pod{number}")
        world.release(1, f"pod{number}")
        world.run(0.01)
    world.run(2.0)

    after = allocator.status().families[0]
    assert (after.free, after.active, after.quarantined) == (before, 0, 0)


def test_defect_24_a_release_of_a_former_life_does_not_free_the_present_one() -> None:
    world = cluster("10.0.0.0/28", 1)
    first = world.allocate(1, "a")
    world.run(1.0)
    world.release(1, "a")
    second = world.allocate(1, "a")
    world.run(1.0)
    assert isinstance(first.outcome, Allocated)
    peer = world.peers[1]
    old = first.outcome.generation

    peer.call(lambda a, r: a.release(r, pod("a"), old, peer.now))
    world.run(1.0)

    assert peer.allocator is not None
    held = peer.allocator.lookup(pod("a"))
    assert held is not None
    assert str(held.addresses[0]) == f"{address_of(second)}/32"


def test_defect_4_the_ring_becomes_small_again() -> None:
    world = World("10.0.0.0/26")
    world.add(1, seeds(1))
    world.add(2, seeds(1))
    world.run(1.0)
    for number in range(1, 40, 3):
        world.claim(2, f"pod{number}", f"10.0.0.{number}/32")
        world.run(1.0)
    assert len(world.owners(1)) > 10

    left = world.leave(2)
    world.run(5.0)

    assert left.outcome == Left(13)
    assert world.owners(1) == {"10.0.0.0/26": 1}
    own = world.peers[1].state.documents[Family.IPV4]
    assert len(own.blocks) == 1
    assert not own.grants


def test_defect_7_an_allocation_is_one_write() -> None:
    world = cluster("10.0.0.0/24", 1)
    world.allocate(1, "first")
    world.run(1.0)
    peer = world.peers[1]
    assert peer.allocator is not None
    peer.allocator.allocate(RequestId(99), pod("next"), Workload(), (), (), peer.now)

    writes = [effect for effect in peer.allocator.take_effects() if isinstance(effect, Persist)]
    assert [len(write.records) for write in writes] == [1]


def test_addresses_that_no_pod_can_have_do_not_go_round() -> None:
    """Found by the simulation: peers in need gave each other the last address for ever."""
    world = cluster("10.0.0.0/28", 1, 2)
    for number in range(1, 3):
        for index in range(8):
            world.allocate(number, f"pod{number}-{index}")
    world.run(5.0)
    waiting = world.allocate(2, "late")
    views = world.peers[1].views
    world.run(60.0)

    assert waiting.is_answered
    assert world.peers[1].views == views
