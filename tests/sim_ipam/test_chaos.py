"""A few seeds of the simulation in every test run; `make sim-ipam` runs many."""

from __future__ import annotations

import pytest

from tests.sim_ipam.chaos import Chaos

pytestmark = pytest.mark.sim

# Seeds that broke something once: each names what.
FOUND = {
    9: "a crash between loss of state and adoption passed for knowledge",
    25: "a leaving peer asked its heir for what it had handed over, for ever",
    93: "a fenced peer gave an address in the pass that handed it over",
    118: "the same with the victim's own requests",
    1_000_003: "an address that was asked back a second time had a deadline in the past",
}


@pytest.mark.parametrize("seed", FOUND)
def test_seeds_that_broke_something_once(seed: int) -> None:
    Chaos(seed, 300).run()


def test_random_operations_break_nothing(sim_seed: int) -> None:
    Chaos(1_000_000 + sim_seed, 500).run()
