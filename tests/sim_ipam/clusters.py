"""Clusters that tests begin with, and what they ask of all peers at once."""

from __future__ import annotations

from tests.sim_ipam.world import World, peer_name
from weave_ipam.core.options import Seeded
from weave_model.ring import Genesis


def seeds(*numbers: int) -> Seeded:
    return Seeded(Genesis(tuple(peer_name(number) for number in numbers)))


def cluster(universe: str, *numbers: int, world: World | None = None) -> World:
    world = world or World(universe)
    for number in numbers:
        world.add(number, seeds(*numbers))
    world.run(1.0)
    return world


def conflicts(world: World, number: int) -> list[str]:
    allocator = world.peers[number].allocator
    assert allocator is not None
    return [str(c.address) for f in allocator.status().families for c in f.conflicting]


def everybody_agrees(world: World, *numbers: int) -> bool:
    return len({tuple(world.owners(number).items()) for number in numbers}) == 1
