"""A cluster with a secret: rotated node by node, refused where it is wrong, shown to nobody."""

from __future__ import annotations

import itertools
import json
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import grpc
import pytest

from weave.gossip.v1 import gossip_pb2, gossip_pb2_grpc
from weave_lab import Lab, LabSpec, Node, processes
from weave_lab.services import GOSSIP, SERVICES

pytestmark = pytest.mark.lab

# No word that anything else could print.
OLD = "quick-sphinx-of-onyx"
NEW = "judge-my-vow-instead"
WRONG = "pack-five-dozen-jugs"
TIMEOUT_S = 60.0
SAMPLE_S = 0.1


@pytest.fixture(scope="module")
def secret_lab() -> Iterator[Lab]:
    """Everything runs; gossip logs all it can, and has the secret from its environment."""
    spec = LabSpec(name="t-secret", nodes=3, arguments={"gossip": ["--log-level", "debug"]})
    with Lab.create(spec) as lab:
        for node in lab.nodes():
            node.launch("gossip", environment={"WEAVE_PASSWORD": OLD})
        lab.start()
        until(lambda: all(len(established(node)) == 2 for node in lab.nodes()))
        yield lab


def until(holds: Callable[[], bool]) -> None:
    deadline = time.monotonic() + TIMEOUT_S
    while not holds():
        assert time.monotonic() < deadline, "not within the deadline"
        time.sleep(SAMPLE_S)


@contextmanager
def gossip_of(node: Node) -> Iterator[gossip_pb2_grpc.GossipStub]:
    with grpc.insecure_channel(f"unix://{node.layout.run_dir}/gossip/api.sock") as channel:
        yield gossip_pb2_grpc.GossipStub(channel)


def status_of(node: Node) -> gossip_pb2.GetStatusResponse:
    with gossip_of(node) as gossip:
        return gossip.GetStatus(gossip_pb2.GetStatusRequest(), timeout=10, wait_for_ready=True)


def established(node: Node) -> set[str]:
    return {
        each.nickname
        for each in status_of(node).connections
        if each.state == gossip_pb2.CONNECTION_STATE_ESTABLISHED and each.encrypted
    }


def reasons(node: Node) -> set[str]:
    """Why connections failed, and why the links before the present ones ended."""
    return {each.last_error for each in status_of(node).connections}


def restart(node: Node, environment: Mapping[str, str]) -> None:
    node.stop("gossip")
    node.start("gossip", environment=environment)


def shown(node: Node) -> str:
    return node.exec(["weave", "status", "connections"]).stdout


@dataclass
class Observer:
    """Looks at a node's links over and over; notes when each was gone, and for how long."""

    node: Node
    names: frozenset[str]
    outages: list[tuple[str, float]] = field(default_factory=list)
    _stop: threading.Event = field(default_factory=threading.Event)

    @contextmanager
    def watching(self) -> Iterator[None]:
        thread = threading.Thread(target=self._run)
        thread.start()
        try:
            yield
        finally:
            self._stop.set()
            thread.join()

    def _run(self) -> None:
        gone_since: dict[str, float] = {}
        with gossip_of(self.node) as gossip:
            is_last = False
            while not is_last:
                # Told to stop it looks once more, at what the test has seen restored.
                is_last = self._stop.wait(SAMPLE_S)
                answer = gossip.GetStatus(gossip_pb2.GetStatusRequest(), timeout=30)
                up = {
                    each.nickname
                    for each in answer.connections
                    if each.state == gossip_pb2.CONNECTION_STATE_ESTABLISHED
                }
                now = time.monotonic()
                for name in self.names - up:
                    gone_since.setdefault(name, now)
                for name in up & gone_since.keys():
                    self.outages.append((name, now - gone_since.pop(name)))
        self.outages += [(name, float("inf")) for name in gone_since]


