"""What the node makes of what it is told."""

from __future__ import annotations

from dataclasses import replace

from weave_model.peer import PeerName
from weave_model.prefix import Family, Prefix
from weave_model.ring import OwnedBlock, RingView
from weave_router.core.inputs import Peer
from weave_router.node import Node

UNIVERSE = Prefix.parse("10.32.0.0/12")
SELF, OTHER, THIRD = (PeerName(bytes([2, 0, 0, 0, 0, number])) for number in (1, 2, 3))
PEERS = {name: Peer(name, (Prefix.parse(f"10.99.0.{name[-1]}"),)) for name in (SELF, OTHER, THIRD)}


def ring(lower: PeerName, upper: PeerName) -> dict[Family, RingView]:
    halves = zip(UNIVERSE.halves(), (lower, upper), strict=True)
    return {
        Family.IPV4: RingView(UNIVERSE, tuple(OwnedBlock(half, owner) for half, owner in halves))
    }


def names(node: Node) -> list[PeerName]:
    return [peer.name for peer in node.peers or ()]


def node() -> Node:
    made = Node(ranges=(UNIVERSE,))
    made.learn_rings(ring(SELF, OTHER))
    made.learn_peers(PEERS.values())
    return made


def test_a_peer_that_owns_addresses_outlives_the_memory_of_gossip() -> None:
    made = node()

    made.learn_peers([PEERS[SELF]])

    assert names(made) == [SELF, OTHER]
    assert made.told == {SELF}


def test_a_peer_goes_with_its_addresses() -> None:
    made = node()
    made.learn_peers([PEERS[SELF]])

    made.learn_rings(ring(SELF, SELF))

    assert names(made) == [SELF]


def test_a_ring_takes_away_no_peer_that_the_mesh_knows() -> None:
    made = node()

    made.learn_rings(ring(SELF, SELF))

    assert names(made) == [SELF, OTHER, THIRD]


def test_what_the_mesh_says_of_a_peer_replaces_what_was_kept() -> None:
    made = node()
    made.learn_peers([PEERS[SELF]])
    moved = replace(PEERS[OTHER], underlay=(Prefix.parse("10.99.0.77"),))

    made.learn_peers([PEERS[SELF], moved])

    assert made.peers == (PEERS[SELF], moved)
