"""What Weave Net's users count on, one test for each vector; what differs on purpose says why."""

from __future__ import annotations

import pytest

from tests.sim_ipam.world import World, address_of, addresses_of, peer_name, pod
from weave_ipam.core.options import Consensus, Observer, Seeded
from weave_ipam.core.results import Allocated, Claimed, Primed, Reclaimed
from weave_model.errors import Conflict, Exhausted
from weave_model.prefix import Prefix
from weave_model.ring import Genesis

pytestmark = pytest.mark.sim


def seeds(*numbers: int) -> Seeded:
    return Seeded(Genesis(tuple(peer_name(number) for number in numbers)))


def test_1_one_node_gives_62_addresses_of_a_26_in_order_and_no_63rd() -> None:
    """A freed address rests and the next one is given, where Weave Net gave it again at once."""
    world = World("10.0.3.0/26")
    world.add(1, seeds(1))
    first = [world.allocate(1, name) for name in ("a", "b")]
    world.run()
    assert [address_of(call) for call in first] == ["10.0.3.1", "10.0.3.2"]

    world.release(1, "b")
    after = world.allocate(1, "c")
    world.run()
    assert address_of(after) == "10.0.3.3"

    rest = [world.allocate(1, f"pod{number}") for number in range(59)]
    late = world.allocate(1, "late")
    world.run(59.0)
    assert all(isinstance(call.outcome, Allocated) for call in rest)
    assert not late.is_answered

    world.run(2.0)
    assert address_of(late) == "10.0.3.2"

    none = world.allocate(1, "none")
    world.run()
    assert isinstance(none.outcome, Exhausted)
    assert "10.0.3.0/26" in str(none.outcome)


def test_2_three_electors_share_by_halving() -> None:
    """All three take part in the quorum here: it is three of four."""
    world = World("10.0.0.0/24")
    for number in (1, 2, 3):
        world.add(number, Consensus(4))
        world.prime(number)

    assert world.settle(lambda: all(world.owners(n) for n in (1, 2, 3)))
    assert world.owners(1) == world.owners(2) == world.owners(3)
    assert world.owners(1) == {"10.0.0.0/25": 1, "10.0.0.128/26": 2, "10.0.0.192/26": 3}


def test_3_a_peer_without_space_gets_the_upper_half_of_what_is_free() -> None:
    world = World("10.0.0.0/26")
    world.add(1, seeds(1))
    world.add(2, seeds(1))

    call = world.allocate(2, "a")
    world.run(1.0)

    assert address_of(call) == "10.0.0.32"
    assert world.owners(1) == {"10.0.0.0/27": 1, "10.0.0.32/27": 2}


def test_4_the_same_container_gets_the_same_address() -> None:
    world = World()
    world.add(1, seeds(1))

    calls = [world.allocate(1, "a"), world.allocate(1, "a")]
    world.run()

    assert address_of(calls[0]) == address_of(calls[1])
    assert calls[0].outcome == calls[1].outcome


def test_5_a_claim_of_a_free_address_of_another_peer_moves_that_address_alone() -> None:
    world = World("10.0.0.0/28")
    world.add(1, seeds(1))
    world.add(2, seeds(1))

    call = world.claim(2, "a", "10.0.0.5/32")
    world.run(1.0)

    assert isinstance(call.outcome, Claimed)
    assert [block for block, owner in world.owners(1).items() if owner == 2] == ["10.0.0.5/32"]


def test_6_a_claim_of_an_address_that_another_peer_uses_is_refused_by_name() -> None:
    world = World("10.0.0.0/28")
    world.add(1, seeds(1))
    world.add(2, seeds(1))
    used = world.allocate(1, "a")
    world.run()

    call = world.claim(2, "b", f"{address_of(used)}/32")
    world.run(1.0)

    assert isinstance(call.outcome, Conflict)
    assert f"address 10.0.0.1 is owned by other peer {peer_name(1)}(node-1)" in str(call.outcome)


def test_7_a_dead_peers_space_is_waited_for_until_rmpeer_gives_it() -> None:
    world = World("10.0.0.0/28")
    for number in (1, 2, 3):
        world.add(number, seeds(1, 2, 3))
    world.run(1.0)
    world.kill_node(1)
    calls = [world.allocate(2, f"pod{number}") for number in range(8)]
    world.run(60.0)
    waiting = [call for call in calls if call.outcome is None]
    assert waiting

    removed = world.reclaim(3, 1)
    world.run(5.0)

    assert removed.outcome == Reclaimed(peer_name(1), 8)
    assert all(isinstance(call.outcome, Allocated) for call in calls)


