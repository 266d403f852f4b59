"""Two labs with the same ranges at the same time: neither knows of the other."""

from __future__ import annotations

import time
from contextlib import ExitStack

import pytest

from weave_lab import Lab, LabSpec, traffic
from weave_lab.residue import Snapshot

pytestmark = pytest.mark.lab


def test_two_labs_side_by_side_and_neither_leaves_anything() -> None:
    with ExitStack() as stack:
        labs = [
            stack.enter_context(Lab.up(LabSpec(name=name, nodes=2)))
            for name in ("t-left", "t-right")
        ]
        left, right = labs
        pods = [[node.add_pod(f"p{node.name}") for node in lab.nodes()] for lab in labs]
        peers = [names_shown(lab, 4) for lab in labs]
        failed = [traffic.unreachable_pairs(each) for each in pods]

        # One goes down, the other does not notice.
        with right.namespaces() as namespaces:
            right.down()
            left_behind = Snapshot.take(right.layout, namespaces.numbers).items
        failed.append(traffic.unreachable_pairs(pods[0]))

    assert failed == [[], [], []]
    assert peers == [4, 4]
    assert [item for item in left_behind if "t-right" in item or "namespace" in item] == []
    assert [item for item in Snapshot.take(left.layout).items if "t-left" in item] == []


def names_shown(lab: Lab, wanted: int) -> int:
    """How often `weave status peers` names a node, once it is as often as wanted, or after a while:
    peers tell of their links when these have lasted for a moment."""
    deadline = time.monotonic() + 10.0
    while True:
        shown = lab.node("n1").exec(["weave", "status", "peers"]).stdout.count("(n")
        if shown == wanted or time.monotonic() > deadline:
            return shown
        time.sleep(0.1)
