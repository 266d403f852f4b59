"""Peers that leave hand over what they have."""

from __future__ import annotations

import pytest

from tests.sim_ipam.clusters import cluster, seeds
from tests.sim_ipam.mesh import Links
from tests.sim_ipam.world import World
from weave_ipam.core.results import Left
from weave_model.errors import NotReady

pytestmark = pytest.mark.sim


def test_a_peer_that_leaves_waits_until_its_heir_has_everything() -> None:
    world = World("10.0.0.0/28", links=Links(delay_s=0.2))
    for number in (1, 2):
        world.add(number, seeds(1, 2))
    world.run(5.0)

    left = world.leave(2)
    world.run(0.1)
    assert not left.is_answered
    refused = world.allocate(2, "late")
    world.run(5.0)

    assert left.outcome == Left(8)
    assert isinstance(refused.outcome, NotReady)
    assert str(refused.outcome) == "this peer is leaving"
    assert world.owners(1) == {"10.0.0.0/28": 1}


def test_a_peer_that_leaves_asks_for_nothing_back() -> None:
    """Found by the simulation, seed 25: it asked its heir for the addresses in use, for ever."""
    world = cluster("10.0.0.0/28", 1, 2)
    world.allocate(2, "pod")
    world.run(1.0)

    left = world.leave(2)
    world.run(30.0)

    assert left.outcome == Left(8)
    assert world.owners(1) == {"10.0.0.0/28": 1}


def test_nobody_to_leave_to_is_told_as_the_reason() -> None:
    world = cluster("10.0.0.0/28", 1)

    left = world.leave(1)
    world.run(5.0)

    allocator = world.peers[1].allocator
    assert allocator is not None
    assert not left.is_answered
    assert allocator.why_pending(left.request) == (
        "waiting for a reachable peer that takes the addresses over"
    )


def test_peers_that_leave_together_hand_everything_to_who_stays() -> None:
    """Found by the simulation: two of them handed all they had to each other, for ever."""
    world = World("10.0.0.0/28", links=Links(delay_s=0.05))
    for number in (1, 2, 3):
        world.add(number, seeds(1, 2, 3))
    world.run(1.0)

    left = [world.leave(number) for number in (1, 2)]
    world.run(10.0)

    assert world.owners(3) == {"10.0.0.0/28": 3}
    assert all(isinstance(call.outcome, Left) for call in left)


def test_the_last_ones_of_a_cluster_that_leave_wait_and_hand_nothing_to_and_fro() -> None:
    world = World("10.0.0.0/28", links=Links(delay_s=0.05))
    for number in (1, 2):
        world.add(number, seeds(1, 2))
    world.run(1.0)

    left = [world.leave(number) for number in (1, 2)]
    world.run(60.0)

    for number, call in zip((1, 2), left, strict=True):
        peer = world.peers[number]
        assert peer.allocator is not None
        why = peer.allocator.why_pending(call.request)
        assert call.outcome is not None or "reachable peer that takes" in why
        for document in peer.state.documents.values():
            assert all(block.generation < 20 for block in document.blocks)
            assert all(grant.generation < 20 for grant in document.grants)
