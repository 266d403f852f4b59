"""Traces arrive at a collector: one of an ADD goes through all services."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.otlp import Received, whole_add
from weave_lab import Lab, LabSpec, Node

pytestmark = pytest.mark.lab

COLLECTOR = "127.0.0.1:4317"
ROOT = Path(__file__).parents[2]
# Spans are sent in batches; the default waits 5 s for one to fill.
ENVIRONMENT = {
    "OTEL_EXPORTER_OTLP_ENDPOINT": f"http://{COLLECTOR}",
    "OTEL_BSP_SCHEDULE_DELAY": "200",
}


@pytest.fixture
def node() -> Iterator[Node]:
    spec = LabSpec(name=f"t-traces-{os.getpid()}", nodes=1, environment=ENVIRONMENT)
    with Lab.up(spec) as lab:
        yield lab.node("n1")


@pytest.fixture
def collector(node: Node) -> Iterator[subprocess.Popen[str]]:
    """On the loopback of the node, which is its own."""
    enter = ["nsenter", f"--net=/proc/{node.holder.pid}/ns/net", "--"]
    command = [*enter, sys.executable, "-m", "tests.otlp", COLLECTOR]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout
        assert process.stdout.readline() == "listening\n"
        yield process
        process.kill()


def received(collector: subprocess.Popen[str]) -> list[Received]:
    """The spans of an ADD, once all of them have arrived."""
    assert collector.stdout
    seen: list[Received] = []
    for line in collector.stdout:
        seen.append(Received(**json.loads(line)))
        if found := whole_add(seen):
            return found
    raise AssertionError("the collector has ended")


def test_an_add_is_one_trace_through_all_services(
    node: Node, collector: subprocess.Popen[str]
) -> None:
    node.add_pod("traced")

    spans = received(collector)

    by_id = {span.span: span for span in spans}
    (root,) = (span for span in spans if not span.parent)
    callers = {
        (span.service, span.name): by_id[span.parent].service for span in spans if span is not root
    }
    assert (root.service, root.name) == ("cni-shim", "CNI ADD")
    assert callers["ipam", "/weave.ipam.v1.Ipam/Allocate"] == "cni-shim"
    assert callers["router", "/weave.router.v1.Router/Prepare"] == "cni-shim"
    assert callers["router", "/weave.router.v1.Router/Activate"] == "cni-shim"
