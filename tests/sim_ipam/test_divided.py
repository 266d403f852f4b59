"""Views that differed in Weave Net: rows 9 and 10, defects 1, 2, 3, 5 and 6.

Numbers are the rows of the list of field failures and of the defects found by reading.
"""

from __future__ import annotations

import pytest

from tests.sim_ipam.clusters import cluster, conflicts
from tests.sim_ipam.world import World, address_of, peer_name
from weave_ipam.core.options import Agreed, Consensus
from weave_model.prefix import Prefix
from weave_model.ring import Block, Genesis, RingDocument

pytestmark = pytest.mark.sim


def test_row_9_and_defect_6_two_owners_of_one_block_end_with_the_same_winner_everywhere() -> None:
    """And the loser still knows which of its addresses are in use; nobody panics or cuts links."""
    world = cluster("10.0.0.0/28", 1, 2, 3)
    mine = world.allocate(2, "mine")
    world.run(1.0)
    genesis = Genesis(tuple(peer_name(number) for number in (1, 2, 3)))
    universe = Prefix.parse("10.0.0.0/28")
    rival = RingDocument(universe, genesis, (Block(universe, 1),))

    rivals = world.peers[3]
    rivals.crash()
    world.mesh.publish(rivals.replica, "ring", "4", rival)
    world.run(5.0)

    assert world.owners(1) == world.owners(2) == {"10.0.0.0/28": 3}
    assert conflicts(world, 2) == [f"{address_of(mine)}/32"]
    assert any("is given up" in note for note in world.peers[2].notes)


def test_row_9_a_conflicting_address_in_use_is_asked_back() -> None:
    world = cluster("10.0.0.0/28", 1, 2)
    mine = world.allocate(2, "mine")
    world.run(1.0)
    world.kill_node(2)
    world.run(1.0)
    world.reclaim(1, 2)
    world.run(5.0)

    world.peers[2].containers.clear()
    world.start_node(2)
    world.run(10.0)

    assert not conflicts(world, 2)
    assert world.owners(1)[f"{address_of(mine)}/32"] == 2


def test_row_10_and_defect_1_an_even_number_of_voters_needs_a_majority() -> None:
    world = World()
    world.partition([1], [2])
    for number in (1, 2):
        world.add(number, Consensus(2))
        world.prime(number)
    world.run(60.0)

    assert world.owners(1) == world.owners(2) == {}


def test_row_10_on_an_outside_authority_there_is_one_ring_whoever_sees_whom() -> None:
    world = World()
    world.partition([1], [2], [3])
    for number in (1, 2, 3):
        world.add(number, Agreed())
        world.prime(number)
    world.run(5.0)
    world.heal()
    world.run(5.0)

    assert world.owners(1) == world.owners(2) == world.owners(3) != {}


def test_defect_2_a_voter_that_restarts_is_the_same_voter() -> None:
    world = World()
    world.partition([1], [2])
    world.add(1, Consensus(3))
    world.add(2, Consensus(3))
    world.prime(1)
    for _ in range(5):
        world.run(1.0)
        world.peers[1].crash()
        world.peers[1].start()
        world.prime(1)
    world.run(5.0)

    assert world.status(1) == "awaiting consensus (quorum: 2, known: 1)"
    assert world.owners(1) == {}
