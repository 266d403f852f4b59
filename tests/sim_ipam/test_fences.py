"""Takeovers by those who do not know all: of the victim, of its life, of what they owe."""

from __future__ import annotations

import pytest

from tests.sim_ipam.clusters import cluster
from tests.sim_ipam.peer import Call
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


def removed(world: World, number: int, victim: int) -> None:
    call = world.reclaim(number, victim)
    world.run(10.0)
    assert isinstance(call.outcome, Reclaimed)


def taken_out_of_sight(world: World) -> None:
    """Peer 2 takes over 5 and 1; neither 1 nor 4 hears of it."""
    world.run(5.0)
    world.kill_node(5)
    world.partition([1, 4], [2, 3])
    world.run(2.0)
    removed(world, 2, 5)
    removed(world, 2, 1)


def passed_on(world: World) -> list[Call]:
    """Peer 1, who knows of nothing, takes over 2, which has died, and gives of that to 4."""
    world.kill_node(2)
    world.run(2.0)
    removed(world, 1, 2)
    given = [world.allocate(4, f"a{number}") for number in range(9)]
    world.run(20.0)
    assert len(addresses(*given)) > 5
    return given


@pytest.mark.parametrize("returns", [False, True])
def test_what_an_heir_passed_on_is_not_taken_by_documents_it_never_saw(*, returns: bool) -> None:
    """Seed 6455: whoever held the victim's document brought it to the heir. Seed 7207: the victim
    did so itself, when it came back."""
    world = cluster("10.0.0.0/28", 1, 2, 3, 4, 5, world=World("10.0.0.0/28"))
    taken_out_of_sight(world)
    given = passed_on(world)

    world.heal()
    if returns:
        world.start_node(2)
    more = asked_for(world, 1, 3)

    found = addresses(*given, *more)
    assert len(found) == len(set(found))
    assert len(found) >= 14


def test_what_went_through_more_hands_out_of_sight_is_not_taken_either() -> None:
    """Its generation is beyond that of one takeover."""
    world = cluster("10.0.0.0/28", 1, 2, 3, 4, 5, world=World("10.0.0.0/28"))
    taken_out_of_sight(world)
    hers = [world.allocate(3, f"h{number}") for number in range(9)]
    world.run(20.0)
    assert len(addresses(*hers)) > 5
    world.kill_node(3)
    world.run(2.0)
    removed(world, 2, 3)
    given = passed_on(world)

    world.heal()
    world.start_node(2)
    more = asked_for(world, 1, 2)

    found = addresses(*given, *more)
    assert len(found) == len(set(found))
    assert len(found) >= 14


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


def test_who_is_removed_itself_before_it_takes_over_takes_nothing() -> None:
    """Whoever removed it has a right to its fence too, and may take the same space over."""
    world = cluster("10.0.0.0/28", 1, 2, 3, world=World("10.0.0.0/28"))
    world.run(5.0)
    world.kill_node(3)
    world.partition([1], [2])
    world.run(2.0)
    late = world.reclaim(1, 3)
    world.run(1.0)
    first = world.reclaim(2, 1)
    world.run(5.0)
    second = world.reclaim(2, 3)
    world.run(5.0)

    assert isinstance(late.outcome, Conflict)
    assert "removed itself" in str(late.outcome)
    assert isinstance(first.outcome, Reclaimed)
    assert isinstance(second.outcome, Reclaimed)
    found = addresses(*asked_for(world, 1, 2))
    assert len(found) == len(set(found))
    assert len(found) == 14


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
