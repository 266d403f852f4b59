"""Traces arrive at a collector: one of an ADD goes through all services."""

from __future__ import annotations

import contextlib
import json
import os
import queue
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.otlp import Received, whole_add
from weave_lab import Lab, LabSpec, Node

pytestmark = pytest.mark.lab

COLLECTOR = "127.0.0.1:4317"
TRIES = 10
# Spans leave within the delay above.
WAIT_S = 5
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


def pump(collector: subprocess.Popen[str]) -> queue.SimpleQueue[Received]:
    """What the collector prints, as it comes."""
    spans: queue.SimpleQueue[Received] = queue.SimpleQueue()

    def read() -> None:
        assert collector.stdout
        for line in collector.stdout:
            spans.put(Received(**json.loads(line)))

    threading.Thread(target=read, daemon=True).start()
    return spans


def add_until_one_is_whole(node: Node, arriving: queue.SimpleQueue[Received]) -> list[Received]:
    """The spans of one ADD.

    Services that had spans before there was a collector try it again seconds later, and what they
    have meanwhile is lost.
    """
    seen: list[Received] = []
    for number in range(TRIES):
        node.add_pod(f"traced{number}")
        end = time.monotonic() + WAIT_S
        with contextlib.suppress(queue.Empty):
            while True:
                seen.append(arriving.get(timeout=max(0.0, end - time.monotonic())))
                if found := whole_add(seen):
                    return found
    raise AssertionError(f"no ADD of {TRIES} arrived whole: {seen}")


def test_an_add_is_one_trace_through_all_services(
    node: Node, collector: subprocess.Popen[str]
) -> None:
    spans = add_until_one_is_whole(node, pump(collector))

    by_id = {span.span: span for span in spans}
    (root,) = (span for span in spans if not span.parent)
    callers = {
        (span.service, span.name): by_id[span.parent].service for span in spans if span is not root
    }
    assert (root.service, root.name) == ("cni-shim", "CNI ADD")
    assert callers["ipam", "/weave.ipam.v1.Ipam/Allocate"] == "cni-shim"
    assert callers["router", "/weave.router.v1.Router/Prepare"] == "cni-shim"
