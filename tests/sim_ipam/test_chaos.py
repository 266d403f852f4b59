"""A few seeds of the simulation in every test run; `make sim-ipam` runs many."""

from __future__ import annotations

import pytest

from tests.sim_ipam.chaos import Chaos

pytestmark = pytest.mark.sim

# Seeds that broke something once, with their operations: each names what.
FOUND = {
    (9, 300): "a crash between loss of state and adoption passed for knowledge",
    (25, 300): "a leaving peer asked its heir for what it had handed over, for ever",
    (93, 300): "a fenced peer gave an address in the pass that handed it over",
    (118, 300): "the same with the victim's own requests",
    (1_000_003, 300): "an address that was asked back a second time had a deadline in the past",
    (6772, 1000): "an old grant to an heir passed for the newest claim",
    (1553, 1000): "a leaving peer had one for an address that it no longer asked back",
}


@pytest.mark.parametrize(("seed", "operations"), FOUND)
def test_seeds_that_broke_something_once(seed: int, operations: int) -> None:
    Chaos(seed, operations).run()


def test_random_operations_break_nothing(sim_seed: int) -> None:
    Chaos(1_000_000 + sim_seed, 500).run()
