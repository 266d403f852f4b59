"""Taking over a dead peer's space when something comes between: callers, rivals, lost documents."""

from __future__ import annotations

import pytest

from tests.sim_ipam.clusters import cluster, everybody_agrees, seeds
from tests.sim_ipam.peer import Call, Speed
from tests.sim_ipam.world import World, address_of, peer_name
from weave_ipam.core.documents import TOPIC_RING
from weave_ipam.core.fences import Fence
from weave_ipam.core.reclaims import MAX_RACES
from weave_ipam.core.results import Reclaimed
from weave_model.errors import Absent, Conflict
from weave_model.prefix import Prefix

pytestmark = pytest.mark.sim


def why(world: World, number: int, call: Call) -> str:
    allocator = world.peers[number].allocator
    assert allocator is not None
    return allocator.why_pending(call.request)


def size(prefix: str) -> int:
    return Prefix.parse(prefix).size


def slow_cluster(universe: str, *numbers: int) -> World:
    """A cluster whose Coordination takes its time."""
    world = cluster(universe, *numbers, world=World(universe, speed=Speed(coordination_s=0.2)))
    world.run(2.0)
    return world


def test_a_takeover_goes_on_without_its_caller() -> None:
    world = slow_cluster("10.0.0.0/28", 1, 2)
    world.kill_node(2)
    world.run(1.0)

    call = world.reclaim(1, 2)
    assert why(world, 1, call) == f"waiting for the fence of {peer_name(2)}(node-2)"
    world.peers[1].give_up(call)
    world.run(5.0)

    assert not call.is_answered
    assert world.owners(1) == {"10.0.0.0/28": 1}


def test_two_callers_for_one_victim_are_told_the_same() -> None:
    world = slow_cluster("10.0.0.0/28", 1, 2)
    world.kill_node(2)
    world.run(1.0)

    calls = [world.reclaim(1, 2), world.reclaim(1, 2)]
    world.run(5.0)

    assert [call.outcome for call in calls] == [Reclaimed(peer_name(2), 8)] * 2


def test_of_two_peers_that_write_the_fence_at_once_one_takes_over() -> None:
    """Both had read that there is none."""
    world = slow_cluster("10.0.0.0/26", 1, 2, 3)
    world.kill_node(3)
    world.run(1.0)

    calls = [world.reclaim(1, 3), world.reclaim(2, 3)]
    world.run(5.0)

    assert {type(call.outcome) for call in calls} == {Reclaimed, Conflict}
    assert everybody_agrees(world, 1, 2)
    assert 3 not in world.owners(1).values()


def test_a_fence_that_others_write_again_and_again_is_given_up() -> None:
    world = slow_cluster("10.0.0.0/28", 1, 2)
    world.kill_node(2)
    world.run(1.0)
    peer = world.peers[1]
    assert peer.allocator is not None

    call = world.reclaim(1, 2)
    for _ in range(MAX_RACES):
        peer.allocator.fence_raced(peer_name(2), peer.now)
    peer.tick()

    assert isinstance(call.outcome, Conflict)
    assert "is being reclaimed by other peers as well" in str(call.outcome)


def test_a_victim_that_comes_back_before_its_space_is_taken_keeps_it() -> None:
    world = cluster("10.0.0.0/28", 1, 2)
    world.kill_node(2)
    world.run(1.0)

    call = world.reclaim(1, 2)
    world.run(1.0)
    world.start_node(2)
    world.run(10.0)

    assert isinstance(call.outcome, Conflict)
    assert "came back meanwhile" in str(call.outcome)
    assert everybody_agrees(world, 1, 2)


