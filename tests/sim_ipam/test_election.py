"""The election of the first ring: one ring, whatever the links do."""

from __future__ import annotations

import random

import pytest

from tests.sim_ipam.mesh import Links
from tests.sim_ipam.peer import Speed
from tests.sim_ipam.world import World, peer_name
from weave_ipam.core.documents import AcceptorState, Ballot
from weave_ipam.core.initial import Initial
from weave_ipam.core.options import Consensus
from weave_ipam.core.paxos import GATHER_S, Election
from weave_model.prefix import Prefix
from weave_model.ring import Genesis

pytestmark = pytest.mark.sim

UNIVERSE = Prefix.parse("10.0.0.0/24")
A, B, C = (peer_name(number) for number in (1, 2, 3))
# Trials of each size with each seed; the fixed seeds make 5 times this many.
TRIALS = 4


def geneses(world: World) -> set[Genesis]:
    """All rings that anybody has founded or joined, ever: gossip keeps every document."""
    return {
        document.genesis
        for peer in world.peers.values()
        for document in peer.state.documents.values()
    }


def trial(voters: int, seed: int) -> None:
    """Voters start, vanish, forget and are cut off at random; then all becomes well."""
    rng = random.Random(f"{voters} {seed}")
    links = Links(rng.choice((0.0, 0.05, 0.3)), rng.choice((0.0, 0.3)), 0.1, 0.5)
    world = World("10.0.0.0/24", seed=rng.getrandbits(32), links=links, speed=Speed(0.02, 0.02))
    numbers = list(range(1, voters + 1))
    world.partition(*([number] for number in numbers))
    for number in numbers:
        world.add(number, Consensus(voters))
        world.prime(number)
    for _ in range(12):
        fault = rng.random()
        if fault < 0.7:
            groups: list[list[int]] = [[] for _ in range(rng.randint(1, 3))]
            for number in numbers:
                rng.choice(groups).append(number)
            world.partition(*groups)
        else:
            peer = world.peers[rng.choice(numbers)]
            peer.crash()
            if fault < 0.8:
                peer.lose_state()
            peer.start()
            world.prime(int.from_bytes(peer.name[-2:], "big"))
        world.run(rng.choice((0.05, 0.5, 2.0)))
        assert len(geneses(world)) <= 1
    world.heal()
    links.loss = 0.0
    done = world.settle(lambda: all(world.owners(number) for number in numbers), 90.0)
    assert done, [world.status(number) for number in numbers]
    world.run(5.0)
    assert len(geneses(world)) == 1
    assert len({tuple(world.owners(number).items()) for number in numbers}) == 1


@pytest.mark.parametrize("voters", range(1, 9))
def test_partitions_and_restarts_never_found_two_rings(voters: int, sim_seed: int) -> None:
    """Also for even numbers, where Weave Net's quorum on Kubernetes was no majority."""
    for number in range(TRIALS):
        trial(voters, sim_seed * TRIALS + number)


def test_two_halves_of_four_found_no_ring() -> None:
    world = World()
    world.partition([1, 2], [3, 4])
    for number in (1, 2, 3, 4):
        world.add(number, Consensus(4))
        world.prime(number)

    world.run(120.0)

    assert not geneses(world)
    assert world.status(1) == "awaiting consensus (quorum: 3, known: 2)"


def test_forty_voters_that_start_at_once_do_not_chase_each_other() -> None:
    """Weave Net needed 15 minutes, or for ever."""
    world = World("10.0.0.0/16", links=Links(0.05, 0.0, 0.0, 0.5, repair_s=10.0))
    for number in range(1, 41):
        world.add(number, Consensus(40))
        world.prime(number)

    assert world.settle(lambda: all(world.owners(number) for number in world.peers), 10.0)


