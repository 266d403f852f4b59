"""Heirs of heirs, and heirs that ended in the middle: each gave addresses twice."""

from __future__ import annotations

import pytest

from tests.sim_ipam.clusters import cluster
from tests.sim_ipam.mesh import DocumentId, Replica, Stored
from tests.sim_ipam.peer import Speed
from tests.sim_ipam.world import World, peer_name
from weave_ipam.core.documents import TOPIC_RING
from weave_ipam.core.fences import Fence
from weave_ipam.core.results import Reclaimed
from weave_model.errors import Conflict, NotReady
from weave_model.prefix import Family, format_address

pytestmark = pytest.mark.sim


def four(**options: object) -> World:
    """Shares: 1 has 10.0.0.0/30, 2 the next, and so on."""
    world = World("10.0.0.0/28", quarantine_s=0.0, **options)  # type: ignore[arg-type]
    world = cluster("10.0.0.0/28", 1, 2, 3, 4, world=world)
    world.run(3.0)
    return world


def removed(world: World, number: int, victim: int) -> None:
    call = world.reclaim(number, victim)
    world.run(6.0)
    assert isinstance(call.outcome, Reclaimed)


def fill(world: World, number: int, count: int, name: str = "p") -> None:
    for pod in range(count):
        world.allocate(number, f"{name}{number}-{pod}")
    world.run(20.0)


def twins(world: World) -> set[str]:
    """Addresses that two containers hold."""
    held = [
        str(address)
        for peer in world.peers.values()
        for in_use in peer.containers.values()
        for address in in_use.addresses
    ]
    return {address for address in held if held.count(address) > 1}


def owned(world: World, number: int) -> int:
    view = world.view(number, Family.IPV4)
    assert view is not None
    return sum(view.sizes().values())


def dead(world: World, number: int) -> None:
    world.kill_node(number)
    world.run(20.0)


def test_what_a_peer_owes_gains_nothing_by_its_new_neighbour() -> None:
    """1 took 3 over and uses 10.0.0.8/30, which 3 still owes it when it takes 4 over, its buddy."""
    world = four()
    fill(world, 3, 4)
    dead(world, 4)
    dead(world, 3)
    removed(world, 1, 3)
    fill(world, 1, 8)
    world.partition([3], [1, 2])
    world.start_node(3)
    world.run(5.0)
    removed(world, 3, 4)
    world.kill_node(3)

    world.start_node(3)
    world.partition([3, 2], [1])
    world.run(20.0)
    dead(world, 3)
    removed(world, 2, 3)
    fill(world, 2, 12)
    world.heal()
    world.run(60.0)

    assert twins(world) == set()