@pytest.mark.parametrize("heir", [1, 2])
def test_space_whose_document_left_before_its_heir_wrote_goes_to_the_heir(heir: int) -> None:
    """The fence names the heir, whose document was lost in a crash or is still under way."""
    world = cluster("10.0.0.0/26", 1, 2, 3)
    world.kill_node(3)
    world.run(1.0)
    world.coordination.swap(Fence(peer_name(3), 1, "", peer_name(heir)), 0)

    world.mesh.remove_peer(world.peers[1].replica, peer_name(3))
    world.run(60.0)

    assert world.owners(1) == world.owners(2)
    assert world.owners(1)["10.0.0.48/28" if heir == 1 else "10.0.0.32/27"] == heir
    assert 3 not in world.owners(1).values()


def test_what_a_removed_peer_had_granted_is_carried_to_whom_it_was_granted() -> None:
    """It died before the other listed it, and its document left before an heir wrote."""
    world = World("10.0.0.0/26")
    for number in (1, 2, 3):
        world.add(number, seeds(1))
    world.run(1.0)
    world.peers[2].crash()
    peer = world.peers[1]
    assert peer.allocator is not None
    given = world.peers[3]
    call = world.allocate(3, "a")
    world.settle(lambda: call.is_answered)
    given.crash()
    world.kill_node(1)
    world.peers[2].start()
    given.start()
    world.run(2.0)
    world.coordination.swap(Fence(peer_name(1), 1, "", peer_name(2)), 0)

    world.mesh.remove_peer(given.replica, peer_name(1))
    world.run(60.0)

    assert everybody_agrees(world, 2, 3)
    assert sum(int(owner in (2, 3)) for owner in world.owners(2).values()) == len(world.owners(2))
    assert world.peers[3].state.allocations


def removed_peer_takes_over(world: World) -> None:
    """A peer that was removed is back on the other side of a partition, and removes a dead one."""
    world.kill_node(5)
    world.run(1.0)
    world.reclaim(1, 5)
    world.run(5.0)
    world.kill_node(4)
    world.partition([1, 5], [2, 3])
    world.start_node(5)
    world.run(5.0)
    call = world.reclaim(5, 4)
    world.run(5.0)
    assert isinstance(call.outcome, Reclaimed)
    assert call.outcome.addresses > 0
    never_heard_of(world, 2, stranger=5)


def never_heard_of(world: World, number: int, *, stranger: int) -> None:
    """All peers of the simulated mesh know of each other otherwise."""
    peer = world.peers[number]
    known = world.mesh.peers_of(peer.replica)
    peer.peers_changed([info for info in known if info.name != peer_name(stranger)])


def test_an_heir_that_nobody_here_knows_is_still_the_heir() -> None:
    """Seed 6175: both sides of a partition took over, and gave addresses twice."""
    world = cluster("10.0.0.0/26", 1, 2, 3, 4, 5)
    removed_peer_takes_over(world)

    call = world.reclaim(2, 4)
    world.run(5.0)
    assert isinstance(call.outcome, Conflict)
    assert f"was fenced by {peer_name(5)}: use rmpeer" in str(call.outcome)
    assert 4 in world.owners(2).values()

    world.heal()
    world.run(10.0)
    assert everybody_agrees(world, 1, 2, 3, 5)
    assert 4 not in world.owners(2).values()


def test_an_heir_that_nobody_knows_any_more_can_be_removed() -> None:
    world = cluster("10.0.0.0/26", 1, 2, 3, 4, 5)
    removed_peer_takes_over(world)
    world.kill_node(5)
    world.kill_node(1)
    world.heal()
    world.run(3.0)
    never_heard_of(world, 2, stranger=5)
    unknown = world.reclaim(2, 5)
    refused = world.reclaim(2, 4)
    world.run(5.0)
    assert isinstance(unknown.outcome, Absent)
    assert "remove that peer first if it is dead" in str(refused.outcome)

    # Whom each was fenced by comes before.
    for victim in (1, 5, 4):
        call = world.reclaim(2, victim)
        world.run(5.0)
        assert isinstance(call.outcome, Reclaimed), victim

    assert everybody_agrees(world, 2, 3)
    assert set(world.owners(2).values()) == {2, 3}
    assert sum(map(size, world.owners(2))) == 64


