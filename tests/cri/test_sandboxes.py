"""Pods made and removed by containerd: what its kubelet is told, and whether packets pass."""

from __future__ import annotations

import time
from collections.abc import Callable
from ipaddress import ip_address, ip_network

import grpc
import pytest

from tests.cri.runtime import Cri, Sandbox, Served, fetches
from weave_lab import Node
from weave_lab.lab import DEFAULT_RANGE

pytestmark = pytest.mark.lab

TIMEOUT_S = 30.0
PORT, HOST_PORT = 8080, 18080


def until(holds: Callable[[], bool]) -> bool:
    deadline = time.monotonic() + TIMEOUT_S
    while not holds():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.05)
    return True


def is_held(node: Node, sandbox: Sandbox) -> bool:
    """Does the node count the address as the container's?"""
    lines = node.exec(["weave", "ps"]).stdout.splitlines()
    return any(
        sandbox.id.startswith(line.split()[0]) and f"{sandbox.address}/" in line
        for line in lines
        if line.split()
    )


def test_the_network_is_ready_as_soon_as_a_pod_can_be_added(
    early_network: list[bool], n1: Cri, n2: Cri
) -> None:
    assert early_network == [False, False]
    assert until(n1.network_is_ready)
    assert until(n2.network_is_ready)


def test_the_address_that_the_runtime_reports_is_ours(n1: Cri) -> None:
    pod = n1.run("reported")

    assert n1.is_ready(pod)
    assert ip_address(pod.address) in ip_network(DEFAULT_RANGE)
    assert is_held(pod.node, pod)


def test_pods_reach_each_other_on_one_and_on_two_nodes(n1: Cri, n2: Cri) -> None:
    pods = [n1.run("a"), n1.run("b"), n2.run("c")]
    pairs = [(one, other) for one in pods for other in pods if one != other]

    assert [one.reaches(other.address) for one, other in pairs] == [True] * 6


def test_a_host_port_is_reached_from_everywhere(n1: Cri, n2: Cri) -> None:
    server = n1.run("server", ports=[(HOST_PORT, PORT)])
    near, far = n1.run("near"), n2.run("far")
    url = f"http://{server.node.address}:{HOST_PORT}/"

    with Served(server, PORT):
        reached = {
            "its own node": fetches(server.node.enter(), url),
            "another node": fetches(far.node.enter(), url),
            "a pod of the node": fetches(near.enter(), url),
            "a pod of another node": fetches(far.enter(), url),
            "itself": fetches(server.enter(), url),
        }
        n1.stop(server)
        afterwards = fetches(far.node.enter(), url)

    assert reached == dict.fromkeys(reached, True)
    assert not afterwards


def test_a_stopped_pod_gives_its_address_back(n1: Cri) -> None:
    pod = n1.run("stopped")

    n1.stop(pod)
    n1.stop(pod)

    assert not n1.is_ready(pod)
    assert not is_held(pod.node, pod)
    assert pod.node.exec(["ip", "route", "show", pod.address]).stdout == ""


def test_a_container_is_attached_by_its_id(n1: Cri, n2: Cri) -> None:
    pod, witness = n1.run("legged"), n2.run("witness")

    attached = pod.node.exec(["weave", "attach", pod.id[:12]])
    address = attached.stdout.strip().partition("/")[0]
    reached = witness.reaches(address)
    detached = pod.node.exec(["weave", "detach", pod.id[:12]])

    assert attached.returncode == 0, attached.stderr
    assert address != pod.address
    assert reached
    assert detached.stdout == attached.stdout


def test_a_sandbox_that_dies_is_replaced(n1: Cri, n2: Cri) -> None:
    dead, witness = n1.run("mortal"), n2.run("witness")

    dead.end_processes()
    noticed = until(lambda: not n1.is_ready(dead))
    # A kubelet stops the dead one and runs another for the same pod.
    n1.stop(dead)
    successor = n1.run("mortal", attempt=1)

    assert noticed
    assert witness.reaches(successor.address)
    assert is_held(successor.node, successor)
    assert not is_held(dead.node, dead)


def test_pods_outlive_their_runtime(n1: Cri, n2: Cri) -> None:
    pod, witness = n1.run("survivor"), n2.run("witness")

    n1.containerd.kill()
    without_runtime = witness.reaches(pod.address)
    n1.containerd.start()
    status = n1.status(pod.id).status
    with_runtime = witness.reaches(pod.address)
    n1.stop(pod)

    assert (without_runtime, with_runtime) == (True, True)
    assert status.network.ip == pod.address
    assert not is_held(pod.node, pod)


def test_a_pod_can_be_stopped_after_all_services_were_replaced(n1: Cri, n2: Cri) -> None:
    pod, witness = n1.run("adopted"), n2.run("witness")
    node = pod.node

    node.kill()
    reached = witness.reaches(pod.address)
    node.start()
    node.wait_ready()
    reached_again = witness.reaches(pod.address)
    n1.stop(pod)

    assert (reached, reached_again) == (True, True)
    assert not is_held(node, pod)


def test_a_pod_stopped_while_the_services_are_down_is_freed_when_they_are_back(n1: Cri) -> None:
    pod = n1.run("orphan")
    node = pod.node

    node.kill()
    n1.remove(pod)
    node.start()
    node.wait_ready()

    assert until(lambda: not is_held(node, pod))


def test_a_pod_that_could_not_be_added_leaves_nothing(n1: Cri) -> None:
    node = n1.containerd.node
    held = node.exec(["weave", "ps"]).stdout
    namespaces = node.exec(["ls", "/run/netns"]).stdout

    node.kill("ipam")
    try:
        with pytest.raises(grpc.RpcError) as caught:
            n1.run("refused")
    finally:
        node.start("ipam")
        node.wait_ready()
    later = n1.run("accepted")

    assert "ipam" in str(caught.value)
    assert later.address
    n1.remove(later)
    assert until(lambda: node.exec(["weave", "ps"]).stdout == held)
    assert node.exec(["ls", "/run/netns"]).stdout == namespaces
