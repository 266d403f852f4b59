"""Takeovers by those who do not know all: of the victim, of its life, of what they owe."""

from __future__ import annotations

import pytest

from tests.sim_ipam.peer import Call
from tests.sim_ipam.test_defects import cluster
from tests.sim_ipam.world import World, address_of, peer_name
from weave_ipam.core.fences import Fence
from weave_ipam.core.results import Allocated, Reclaimed
from weave_model.errors import Conflict

pytestmark = pytest.mark.sim


def addresses(*calls: Call) -> list[str]:
    return [address_of(call) for call in calls if isinstance(call.outcome, Allocated)]


def asked_for(world: World, *numbers: int) -> list[Call]:
    """Whatever these peers can get during two minutes."""
    calls = []
    for second in range(120):
        calls += [world.allocate(number, f"b{number}-{second}") for number in numbers]
        world.run(1.0)
    return calls


def test_a_removal_that_comes_late_takes_nothing_of_the_life_that_obeyed_it() -> None:
    """Seed 6684: the victim obeyed and got new space before its heir took the old."""
    world = cluster("10.0.0.0/28", 1, 2, 3, world=World("10.0.0.0/28"))
    world.run(5.0)
    world.partition([2], [1, 3])
    world.run(2.0)
    call = world.reclaim(2, 3)
    world.run(1.0)
    given = [world.allocate(3, f"a{number}") for number in range(4)]
    world.run(5.0)
    assert isinstance(call.outcome, Reclaimed)
    assert len(addresses(*given)) > 1

    world.partition([1, 2], [3])
    more = asked_for(world, 1, 2)

    found = addresses(*given, *more)
    assert len(found) == len(set(found))


def test_who_did_not_know_the_victim_is_its_heir_all_the_same() -> None:
    """Seed 6371: its fence named no life, so another peer took it for one of long ago."""
    world = cluster("10.0.0.0/28", 1, 2, 3, world=World("10.0.0.0/28"))
    world.run(5.0)
    world.kill_node(3)
    world.run(2.0)
    world.coordination.swap(Fence(peer_name(3), 0, "", peer_name(1)), 0)

    call = world.reclaim(2, 3)
    world.run(10.0)

    assert isinstance(call.outcome, Conflict)


def test_what_is_owed_to_an_heir_is_not_claimed_while_it_rests() -> None:
    """Seed 316: a claim took an address out of quarantine that the heir had given meanwhile."""
    world = cluster("10.0.0.0/28", 1, 2, world=World("10.0.0.0/28"))
    old = world.allocate(2, "old")
    world.run(1.0)
    world.release(2, "old")
    world.run(1.0)
    world.kill_node(2)
    world.run(1.0)
    world.reclaim(1, 2)
    world.run(5.0)
    given = [world.allocate(1, f"a{number}") for number in range(14)]
    world.run(1.0)

    world.partition([1], [2])
    world.start_node(2)
    claim = world.claim(2, "new", f"{address_of(old)}/32")
    world.run(1.0)

    assert address_of(old) in addresses(*given)
    assert not claim.is_answered
