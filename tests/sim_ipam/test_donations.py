"""Who asks, who gives, and how often: found by the simulation."""

from __future__ import annotations

import pytest

from tests.sim_ipam.clusters import cluster, seeds
from tests.sim_ipam.mesh import Links
from tests.sim_ipam.world import World, address_of, peer_name
from weave_ipam.core.documents import SpaceRequest
from weave_ipam.core.fences import Fence
from weave_ipam.core.options import Observer
from weave_model.prefix import Family, Prefix

pytestmark = pytest.mark.sim


def test_nothing_is_given_in_the_moment_in_which_its_block_is_given_away() -> None:
    """Seed 93: a fenced peer handed its blocks over and served a request from them at once."""
    world = cluster("10.0.0.0/28", 1, 2)
    world.kill_node(1)
    world.run(1.0)
    world.coordination.swap(Fence(peer_name(1), 1, "", peer_name(2)), 0)
    world.start_node(1)
    call = world.allocate(1, "pod")
    world.partition([1], [2])
    world.run(10.0)

    assert not call.is_answered
    own = world.peers[1].state.documents[Family.IPV4]
    assert not own.blocks


def test_a_request_from_a_peer_that_died_grants_nothing() -> None:
    world = cluster("10.0.0.0/28", 1, 2)
    world.kill_node(2)
    world.run(1.0)
    donor = world.peers[1]
    donor.message_received(peer_name(2), SpaceRequest(Prefix.parse("10.0.0.0/28")))
    world.run(1.0)

    assert not donor.state.documents[Family.IPV4].grants


def test_a_doubled_request_gives_once() -> None:
    world = World("10.0.0.0/26")
    world.add(1, seeds(1))
    world.add(2, Observer())
    world.run(1.0)
    donor = world.peers[1]
    world.partition([1], [2])

    for _ in range(3):
        donor.message_received(peer_name(2), SpaceRequest(Prefix.parse("10.0.0.0/26")))

    own = donor.state.documents[Family.IPV4]
    assert [str(grant.prefix) for grant in own.grants] == ["10.0.0.32/27"]


def test_a_donor_that_has_given_is_asked_for_more_at_once() -> None:
    """It counted as silent until its time was over: six pods waited 12 s for their addresses."""
    world = cluster("10.0.0.0/29", 1, 2)

    calls = [world.allocate(1, f"pod-{number}") for number in range(6)]
    world.run(1.0)

    assert len({address_of(call) for call in calls}) == 6


def test_two_peers_in_need_of_both_families_do_not_toss_the_last_address() -> None:
    """Found by the simulation: a caller that waits for IPv4 leaves the last IPv6 address free."""
    world = World(["10.0.0.0/29", "fd00::/126"], links=Links(delay_s=0.05))
    for number in (1, 2, 3):
        world.add(number, seeds(1, 2, 3))
    world.run(1.0)
    world.allocate(2, "first")
    world.partition([1, 2], [3])
    world.run(1.0)

    for number in (1, 2):
        world.allocate(number, "second", address=f"10.0.0.{5 + number}")
    world.run(30.0)

    assert world.status(1) == world.status(2) == "waiting for IP(s) to become available"
    for number in (1, 2):
        for document in world.peers[number].state.documents.values():
            assert all(block.generation < 20 for block in document.blocks)
