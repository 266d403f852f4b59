"""What callers may ask for besides any address, and what they are told: subnets, claims, status."""

from __future__ import annotations

import pytest

from tests.sim_ipam.clusters import cluster, conflicts, seeds
from tests.sim_ipam.peer import Call
from tests.sim_ipam.world import World, address_of, peer_name, pod
from weave_ipam.core.options import Consensus, Observer
from weave_ipam.core.results import Claimed
from weave_model.errors import Conflict, Invalid
from weave_model.prefix import Prefix
from weave_model.ring import Block, Genesis, RingDocument

pytestmark = pytest.mark.sim


def why(world: World, number: int, call: Call) -> str:
    allocator = world.peers[number].allocator
    assert allocator is not None
    return allocator.why_pending(call.request)


def test_a_subnet_is_used_but_for_its_ends_wherever_it_lies() -> None:
    """The subnet belongs to the other peer: space in it comes from there."""
    world = cluster("10.0.0.0/24", 1, 2)

    calls = [world.allocate(1, f"a{number}", subnet="10.0.0.248/29") for number in range(7)]
    world.run(10.0)

    assert sorted(map(address_of, calls[:6])) == [f"10.0.0.{number}" for number in range(249, 255)]
    assert str(calls[-1].outcome).startswith("no free address is left in 10.0.0.248/29")


def test_a_subnet_outside_the_range_is_refused_with_both() -> None:
    world = cluster("10.0.0.0/24", 1)

    call = world.allocate(1, "a", subnet="10.9.0.0/24")
    world.run()

    assert isinstance(call.outcome, Invalid)
    assert "10.9.0.0/24" in str(call.outcome)
    assert "10.0.0.0/24" in str(call.outcome)


def test_an_attachment_holds_one_address_whatever_subnet_it_asks_for_next() -> None:
    world = cluster("10.0.0.0/24", 1)
    world.allocate(1, "a", subnet="10.0.0.0/28")
    world.run()

    other = world.allocate(1, "a", subnet="10.0.0.64/28")
    world.run()

    assert isinstance(other.outcome, Conflict)
    assert "holds 10.0.0.1/32 already" in str(other.outcome)


def test_a_claim_is_idempotent_and_tells_another_holder() -> None:
    world = cluster("10.0.0.0/24", 1)
    calls = [world.claim(1, name, "10.0.0.7") for name in ("a", "a", "b")]
    world.run()

    assert [type(call.outcome) for call in calls] == [Claimed, Claimed, Conflict]
    assert str(calls[2].outcome) == f"address 10.0.0.7 is already owned by {pod('a')}"


def test_a_claim_of_an_unreachable_peers_address_waits_and_says_for_whom() -> None:
    world = cluster("10.0.0.0/24", 1, 2)
    world.kill_node(2)
    world.run(1.0)

    call = world.claim(1, "a", "10.0.0.200")
    world.run(60.0)
    assert not call.is_answered
    assert why(world, 1, call).startswith(f"waiting for address 10.0.0.200 from {peer_name(2)}")

    world.reclaim(1, 2)
    world.run(10.0)
    assert isinstance(call.outcome, Claimed)


def test_defect_5_from_a_block_that_was_lost_nothing_is_given_any_more() -> None:
    """Weave Net's ring shrank, its set of free addresses did not, and the process panicked."""
    world = cluster("10.0.0.0/27", 1, 2, 3)
    world.peers[3].crash()
    lost = Prefix.parse("10.0.0.16/30")
    genesis = Genesis(tuple(map(peer_name, (1, 2, 3))))
    rival = RingDocument(Prefix.parse("10.0.0.0/27"), genesis, (Block(lost, 1),))
    world.mesh.publish(world.peers[3].replica, "ring", "4", rival)
    world.run(5.0)

    calls = [world.allocate(2, f"a{number}", subnet="10.0.0.16/29") for number in range(2)]
    world.run(5.0)

    assert sorted(map(address_of, calls)) == ["10.0.0.20", "10.0.0.21"]
    assert not conflicts(world, 2)


def test_the_status_is_said_in_weave_nets_words_and_order() -> None:
    world = World("10.0.0.0/29")
    world.add(1, Consensus(3))
    assert world.status(1) == "idle"

    call = world.allocate(1, "a")
    world.run(1.0)
    assert world.status(1) == "awaiting consensus (quorum: 2, known: 1)"
    assert why(world, 1, call) == "awaiting consensus (quorum: 2, known: 1)"

    world.add(2, Consensus(3))
    world.settle(lambda: call.is_answered)
    assert world.status(1) == "ready"

    world.kill_node(2)
    for number in range(8):
        world.allocate(1, f"b{number}")
    world.run(5.0)
    assert world.status(1) == "waiting for IP(s) to become available"


def test_a_peer_that_only_observes_is_priming_once_somebody_asks() -> None:
    world = World()
    world.add(1, Observer())
    assert world.status(1) == "idle"

    world.prime(1)
    world.run(1.0)

    assert world.status(1) == "priming"


def test_a_peer_without_a_share_is_ready_as_long_as_an_owner_is_there() -> None:
    world = World("10.0.0.0/28")
    world.add(1, seeds(1))
    world.add(2, seeds(1))
    world.run(1.0)
    assert world.status(2) == "ready"

    world.kill_node(1)
    world.run(1.0)

    assert world.status(2).startswith("all IP ranges owned by unreachable peers")
