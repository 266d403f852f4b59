"""Grants meet the life of their heir that they were made to: removals, returns, departures."""

from __future__ import annotations

import pytest

from tests.sim_ipam.clusters import cluster, everybody_agrees, seeds
from tests.sim_ipam.mesh import Links, Replica
from tests.sim_ipam.peer import Call
from tests.sim_ipam.world import World, address_of, peer_name
from weave_ipam.core.documents import Message, SpaceRequest
from weave_ipam.core.fences import Fence
from weave_ipam.core.results import Left, Reclaimed
from weave_model.peer import PeerName
from weave_model.prefix import Family
from weave_model.ring import Grant, RingDocument

pytestmark = pytest.mark.sim


def document(world: World, number: int) -> RingDocument:
    return world.peers[number].state.documents[Family.IPV4]


def is_granted(world: World, donor: int, heir: int) -> bool:
    documents = world.peers[donor].state.documents.values()
    grants: list[Grant] = [grant for document in documents for grant in document.grants]
    return any(grant.to == peer_name(heir) for grant in grants)


def all_differ(*calls: Call) -> bool:
    given = [address_of(call) for call in calls if call.is_answered]
    return len(given) == len(set(given))


def test_what_a_victim_was_granted_before_it_died_is_its_heirs() -> None:
    """Seed 669: it came back out of its heir's reach, and saw the grant for the first time."""
    world = cluster("10.0.0.0/28", 1, 2, 3, world=World("10.0.0.0/28", links=Links(delay_s=0.2)))
    world.run(5.0)
    world.allocate(1, "a", subnet="10.0.0.8/30")
    assert world.settle(lambda: is_granted(world, 2, 1), 10.0)
    world.kill_node(1)
    world.run(2.0)
    world.partition([1, 2], [3])
    call = world.reclaim(3, 1)
    world.run(10.0)
    assert isinstance(call.outcome, Reclaimed)

    world.start_node(1)
    world.run(5.0)
    there = [world.allocate(1, f"b{number}") for number in range(16)]
    here = [world.allocate(3, f"c{number}") for number in range(16)]
    world.run(20.0)
    assert all_differ(*there, *here)

    world.heal()
    world.run(60.0)
    assert everybody_agrees(world, 1, 2, 3)


@pytest.mark.parametrize("is_read_again", [False, True])
def test_a_second_heir_takes_nothing_that_the_first_has(*, is_read_again: bool) -> None:
    """It sees the grant of the first life only when it removes the victim's second. Seed 2856: its
    own fence was read once more meanwhile."""
    donor, first, second, victim = 1, 2, 3, 4
    links = Links(delay_s=0.2)
    world = cluster("10.0.0.0/28", 1, 2, 3, 4, world=World("10.0.0.0/28", links=links))
    world.run(5.0)
    world.partition([donor, first, victim], [second])
    world.run(2.0)
    world.allocate(victim, "a", subnet="10.0.0.0/30")
    assert world.settle(lambda: is_granted(world, donor, victim), 10.0)
    world.kill_node(victim)
    world.run(1.0)
    world.partition([first], [donor], [second])
    call = world.reclaim(first, victim)
    world.run(10.0)
    assert isinstance(call.outcome, Reclaimed)
    world.partition([first], [donor], [second, victim])
    world.start_node(victim)
    world.run(10.0)
    world.kill_node(victim)
    world.run(3.0)
    world.partition([first], [second, donor])
    world.run(3.0)

    call = world.reclaim(second, victim)
    world.run(1.0)
    if is_read_again:
        world.peers[second]._read_fence(peer_name(victim))
    world.run(10.0)

    assert isinstance(call.outcome, Reclaimed)
    assert victim not in world.owners(second).values()
    there = [world.allocate(first, f"b{number}") for number in range(16)]
    here = [world.allocate(second, f"c{number}") for number in range(16)]
    world.run(20.0)
    assert all_differ(*there, *here)


def test_whoever_comes_back_asks_in_its_new_life(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is granted to the one before goes to the heir, and the caller waits for another."""
    world = cluster("10.0.0.0/26", 1, 2, 3, world=World("10.0.0.0/26", links=Links(delay_s=0.05)))
    world.run(5.0)
    world.kill_node(1)
    world.run(2.0)
    world.reclaim(2, 1)
    world.run(10.0)
    lives: list[int] = []
    send = world.mesh.send

    def spied(replica: Replica, to: PeerName, message: Message) -> None:
        if isinstance(message, SpaceRequest):
            lives.append(message.obeyed)
        send(replica, to, message)

    monkeypatch.setattr(world.mesh, "send", spied)
    world.start_node(1)
    waiting = world.allocate(1, "a")

    assert world.settle(lambda: waiting.is_answered, 5.0)
    (revision, _) = world.coordination.fence(peer_name(1))
    assert set(lives) == {revision}


def test_receipts_of_peers_that_left_do_not_pile_up() -> None:
    world = World("10.0.0.0/24")
    world.add(1, seeds(1))
    world.run(1.0)
    for number in range(2, 10):
        world.add(number, seeds(1))
        world.run(1.0)
        world.allocate(number, f"a{number}")
        world.run(5.0)
        left = world.leave(number)
        world.run(5.0)
        assert isinstance(left.outcome, Left)
        world.kill_node(number)
        world.run(1.0)
        world.reclaim(1, number)
        world.run(6.0)

    assert len(document(world, 1).receipts) <= 1


def test_what_a_witness_keeps_for_an_heir_is_for_the_life_that_took_over() -> None:
    """Seed 3884: the witness did not hold the heir's document, and named no life at all."""
    world = cluster("10.0.0.0/28", 1, 2, 3, world=World("10.0.0.0/28"))
    world.run(2.0)
    witness, heir, victim = 1, 2, 3
    allocator = world.peers[witness].allocator
    assert allocator is not None
    world.kill_node(victim)
    world.kill_node(heir)
    world.run(2.0)
    for gone in (heir, victim):
        world.mesh.remove_peer(world.peers[witness].replica, peer_name(gone))
    world.run(1.0)

    fence = Fence(peer_name(victim), 1, "", peer_name(heir), heir_revision=7, token=1)
    allocator.fence_read(peer_name(victim), 9, fence, world.now)
    world.peers[witness].tick()
    world.run(1.0)

    grants = [grant for grant in document(world, witness).grants if grant.to == peer_name(heir)]
    assert {grant.obeyed for grant in grants} == {7}
