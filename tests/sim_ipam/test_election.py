"""The election of the first ring: one ring, whatever the links do."""

from __future__ import annotations

import random

import pytest

from tests.sim_ipam.mesh import Links
from tests.sim_ipam.peer import Speed
from tests.sim_ipam.world import World, peer_name
from weave_ipam.core.documents import AcceptorState, Ballot
from weave_ipam.core.options import Consensus
from weave_ipam.core.paxos import Election
from weave_model.ring import Genesis

pytestmark = pytest.mark.sim

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

    assert election.think([A, B])
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
