"""Rules for all tests: who may run what, where, and with which seeds."""

import os
import random

import pytest
from hypothesis import settings

# The machine is shared with other tests: how long an example took says nothing.
settings.register_profile("weave", deadline=None)
settings.load_profile("weave")

PRIVILEGED_MARKERS = ("kernel", "lab")
FIXED_SIM_SEEDS = range(5)


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("sim", "simulations")
    group.addoption("--sim-seed", type=int, help="run simulations with this seed only")
    group.addoption("--sim-seeds", type=int, default=0, help="run this many further, random seeds")


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Run a test that takes `sim_seed` once per seed; the seed is part of the test's name."""
    if "sim_seed" in metafunc.fixturenames:
        metafunc.parametrize("sim_seed", sim_seeds(metafunc.config))


def sim_seeds(config: pytest.Config) -> list[int]:
    only: int | None = config.getoption("--sim-seed")
    if only is not None:
        return [only]
    # Every xdist worker must collect the same tests, so all draw from the id of the run.
    run = getattr(config, "workerinput", {}).get("testrunuid")
    fresh = random.Random(run)
    count: int = config.getoption("--sim-seeds")
    return [*FIXED_SIM_SEEDS, *(fresh.randrange(1 << 32) for _ in range(count))]


# First, because xdist reads the groups in this very hook.
@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Tests of the kernel run one by one in one worker, and so do those of the lab: nodes of one
    name, or two measures of lost packets, would meet otherwise."""
    for item in items:
        if marker := _privileged(item):
            item.add_marker(pytest.mark.xdist_group(marker))


def pytest_runtest_setup(item: pytest.Item) -> None:
    """Fail tests marked `kernel` or `lab` where they cannot run; a skip would hide them."""
    marker = _privileged(item)
    if marker is None:
        return
    if os.geteuid() != 0:
        pytest.fail(
            f"Tests marked `{marker}` make network namespaces and need root; "
            f"run them as root or leave them out with: -m 'not {marker}'",
            pytrace=False,
        )
    if "PYTEST_XDIST_WORKER" in os.environ and not item.nodeid.endswith(f"@{marker}"):
        pytest.fail(
            f"Tests marked `{marker}` must run one by one; "
            "with -n, xdist keeps them on one worker only with: --dist loadgroup",
            pytrace=False,
        )


def _privileged(item: pytest.Item) -> str | None:
    return next(filter(item.get_closest_marker, PRIVILEGED_MARKERS), None)
