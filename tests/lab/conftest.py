"""One cluster for all tests that leave it as they found it."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from weave_lab import Lab, LabSpec, Node


@pytest.fixture(scope="session")
def cluster() -> Iterator[Lab]:
    """Three nodes with all services, ready; whoever breaks something repairs it."""
    with Lab.up(LabSpec(name="t-cluster", nodes=3)) as lab:
        yield lab


@pytest.fixture
def n1(cluster: Lab) -> Node:
    return cluster.node("n1")


@pytest.fixture
def n2(cluster: Lab) -> Node:
    return cluster.node("n2")
