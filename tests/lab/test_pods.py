"""Pods added and deleted by the real executable, as a runtime does it."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from weave_lab import Lab, LabError, Node, Pod, traffic
from weave_lab.cni import CniError

pytestmark = pytest.mark.lab

AddPod = Callable[[Node, str], Pod]


@pytest.fixture
def add_pod() -> Iterator[AddPod]:
    """Adds pods that are deleted after the test."""
    added: list[Pod] = []

    def add(node: Node, name: str) -> Pod:
        added.append(node.add_pod(name))
        return added[-1]

    yield add
    for pod in added:
        pod.node.delete_pod(pod.name)


def addresses_inside(pod: Pod) -> list[str]:
    shown = pod.exec(["ip", "-j", "-4", "addr", "show", "dev", "eth0"]).stdout
    return [entry["local"] for entry in json.loads(shown)[0]["addr_info"]]


def test_a_pod_has_the_address_that_the_result_names(n1: Node, add_pod: AddPod) -> None:
    pod = add_pod(n1, "named")

    assert addresses_inside(pod) == pod.addresses


def test_pods_reach_each_other_on_one_and_on_two_nodes(n1: Node, n2: Node, add_pod: AddPod) -> None:
    pods = [add_pod(n1, "one"), add_pod(n1, "two"), add_pod(n2, "three")]

    assert traffic.unreachable_pairs(pods) == []


def test_a_pod_reaches_the_outside_with_the_address_of_its_node(
    cluster: Lab, n1: Node, add_pod: AddPod
) -> None:
    pod = add_pod(n1, "outward")

    done = pod.exec(["ping", "-n", "-c1", "-W2", "10.99.0.254"])

    assert done.returncode == 0
    # The outside has no route to pods, so an answer proves the masquerade.
    assert cluster.node("n1").address == "10.99.0.1"


def test_a_node_and_its_pod_reach_each_other(n1: Node, add_pod: AddPod) -> None:
    pod = add_pod(n1, "host")

    assert n1.exec(["ping", "-n", "-c1", "-W2", pod.address]).returncode == 0
    assert pod.exec(["ping", "-n", "-c1", "-W2", n1.address]).returncode == 0


def test_a_node_reaches_a_pod_of_another_node(n2: Node, n1: Node, add_pod: AddPod) -> None:
    pod = add_pod(n1, "remote")

    assert n2.exec(["ping", "-n", "-c1", "-W2", pod.address]).returncode == 0


def test_a_second_delete_succeeds_and_the_address_rests(n1: Node) -> None:
    first = n1.add_pod("twice").address

    n1.delete_pod("twice")
    n1.delete_pod("twice")
    second = n1.add_pod("twice").address
    n1.delete_pod("twice")

    assert second != first


def test_a_late_delete_of_an_old_sandbox_leaves_the_new_one_alone(
    n1: Node, n2: Node, add_pod: AddPod
) -> None:
    """A kubelet repeats DEL for a dead sandbox while its successor already runs."""
    pod = n1.add_pod("again")
    old = pod.record
    n1.delete_pod("again")
    pod = add_pod(n1, "again")
    other = add_pod(n2, "witness")

    n1.runtime().delete(old.network, old.sandbox, old.result)

    assert traffic.unreachable_pairs([pod, other]) == []


def test_a_delete_without_the_namespace_frees_the_address(n1: Node) -> None:
    pod = n1.add_pod("gone")
    address = pod.address
    n1.exec(["ip", "netns", "delete", "gone"])

    n1.delete_pod("gone")

    listed = n1.exec(["weave", "ps"]).stdout
    assert f"{address}/" not in listed


def test_an_add_into_a_missing_namespace_fails_and_leaves_nothing(n1: Node) -> None:
    before = n1.exec(["weave", "ps"]).stdout
    pod = n1.add_pod("model")
    record = pod.record
    n1.delete_pod("model")

    with pytest.raises(CniError) as caught:
        n1.runtime().add(record.network, record.sandbox)

    assert "/run/netns/model" in caught.value.message
    assert n1.exec(["weave", "ps"]).stdout == before


def test_pods_added_at_the_same_time_get_addresses_of_their_own(n1: Node, n2: Node) -> None:
    names = [f"many{number}" for number in range(8)]
    jobs = [(node, name) for node in (n1, n2) for name in names]
    with ThreadPoolExecutor(4) as pool:
        pods = list(pool.map(lambda job: job[0].add_pod(job[1]), jobs))
    try:
        assert len({pod.address for pod in pods}) == len(jobs)
        assert traffic.unreachable_pairs(pods[::5]) == []
    finally:
        for node, name in jobs:
            node.delete_pod(name)


def test_a_pod_that_is_there_is_not_added_again(n1: Node, add_pod: AddPod) -> None:
    add_pod(n1, "once")

    with pytest.raises(LabError, match="n1 already has a pod 'once'"):
        n1.add_pod("once")


def test_an_unknown_pod_is_named(n1: Node) -> None:
    with pytest.raises(LabError, match="n1 never had a pod 'nobody'"):
        n1.delete_pod("nobody")


def test_a_file_arrives_whole_from_another_node(n1: Node, n2: Node, add_pod: AddPod) -> None:
    done = traffic.transfer(add_pod(n1, "server"), add_pod(n2, "client"), 10_000_000)

    assert done.size == 10_000_000
