"""A small cluster driven by Hypothesis: it looks for the shortest way to break an invariant.

The operations are those of `callers` and `faults`; here Hypothesis chooses them, and shrinks what
it finds.
"""

from __future__ import annotations

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from tests.sim_ipam.chaos import Chaos
from tests.sim_ipam.peer import Peer
from weave_model.attachment import AttachmentKey
from weave_model.prefix import Prefix

pytestmark = pytest.mark.sim


class ClusterMachine(RuleBasedStateMachine):
    """Every rule is one operation of `Callers` or `Faults`, followed by some time."""

    @initialize(seed=st.integers(0, 1 << 16))
    def start(self, seed: int) -> None:
        self.chaos = Chaos(seed, 0)

    def _after(self, seconds: float) -> None:
        self.chaos.world.run(seconds)

    @rule(seconds=st.sampled_from([0.0, 0.001, 0.5]))
    def allocate(self, seconds: float) -> None:
        self.chaos.callers.allocate()
        self._after(seconds)

    @rule()
    def ask_for_one_address(self) -> None:
        self.chaos.callers.allocate_static()
        self._after(0.5)

    @rule()
    def claim(self) -> None:
        self.chaos.callers.claim()
        self._after(0.5)

    @rule()
    def cut_coordination(self) -> None:
        self.chaos.faults.cut_coordination()

    @rule(seconds=st.sampled_from([0.0, 0.5]))
    def free(self, seconds: float) -> None:
        self.chaos.callers.release()
        self._after(seconds)

    @rule()
    def give_up(self) -> None:
        self.chaos.callers.give_up()

    @rule()
    def crash_with_state(self) -> None:
        self.chaos.faults.restart()

    @rule()
    def crash_without_state(self) -> None:
        self.chaos.faults.restart_without_state()

    @rule()
    def partition(self) -> None:
        self.chaos.faults.partition()
        self._after(2.0)

    @rule()
    def heal(self) -> None:
        self.chaos.faults.heal()
        self._after(2.0)

    @rule()
    def kill(self) -> None:
        self.chaos.faults.kill()

    @rule()
    def remove_on_one_or_two_sides(self) -> None:
        self.chaos.faults.remove()
        self._after(3.0)

    @rule()
    def revive(self) -> None:
        self.chaos.faults.revive()
        self._after(0.5)

    @rule()
    def jump_of_a_clock(self) -> None:
        self.chaos.faults.jump()

    @rule()
    def double_every_message(self) -> None:
        links = self.chaos.world.links
        links.duplication = 0.0 if links.duplication else 1.0

    @rule()
    def join(self) -> None:
        self.chaos.faults.join()

    @rule()
    def leave(self) -> None:
        self.chaos.faults.leave()

    @rule(seconds=st.sampled_from([1.0, 61.0]))
    def wait(self, seconds: float) -> None:
        self._after(seconds)

    @invariant()
    def no_address_is_held_twice(self) -> None:
        """On peers that agree on the ring; and as nobody lies here, on all others too."""
        if not hasattr(self, "chaos"):
            return
        holders: dict[Prefix, AttachmentKey] = {}
        for peer in self.chaos.world.peers.values():
            for key, in_use in peer.containers.items():
                for address in in_use.addresses:
                    assert holders.setdefault(address, key) == key

    @invariant()
    def every_peer_knows_what_runs_on_it(self) -> None:
        if hasattr(self, "chaos"):
            for peer in self.chaos.world.peers.values():
                self._check_known(peer)

    def _check_known(self, peer: Peer) -> None:
        if peer.allocator is None or peer.allocator.needs_adoption:
            return
        known = {allocation.key: allocation for allocation in peer.allocator.allocations()}
        for key, in_use in peer.containers.items():
            assert known[key].addresses == in_use.addresses

    def teardown(self) -> None:
        """In the end all agree, nothing is lost, and every address is free, used or resting."""
        if hasattr(self, "chaos"):
            self.chaos.calm()
            self.chaos.books.check_agreement()
            self.chaos.books.check_conservation()


ClusterMachine.TestCase.settings = settings(
    max_examples=30, stateful_step_count=40, deadline=None, derandomize=True
)
TestCluster = ClusterMachine.TestCase
