"""A range that is used up: known before anybody asks in vain, and forgotten as soon as it is not
true."""

from __future__ import annotations

import pytest

from tests.sim_ipam.mesh import Links
from tests.sim_ipam.world import World, peer_name
from weave_ipam.core.asking import ANSWER_S
from weave_ipam.core.options import Seeded
from weave_ipam.core.results import Allocated, FamilyStatus
from weave_model.ring import Genesis

pytestmark = pytest.mark.sim

# Advice is published at most every 5 s.
ADVICE_SPREADS_S = 12.0


def family(world: World, number: int) -> FamilyStatus:
    allocator = world.peers[number].allocator
    assert allocator is not None
    (status,) = allocator.status().families
    return status


def cluster(universe: str, *numbers: int, quarantine_s: float = 60.0) -> World:
    world = World(universe, quarantine_s=quarantine_s)
    for number in numbers:
        world.add(number, Seeded(Genesis(tuple(peer_name(n) for n in numbers))))
    world.run(ADVICE_SPREADS_S)
    return world


def fill(world: World, number: int, count: int) -> None:
    for index in range(count):
        world.allocate(number, f"pod-{number}-{index}")
    world.run(ADVICE_SPREADS_S)


def test_it_is_told_when_the_last_address_is_given_and_not_before() -> None:
    world = cluster("10.0.0.0/28", 1, 2)
    assert [family(world, number).exhausted for number in (1, 2)] == ["", ""]

    fill(world, 1, 13)
    assert [family(world, number).exhausted for number in (1, 2)] == ["", ""]

    fill(world, 2, 1)

    for number in (1, 2):
        assert family(world, number).exhausted == "no free address is left in 10.0.0.0/28"


def test_an_address_of_another_peer_that_becomes_free_ends_it() -> None:
    world = cluster("10.0.0.0/29", 1, 2, quarantine_s=10.0)
    fill(world, 1, 6)
    assert family(world, 2).exhausted

    world.release(1, "pod-1-0")
    world.run(1.0)
    resting = family(world, 1).exhausted
    world.run(10.0 + ADVICE_SPREADS_S)

    assert resting.endswith("those released last are in quarantine")
    assert [family(world, number).exhausted for number in (1, 2)] == ["", ""]


def test_what_unreachable_peers_own_is_told() -> None:
    world = cluster("10.0.0.0/28", 1, 2)
    world.partition([1], [2])
    fill(world, 1, 7)

    assert family(world, 1).exhausted == (
        "no free address is left in 10.0.0.0/28:"
        " 8 are owned by unreachable peers - use 'rmpeer' if they are dead"
    )
    world.heal()
    world.run(ADVICE_SPREADS_S)
    assert family(world, 1).exhausted == ""


def test_a_peer_that_restarts_with_nothing_left_takes_back_what_it_advised() -> None:
    world = cluster("10.0.0.0/29", 1, 2)
    # All but one were free when it last said so, and it stops before it can say otherwise.
    fill(world, 1, 5)
    world.allocate(1, "last")
    world.run(0.1)
    world.peers[1].crash()
    world.peers[1].start()
    world.run(ADVICE_SPREADS_S)

    assert family(world, 2).exhausted == "no free address is left in 10.0.0.0/29"


@pytest.mark.parametrize("seed", range(10))
def test_who_asks_again_before_its_list_has_spread_waits_for_no_time_out(seed: int) -> None:
    links = Links(delay_s=0.2)
    world = World("10.0.0.0/28", seed=seed, links=links)
    for number in (1, 2, 3):
        world.add(number, Seeded(Genesis(tuple(peer_name(n) for n in (1, 2, 3)))))
    world.run(ADVICE_SPREADS_S)

    for index in range(14):
        call = world.allocate(1, f"pod-{index}")
        # Two peers to ask, after a list has reached them.
        assert world.settle(lambda call=call: call.is_answered, ANSWER_S - 0.1)  # type: ignore[misc]
        assert isinstance(call.outcome, Allocated)