def test_8_another_range_deletes_what_was_stored_and_does_not_fit_the_peers() -> None:
    world = World("10.0.0.0/24")
    world.add(1, seeds(1, 2))
    peer = world.add(2, seeds(1, 2))
    world.run(1.0)
    peer.crash()
    peer.options = type(peer.options)(
        peer.options.name,
        (type(peer.options.families[0])(*2 * (Prefix.parse("10.9.0.0/24"),)),),
        peer.options.init,
        peer.options.nickname,
    )

    peer.start()
    world.run(2.0)

    text = "Deleting persisted data for IPAM range 10.0.0.0/24; our range is 10.9.0.0/24"
    assert text in peer.notes
    incompatible = "Incompatible IP allocation ranges (received: 10.9.0.0/24, ours: 10.0.0.0/24)"
    assert incompatible in [aside.reason for aside in world.peers[1].quarantined]
    assert any("ours: 10.9.0.0/24" in aside.reason for aside in peer.quarantined)


def test_9_other_seeds_are_told_and_one_ring_stands() -> None:
    """The link stays, where Weave Net closed it: a ring is no reason to lose a mesh."""
    world = World("10.0.0.0/24")
    world.partition([1], [2])
    world.add(1, seeds(1))
    world.add(2, seeds(2))
    world.run(5.0)

    world.heal()
    world.run(10.0)

    assert world.owners(1) == world.owners(2) != {}
    allocators = [peer.allocator for peer in world.peers.values() if peer.allocator is not None]
    troubles = [text for a in allocators for f in a.status().families for text in f.troubles]
    assert len(troubles) == 1
    assert troubles[0].startswith("IP allocation was seeded by different peers (received: [02:")


def test_10_observers_form_no_ring_until_an_elector_joins() -> None:
    world = World()
    for number in (1, 2, 3):
        world.add(number, Observer())
    call = world.allocate(1, "a")
    world.run(60.0)
    assert not call.is_answered
    assert world.status(1) == "priming"

    world.add(4, Consensus(1))

    assert world.settle(lambda: call.is_answered, 30.0)
    assert isinstance(call.outcome, Allocated)
    world.run(5.0)
    assert world.owners(2) == world.owners(4) != {}


def test_11_what_was_given_before_a_restart_is_not_given_again() -> None:
    world = World("10.0.0.0/28")
    peer = world.add(1, seeds(1))
    before = [world.allocate(1, f"old{number}") for number in range(5)]
    world.run()

    peer.crash()
    peer.start()
    after = [world.allocate(1, f"new{number}") for number in range(9)]
    world.run()

    given = [address_of(call) for call in before + after]
    assert len(set(given)) == len(given)


def test_12_a_cancelled_allocation_leaves_nothing_behind() -> None:
    world = World("10.0.0.0/30")
    peer = world.add(1, seeds(1))
    world.allocate(1, "a")
    world.allocate(1, "b")
    world.run()
    world.release(1, "a")
    waiting = world.allocate(1, "c")
    world.run(1.0)

    peer.give_up(waiting)
    world.run(120.0)

    assert not waiting.is_answered
    assert peer.allocator is not None
    assert [allocation.key for allocation in peer.allocator.allocations()] == [pod("b")]


def test_prime_is_answered_when_there_is_a_ring() -> None:
    world = World()
    world.add(1, Consensus(2))
    primed = world.prime(1)
    world.run(10.0)
    assert not primed.is_answered
    assert world.status(1) == "awaiting consensus (quorum: 2, known: 1)"

    world.add(2, Consensus(2))

    assert world.settle(lambda: primed.outcome == Primed(), 10.0)


def test_both_families_come_together() -> None:
    world = World(["10.0.0.0/24", "fd00::/64"])
    world.add(1, seeds(1))
    world.add(2, seeds(1))

    call = world.allocate(2, "a")
    world.run(1.0)

    assert addresses_of(call) == ["10.0.0.128", "fd00::8000:0:0:0"]
