"""Two nodes with a containerd each, and the network under them."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cri.runtime import Cri
from weave_lab import Lab, LabSpec, Node, pause
from weave_lab.containerd import Containerd

CHAIN = ("--chain", "portmap")


@pytest.fixture(scope="module")
def lab() -> Iterator[Lab]:
    """No service runs yet."""
    # Several runs may share a machine.
    spec = LabSpec(name=f"t-cri-{os.getpid()}", nodes=2, arguments={"cni-shim": CHAIN})
    made = Lab.create(spec)
    try:
        yield made
    finally:
        made.down()


@pytest.fixture(scope="module")
def early_network(lab: Lab, tmp_path_factory: pytest.TempPathFactory) -> list[bool]:
    """What both runtimes said of the network before weave-net ran, and after."""
    archive = tmp_path_factory.mktemp("images") / "pause.tar"
    pause.write_archive(archive)
    for node in lab.nodes():
        started(node, archive)
    before = [Cri(Containerd(node)).network_is_ready() for node in lab.nodes()]
    lab.start()
    return before


@pytest.fixture
def n1(lab: Lab, early_network: list[bool]) -> Iterator[Cri]:
    yield from used(lab.node("n1"))


@pytest.fixture
def n2(lab: Lab, early_network: list[bool]) -> Iterator[Cri]:
    yield from used(lab.node("n2"))


def started(node: Node, archive: Path) -> None:
    containerd = Containerd(node)
    containerd.install(("loopback", "portmap"))
    containerd.start()
    containerd.import_image(archive)


def used(node: Node) -> Iterator[Cri]:
    cri = Cri(Containerd(node))
    yield cri
    cri.remove_all()
