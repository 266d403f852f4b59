"""What an operator does about addresses: status, metrics, prime, the search for leaks and its
repair."""

from __future__ import annotations

import time
from collections.abc import Iterator

import grpc
import pytest

from weave.ipam.v1 import ipam_pb2, ipam_pb2_grpc
from weave.types.v1 import types_pb2
from weave_lab import Lab, LabSpec, Node, Pod

pytestmark = pytest.mark.lab

TIMEOUT_S = 30.0
METRICS = "http://127.0.0.1:6787/metrics"


@pytest.fixture(scope="module")
def node() -> Iterator[Node]:
    """The only node of a cluster, whose address book may be disturbed."""
    with Lab.up(LabSpec(name="t-ipam-cmd", nodes=1)) as lab:
        yield lab.node("n1")


def weave(node: Node, *argv: str, status: int = 0) -> str:
    done = node.exec(["weave", *argv])
    assert done.returncode == status, done.stdout + done.stderr
    return done.stdout


def check(node: Node, *options: str) -> str:
    """What `weave ipam check` prints, whether or not it finds anything."""
    done = node.exec(["weave", "ipam", "check", *options])
    assert done.stderr == ""
    return done.stdout


def metric(text: str, name: str) -> float:
    (line,) = (line for line in text.splitlines() if line.rpartition(" ")[0] == name)
    return float(line.rpartition(" ")[2])


def release(node: Node, pod: Pod) -> None:
    """Takes a running pod's address out of ipam's books, behind everybody's back."""
    sandbox = pod.record.sandbox
    key = types_pb2.AttachmentKey(
        network="weave", container_id=sandbox.container_id, interface="eth0"
    )
    path = node.layout.run_dir / "ipam" / "api.sock"
    with grpc.insecure_channel(f"unix://{path}") as channel:
        stub = ipam_pb2_grpc.IpamStub(channel)
        answer = stub.Release(ipam_pb2.ReleaseRequest(key=key), timeout=TIMEOUT_S)
    assert len(answer.released) == 1


def test_status_ipam_names_each_owner_and_its_share(node: Node) -> None:
    shown = weave(node, "status", "ipam")

    (line,) = shown.splitlines()
    assert "(n1)" in line
    assert "1048576 IPs (100.0% of total)" in line
    assert "active)" in line


def test_prime_returns_when_there_is_a_ring(node: Node) -> None:
    assert weave(node, "prime") == ""


def test_metrics_count_addresses_under_weave_nets_names(node: Node) -> None:
    before = metrics(node)
    node.add_pod("counted")
    during = metrics(node)
    node.delete_pod("counted")
    after = metrics(node)

    used, free = 'weave_ips{state="local-used"}', 'weave_ips{state="local-free"}'
    resting = 'weave_ips{state="local-quarantined"}'
    assert metric(during, used) - metric(before, used) == 1
    assert metric(before, free) - metric(during, free) == 1
    assert metric(after, resting) - metric(during, resting) == 1
    assert metric(after, used) == metric(before, used)
    assert metric(after, 'weave_ips{state="local-conflicting"}') == 0
    assert metric(after, "weave_max_ips") == 1 << 20
    assert metric(after, "weave_ipam_unreachable_count") == 0
    assert metric(after, "weave_ipam_unreachable_percentage") == 0
    assert metric(after, "weave_ipam_pending_allocates") == 0
    assert metric(after, "weave_ipam_pending_claims") == 0
    count = "weave_ipam_allocation_seconds_count"
    assert metric(during, count) - metric(before, count) == 1


def metrics(node: Node) -> str:
    script = f"import urllib.request as u; print(u.urlopen({METRICS!r}).read().decode())"
    done = node.exec(["python3", "-c", script])
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_a_pod_that_ipam_does_not_know_is_named_and_recorded(node: Node) -> None:
    pod = node.add_pod("unknown")
    short = pod.record.sandbox.container_id[:12]
    release(node, pod)

    said = weave(node, "ipam", "check", status=1)
    repaired = weave(node, "ipam", "check", "--repair")

    assert said.startswith(f"unknown: {short} {pod.address}/32")
    assert "weave ipam check --repair records it" in said
    assert repaired.startswith(f"unknown: {short} {pod.address}/32")
    assert repaired.rstrip().endswith("repaired")
    assert weave(node, "ipam", "check") == ""
    assert f"{pod.address}/" in weave(node, "ps")
    node.delete_pod("unknown")


def test_a_pod_whose_sandbox_has_vanished_is_named_and_freed(node: Node) -> None:
    """cni-shim would collect it in a while; nobody is there to do so."""
    alive, dead = node.add_pod("alive"), node.add_pod("vanished")
    short = dead.record.sandbox.container_id[:12]
    node.kill("cni-shim")
    node.exec(["ip", "netns", "delete", "vanished"])

    deadline = time.monotonic() + TIMEOUT_S
    while f"leak: {short}" not in (said := check(node)):
        assert time.monotonic() < deadline, said
        time.sleep(0.2)
    repaired = weave(node, "ipam", "check", "--repair")

    assert dead.address in said
    assert "since" in said
    assert "weave ipam check --repair frees it" in said
    assert alive.address not in said
    assert repaired.rstrip().endswith("repaired")
    assert check(node) == ""
    shown = weave(node, "ps")
    assert f"{alive.address}/" in shown
    assert f"{dead.address}/" not in shown
    node.start("cni-shim")
    node.wait_ready()
