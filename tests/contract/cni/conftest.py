"""CNI 1.1 as tests for any plugin executable.

    pytest tests/contract/cni                         bridge, ptp and weave-net
    pytest tests/contract/cni --cni-plugin=mine.json  another one; see subjects.given

Every test is named after a statement of the specification, S01 to S55. Those that a reference
plugin does not fulfil are listed in deviations.py, and must fail.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator

import pytest

from tests.contract.cni.deviations import DEVIATIONS
from tests.contract.cni.runtime import Runtime, Subject
from tests.contract.cni.subjects import NAMES, subject

_MARKERS = {"weave-net": pytest.mark.lab}


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("cni", "CNI conformance")
    group.addoption("--cni-plugin", help="JSON file that describes the plugin to test")


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Runs a test of any plugin once per plugin, one after the other."""
    if "plugin" not in metafunc.fixturenames:
        return
    chosen = metafunc.config.getoption("--cni-plugin", default=None)
    names = [chosen] if chosen else NAMES
    params = [pytest.param(name, marks=_MARKERS.get(name, pytest.mark.kernel)) for name in names]
    metafunc.parametrize("plugin", params, indirect=True, scope="session")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        name = getattr(item, "originalname", item.name)
        params = getattr(item, "callspec", None)
        chosen = params.params.get("plugin") if params else None
        reason = DEVIATIONS.get(chosen or "", {}).get(name)
        if reason:
            item.add_marker(pytest.mark.xfail(reason=reason, strict=True))


@pytest.fixture(scope="session")
def plugin(request: pytest.FixtureRequest) -> Iterator[Subject]:
    with subject(request.param) as made:
        yield made


@pytest.fixture(scope="session")
def numbers() -> Iterator[int]:
    return itertools.count(1)


@pytest.fixture
def runtime(plugin: Subject, numbers: Iterator[int]) -> Iterator[Runtime]:
    """A network of its own for each test, and nothing left of it afterwards."""
    made = Runtime(plugin, f"kit{next(numbers)}")
    yield made
    made.clean_up()
