"""One cluster for the whole suite, and its figures at the end."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest

from tests.k8s import figures, redis_image
from tests.k8s.cluster import ROOT, Cluster

ARCHIVE = ROOT / "build" / "images" / "weave-net.tar"


@pytest.fixture(scope="session")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """Three nodes without a pod network; KEEP=1 leaves them for a look."""
    redis = tmp_path_factory.mktemp("images") / "redis.tar"
    redis_image.write_archive(redis)
    made = Cluster(3)
    made.up([ARCHIVE, redis])
    figures.note("image, compressed", f"{ARCHIVE.stat().st_size / 1e6:.0f} MB")
    yield made
    if not os.environ.get("KEEP"):
        made.down()


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Prints what was measured."""
    if figures.noted:
        terminalreporter.section("figures")
        for what, value in figures.noted:
            terminalreporter.write_line(f"{what:50} {value}")