@pytest.mark.parametrize("seed", range(5))
def test_an_heir_that_ends_before_it_takes_takes_with_a_token_later(
    seed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """4 took 2 over and died, its document was lost, its removal of 2 was not."""
    world = four(seed=seed)
    dead(world, 2)
    receive = world.mesh._receive

    def lossy(replica: Replica, document: DocumentId, stored: Stored) -> None:
        if document[:2] != (TOPIC_RING, peer_name(4)):
            receive(replica, document, stored)

    monkeypatch.setattr(world.mesh, "_receive", lossy)
    call = world.reclaim(4, 2)
    world.settle(lambda: call.is_answered)
    world.run()
    world.kill_node(4)
    monkeypatch.undo()
    world.run(0.2)
    world.reclaim(1, 4)
    world.reclaim(1, 2)
    world.run(1.0)
    world.peers[1].crash()
    world.peers[1].start()
    world.run(0.1)
    removed(world, 1, 4)
    world.run(60.0)
    fill(world, 3, 12)

    world.partition([1, 4], [3])
    world.start_node(4)
    world.run(5.0)
    fill(world, 1, 16)
    fill(world, 4, 16)
    world.heal()
    world.run(60.0)

    assert twins(world) == set()
    assert owned(world, 1) == 16


def test_an_attempt_that_failed_does_not_forget_the_former_heir(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """1, out of sight, has what 3 granted to 4 before 1 removed 4; 4 has never seen that grant."""
    world = four(speed=Speed(coordination_s=0.1))
    world.run(2.0)
    receive = world.mesh._receive

    def lossy(replica: Replica, document: DocumentId, stored: Stored) -> None:
        if replica.name != peer_name(4) or document[:2] != (TOPIC_RING, peer_name(3)):
            receive(replica, document, stored)

    monkeypatch.setattr(world.mesh, "_receive", lossy)
    for pod in range(6):
        world.allocate(4, f"v{pod}")
    assert world.settle(lambda: grants_of(world, 3) != set(), 3.0)
    granted = grants_of(world, 3)
    world.kill_node(4)
    world.run(5.0)
    world.partition([1], [2, 3, 4])
    world.run(3.0)
    removed(world, 1, 4)
    fill(world, 1, 12)
    assert granted & given(world, 1)
    world.start_node(4)
    world.run(1.5)
    dead(world, 4)

    first = world.reclaim(2, 4)
    world.settle(lambda: world.coordination.fences[peer_name(4)][1].heir == peer_name(2), 5.0)
    world.coordination.cut(peer_name(2))
    world.run(1.0)
    world.coordination.join(peer_name(2))
    world.run(5.0)
    assert isinstance(first.outcome, NotReady)
    removed(world, 2, 4)
    world.run(30.0)
    removed(world, 2, 4)
    fill(world, 2, 16)

    assert given(world, 2)
    assert not granted & given(world, 2)


def grants_of(world: World, number: int) -> set[str]:
    """The addresses that a peer has granted and not yet seen listed."""
    allocator = world.peers[number].allocator
    assert allocator is not None
    document = allocator._pools[Family.IPV4].ring.own
    return {
        format_address(Family.IPV4, address)
        for grant in (document.grants if document is not None else ())
        for address in range(grant.prefix.address, grant.prefix.end)
    }


def given(world: World, number: int) -> set[str]:
    """What the containers of a node hold."""
    return {
        str(address).partition("/")[0]
        for in_use in world.peers[number].containers.values()
        for address in in_use.addresses
    }


def test_what_a_dead_peer_kept_in_use_is_the_former_heirs_all_the_same() -> None:
    """1 removed 4 and uses what it had; 4 came back, still used some of it, and died again."""
    world = four()
    fill(world, 4, 4)
    dead(world, 4)
    world.partition([1], [2, 3, 4])
    world.run(3.0)
    removed(world, 1, 4)
    fill(world, 1, 8)
    world.start_node(4)
    world.run(10.0)
    dead(world, 4)

    removed(world, 2, 4)
    fill(world, 2, 16)
    world.heal()
    world.run(60.0)

    assert twins(world) == set()
    assert owned(world, 2) == 16


def test_a_late_answer_about_the_own_fence_replaces_no_newer_one() -> None:
    """What was granted before would have gone to the heir of an earlier life."""
    world = four()
    allocator = world.peers[1].allocator
    assert allocator is not None
    for revision, heir in ((4, 2), (3, 3)):
        fence = Fence(peer_name(1), 1, "", peer_name(heir))
        allocator.fence_read(peer_name(1), revision, fence, world.peers[1].now)
    world.run(1.0)

    assert allocator._obedience.share_for == peer_name(2)
    assert allocator._obedience.obeyed == 4


def test_the_right_of_an_heir_that_was_removed_is_its_heirs_alone() -> None:
    """3 took 4 over where nobody saw it, and died: what it had is 1's, who removed it, not 2's."""
    world = four()
    dead(world, 4)
    world.partition([3], [1, 2])
    world.run(3.0)
    removed(world, 3, 4)
    world.kill_node(3)
    world.run(3.0)
    world.partition([1, 3], [2])
    world.run(3.0)
    removed(world, 1, 3)

    other = world.reclaim(2, 4)
    world.run(6.0)
    assert isinstance(other.outcome, Conflict)
    assert f"was fenced by {peer_name(1)}" in str(other.outcome)
    removed(world, 1, 4)
    fill(world, 2, 8)
    world.start_node(3)
    world.run(10.0)
    fill(world, 1, 12)
    world.heal()
    world.run(60.0)

    assert twins(world) == set()
    assert owned(world, 1) == 16