def test_a_voter_that_lost_its_state_keeps_its_promise() -> None:
    """It takes its vote back from its own document, before it votes again."""
    election = Election(A, 3, AcceptorState(), random.Random(1))
    election.recover(AcceptorState(Ballot(5, C), Ballot(3, B), Genesis((B,))))

    assert not election.observe(B, AcceptorState(Ballot(4, B), Ballot(4, B), Genesis((B,))), 0.0)
    assert election.state == AcceptorState(Ballot(5, C), Ballot(3, B), Genesis((B,)))


def test_a_proposer_takes_over_the_value_that_may_have_been_chosen() -> None:
    election = Election(C, 3, AcceptorState(), random.Random(1))
    election.observe(A, AcceptorState(Ballot(1, A), Ballot(1, A), Genesis((A, B))), 0.0)
    election.want([A, B], 0.0)
    assert election.propose_if_due(10.0)
    mine = election.state.promised

    election.observe(B, AcceptorState(mine), 11.0)

    assert election.think([A, B], 11.0)
    assert election.state.accepted_value == Genesis((A, B))


def test_more_voters_than_expected_raise_the_quorum() -> None:
    election = Election(A, 2, AcceptorState(), random.Random(1))
    assert election.quorum == 2

    for number in (2, 3, 4):
        election.observe(peer_name(number), AcceptorState(Ballot(1, B)), 0.0)

    assert (election.known, election.quorum) == (4, 3)


def test_an_abandoned_proposal_is_overtaken_after_some_patience() -> None:
    election = Election(A, 2, AcceptorState(), random.Random(1))
    election.want([B], 0.0)
    election.observe(B, AcceptorState(Ballot(7, B)), 0.0)
    assert not election.propose_if_due(0.5)

    assert election.deadline is not None
    assert election.propose_if_due(election.deadline)

    assert election.state.promised == Ballot(8, A)


def test_all_who_are_there_share_from_the_start(sim_seed: int) -> None:
    """A quorum of two of three was faster than the third, which began with an eighth or nothing."""
    for number in range(TRIALS):
        world = World("10.0.0.0/24", seed=sim_seed * TRIALS + number, links=Links(delay_s=0.05))
        for voter in (1, 2, 3):
            world.add(voter, Consensus(3))
        world.prime(1)
        world.run(5.0)

        assert world.owners(2) == {"10.0.0.0/25": 1, "10.0.0.128/26": 2, "10.0.0.192/26": 3}


def test_a_quorum_does_not_wait_long_for_the_others() -> None:
    world = World()
    for voter in (1, 2):
        world.add(voter, Consensus(3))
    world.prime(1)

    assert world.settle(lambda: bool(world.owners(1) and world.owners(2)), 2 * GATHER_S)


def test_voters_of_another_range_are_no_voters() -> None:
    """And both sides say so: the third would have made a majority for each of the others."""
    world = World("10.0.0.0/24")
    world.add(1, Consensus(3))
    world.add(2, Consensus(3), "10.99.0.0/24")
    for number in (1, 2):
        world.prime(number)
    world.run(60.0)

    assert not geneses(world)
    for number, other, received, ours in (
        (1, 2, "10.99.0.0/24", "10.0.0.0/24"),
        (2, 1, "10.0.0.0/24", "10.99.0.0/24"),
    ):
        allocator = world.peers[number].allocator
        assert allocator is not None
        (status,) = allocator.status().families
        assert status.status == "awaiting consensus (quorum: 2, known: 1)"
        assert status.troubles == (
            (
                f"{peer_name(other)}(node-{other}): Incompatible IP allocation ranges"
                f" (received: {received}, ours: {ours})"
            ),
        )


def test_a_voter_that_does_not_say_its_range_counts() -> None:
    """It is of an older version."""
    initial = Initial(UNIVERSE, A, Consensus(2), AcceptorState(), random.Random(1), [])

    assert not initial.receive(B, AcceptorState(Ballot(1, B)))
    initial.step(0.0, [B])

    assert initial.status() == "awaiting consensus (quorum: 2, known: 2)"
