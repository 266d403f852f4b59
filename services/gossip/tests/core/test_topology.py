"""Reachability, kept step by step, against a search of the graph as it is; driven by a state
machine.
"""

from __future__ import annotations

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from weave_gossip.core.topology import Topology
from weave_model.peer import PeerName

NAMES = [PeerName(bytes([2, 0, 0, 0, 0, number])) for number in range(1, 9)]
OWN = NAMES[0]


class TopologyMachine(RuleBasedStateMachine):
    """Peers list links at random; the model is the listing itself."""

    def __init__(self) -> None:
        super().__init__()
        self.topology = Topology(OWN)
        self.listed: dict[PeerName, set[PeerName]] = {name: set() for name in NAMES}

    @rule(peer=st.sampled_from(NAMES), others=st.sets(st.sampled_from(NAMES), max_size=5))
    def list_links(self, peer: PeerName, others: set[PeerName]) -> None:
        self.listed[peer] = others - {peer}
        self.topology.set_links(peer, sorted(others))

    @rule(one=st.sampled_from(NAMES), other=st.sampled_from(NAMES))
    def link_both(self, one: PeerName, other: PeerName) -> None:
        for here, there in ((one, other), (other, one)):
            self.list_links(here, self.listed[here] | {there})

    @rule()
    def settle(self) -> None:
        self.topology.settle()

    @invariant()
    def reaches_what_a_search_finds(self) -> None:
        found = self._search(set())
        reached = set(self.topology.reachable())
        if self.topology.is_unsettled:
            assert reached >= found
        else:
            assert reached == found

    @invariant()
    def next_hops_are_the_first_steps_of_shortest_paths(self) -> None:
        distances = self._distances()
        for name in NAMES[1:]:
            hop = self.topology.next_hop(name)
            if name not in distances:
                assert hop is None
            else:
                assert hop is not None
                assert hop in self._neighbours(OWN)
                assert self._distances(hop)[name] == distances[name] - 1

    @invariant()
    def knows_which_neighbours_another_path_leads_to(self) -> None:
        for neighbour in self._neighbours(OWN):
            cut = {frozenset((OWN, neighbour))}
            assert self.topology.has_path_without(neighbour) == (neighbour in self._search(cut))

    def _neighbours(self, name: PeerName) -> set[PeerName]:
        return {other for other in self.listed[name] if name in self.listed[other]}

    def _search(self, without: set[frozenset[PeerName]]) -> set[PeerName]:
        found = {OWN}
        queue = [OWN]
        while queue:
            here = queue.pop()
            for other in self._neighbours(here):
                if other not in found and frozenset((here, other)) not in without:
                    found.add(other)
                    queue.append(other)
        return found

    def _distances(self, start: PeerName = OWN) -> dict[PeerName, int]:
        distances = {start: 0}
        queue = [start]
        while queue:
            here = queue.pop(0)
            for other in self._neighbours(here):
                if other not in distances:
                    distances[other] = distances[here] + 1
                    queue.append(other)
        return distances


TestTopology = TopologyMachine.TestCase
TestTopology.settings = settings(max_examples=60, stateful_step_count=40)