def test_a_secret_is_rotated_node_by_node_and_only_the_restarted_one_reconnects(
    secret_lab: Lab,
) -> None:
    """Each node stays without a link for its own restart, two others never part."""
    nodes = secret_lab.nodes()
    names = frozenset(node.name for node in nodes)
    steps = (
        {"WEAVE_PASSWORD": NEW, "WEAVE_PASSWORD_PREVIOUS": OLD},
        {"WEAVE_PASSWORD": NEW},
    )
    for step, restarted in itertools.product(steps, nodes):
        others = [node for node in nodes if node.name != restarted.name]
        observers = [Observer(node, names - {node.name}) for node in others]
        with observers[0].watching(), observers[1].watching():
            restart(restarted, step)
            for node in nodes:
                until(lambda node=node: established(node) == names - {node.name})  # type: ignore[misc]

        for node, observer in zip(others, observers, strict=True):
            assert {name for name, _ in observer.outages} <= {restarted.name}
            # Whoever had its turn said goodbye; no link ended for another reason.
            assert reasons(node) <= {"", "shutting down"}
        longest = max((s for each in observers for _, s in each.outages), default=0.0)
        assert longest < TIMEOUT_S
        print(f"{restarted.name} was without a link for {longest:.1f} s")


@pytest.mark.parametrize(
    ("environment", "there", "here"),
    [
        pytest.param({"WEAVE_PASSWORD": WRONG}, "wrong secret", "wrong secret", id="wrong"),
        pytest.param(
            {},
            "no secret here, but one is set there",
            "no secret there, but one is set here",
            id="none",
        ),
    ],
)
def test_a_node_without_the_secret_is_refused_and_both_sides_show_why(
    secret_lab: Lab, environment: dict[str, str], there: str, here: str
) -> None:
    n1, n2, n3 = secret_lab.nodes()
    lost_before = status_of(n1).terminated_connections
    right = _secrets_of(n3)
    restart(n3, environment)
    try:
        outbound = rf"-> {n1.address}:6783"
        until(lambda: any(_is_failed(line, outbound, there) for line in shown(n3).splitlines()))
        until(lambda: any(_is_failed(line, "<- ", here) for line in shown(n1).splitlines()))
        assert established(n1) == {"n2"}
        assert established(n2) == {"n1"}
        # The link to the former life of n3 only.
        assert status_of(n1).terminated_connections == lost_before + 1
    finally:
        restart(n3, right)
    until(lambda: established(n1) == {"n2", "n3"} and established(n3) == {"n1", "n2"})
    assert here not in shown(n1), shown(n1)


def _is_failed(line: str, beginning: str, reason: str) -> bool:
    state, _, info = line[len("-> ") + 21 :].strip().partition(" ")
    retry = ", retry: 20" if beginning.startswith("->") else ""
    return (
        line.startswith(beginning) and state == "failed" and info.strip().startswith(reason + retry)
    )


def _secrets_of(node: Node) -> dict[str, str]:
    """What its gossip was started with: the tests before may have changed it."""
    process = node.service_process("gossip")
    assert process is not None
    environment = Path(f"/proc/{process.pid}/environ").read_text().split("\0")
    return dict(each.split("=", 1) for each in environment if each.startswith("WEAVE_PASSWORD"))


def test_no_secret_is_in_logs_reports_states_or_arguments(secret_lab: Lab) -> None:
    """After rotations and refusals, at the most talkative log level."""
    secrets = (OLD, NEW, WRONG)
    for node in secret_lab.nodes():
        texts: dict[str, str] = {service.name: node.log(service.name) for service in SERVICES}
        assert "connection ready" in texts[GOSSIP.name]
        for command in (("status",), ("status", "connections"), ("report",)):
            texts[" ".join(command)] = node.exec(["weave", *command]).stdout
        assert _report_is_whole(texts["report"])
        for path in node.layout.state_dir.rglob("*"):
            if path.is_file():
                texts[str(path)] = path.read_text(errors="replace")
        found = [where for where, text in texts.items() if any(each in text for each in secrets)]
        assert found == []

    with secret_lab.namespaces() as namespaces:
        lines = {
            each.pid: Path(f"/proc/{each.pid}/cmdline").read_bytes()
            for each in processes.inside(namespaces.numbers)
        }
    assert any(b"weave_gossip" in line for line in lines.values())
    assert [pid for pid, line in lines.items() if any(s.encode() in line for s in secrets)] == []


def _report_is_whole(text: str) -> bool:
    report: dict[str, Any] = json.loads(text)
    return report["Problems"] == {} and report["Router"]["Encryption"] is True