def test_what_the_heir_never_saw_is_not_lost_when_its_only_witness_restarts() -> None:
    """Seed 5946: the victim had got space on the other side of a partition."""
    world = cluster("10.0.0.0/28", 1, 2, 3)
    world.partition([1, 2], [3])
    world.run(2.0)
    for number in range(7):
        world.allocate(2, f"a{number}")
        world.run(2.0)
    owned = world.owners(1)
    world.kill_node(2)
    world.run(1.0)
    call = world.reclaim(3, 2)
    world.run(5.0)
    assert isinstance(call.outcome, Reclaimed)
    assert call.outcome.addresses < sum(size(p) for p, owner in owned.items() if owner == 2)

    world.coordination.cut(peer_name(1))
    world.heal()
    world.run(3.0)
    world.peers[1].crash()
    world.peers[1].start()
    world.run(3.0)
    world.coordination.join(peer_name(1))
    world.run(120.0)

    assert everybody_agrees(world, 1, 3)
    assert set(world.owners(1).values()) == {1, 3}
    assert sum(map(size, world.owners(1))) == 16
    assert not world.peers[1].state.departed


def test_a_removed_peer_that_comes_back_is_no_longer_remembered() -> None:
    world = cluster("10.0.0.0/26", 1, 2)
    world.coordination.cut(peer_name(1))
    world.kill_node(2)
    world.run(1.0)
    world.mesh.remove_peer(world.peers[1].replica, peer_name(2))
    world.run(1.0)
    assert world.peers[1].state.departed

    world.start_node(2)
    world.run(10.0)

    assert not world.peers[1].state.departed
    assert everybody_agrees(world, 1, 2)


def test_what_is_owed_to_an_heir_that_is_removed_goes_to_its_heir() -> None:
    world = World("10.0.0.0/26", quarantine_s=1.0)
    for number in (1, 2, 3):
        world.add(number, seeds(1, 2, 3))
    world.run(1.0)
    used = world.allocate(1, "a")
    world.run(1.0)
    world.kill_node(1)
    world.run(1.0)
    world.reclaim(2, 1)
    world.run(5.0)
    world.start_node(1)
    world.run(10.0)
    world.kill_node(2)
    world.run(1.0)
    world.reclaim(3, 2)
    world.run(10.0)

    world.release(1, "a")
    world.run(60.0)

    assert everybody_agrees(world, 1, 3)
    assert 2 not in world.owners(1).values()
    assert TOPIC_RING in {topic for topic, _, _ in world.peers[1].replica.documents}
    again = [world.allocate(3, f"b{number}") for number in range(40)]
    world.run(60.0)
    assert address_of(used) in {address_of(call) for call in again if call.is_answered}


def test_a_seed_that_does_not_know_its_fence_does_not_give_its_share_up() -> None:
    """Seed 20005: its first document listed what it was granted, and by that nothing else."""
    world = World("10.0.0.0/28")
    world.coordination.cut(peer_name(1))
    for number in (1, 2):
        world.add(number, seeds(1, 2))
    world.run(2.0)

    left = world.leave(2)
    world.run(5.0)
    assert world.owners(1) == {"10.0.0.0/28": 1}
    assert "peers 02:00:00:00:00:01 to take the addresses over" in why(world, 2, left)

    world.coordination.join(peer_name(1))
    world.run(10.0)
    assert left.is_answered
    assert world.owners(1) == {"10.0.0.0/28": 1}


def test_nobody_leaves_before_it_is_known_whether_it_was_removed() -> None:
    world = World("10.0.0.0/28")
    world.coordination.cut(peer_name(2))
    for number in (1, 2):
        world.add(number, seeds(1, 2))
    world.run(2.0)

    left = world.leave(2)
    world.run(5.0)
    assert "whether this peer was removed" in why(world, 2, left)

    world.coordination.join(peer_name(2))
    world.run(10.0)
    assert left.is_answered
    assert world.owners(1) == {"10.0.0.0/28": 1}
