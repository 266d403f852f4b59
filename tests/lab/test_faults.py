"""Services die, the underlay breaks: pods do not notice, and everything comes back."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from weave_lab import Lab, Node, Pod, traffic
from weave_lab.cni import CniError
from weave_lab.services import SERVICES

pytestmark = pytest.mark.lab

PING_INTERVAL_S = 0.02
# A dead link is noticed within 10 s (docs/adr/0001); a healed one waits for its next dial.
LINK_TIMEOUT_S = 40.0


@pytest.fixture(scope="module")
def pods(cluster: Lab) -> Iterator[list[Pod]]:
    """A pod on each node and a second one on n1."""
    places = [("n1", "f1"), ("n1", "f2"), ("n2", "f3"), ("n3", "f4")]
    yield [cluster.node(node).add_pod(name) for node, name in places]
    for node, name in places:
        cluster.node(node).delete_pod(name)


def report(node: Node) -> dict[str, Any]:
    answer: dict[str, Any] = json.loads(node.exec(["weave", "report"]).stdout)
    return answer


def established(node: Node) -> set[str]:
    connections = report(node)["Router"]["Connections"]
    return {each["NickName"] for each in connections if each["State"] == "established"}


def until(holds: Callable[[], bool], timeout_s: float = LINK_TIMEOUT_S) -> bool:
    """Something outside this process happens in time."""
    deadline = time.monotonic() + timeout_s
    while not holds():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.1)
    return True


@pytest.mark.parametrize("service", [each.name for each in SERVICES])
def test_no_packet_is_lost_while_one_service_dies_and_comes_back(
    service: str, n1: Node, pods: list[Pod]
) -> None:
    pairs = [(pods[0], pods[1]), (pods[0], pods[2]), (pods[3], pods[1])]
    with traffic.flowing(pairs, PING_INTERVAL_S) as stop:
        n1.kill(service)
        time.sleep(1)
        n1.start(service)
        n1.wait_ready()
        time.sleep(1)
        counts = stop()

    assert [each.lost for each in counts] == [0, 0, 0]


def test_a_node_adopts_what_it_finds_after_all_its_services_died(n1: Node, pods: list[Pod]) -> None:
    before = n1.exec(["weave", "ps"]).stdout
    overlay = n1.exec(["ip", "-o", "addr", "show", "dev", "weave"]).stdout
    pairs = [(pods[0], pods[2]), (pods[2], pods[1]), (pods[0], pods[1])]
    with traffic.flowing(pairs, PING_INTERVAL_S) as stop:
        n1.kill()
        time.sleep(2)
        n1.start()
        n1.wait_ready()
        added = n1.add_pod("f-new")
        reached = traffic.unreachable_pairs([added, pods[2]])
        n1.delete_pod("f-new")
        counts = stop()

    assert [each.lost for each in counts] == [0, 0, 0]
    assert reached == []
    assert n1.exec(["weave", "ps"]).stdout == before
    assert n1.exec(["ip", "-o", "addr", "show", "dev", "weave"]).stdout == overlay


def test_add_says_try_again_and_delete_succeeds_while_cni_shim_is_down(
    n1: Node, pods: list[Pod]
) -> None:
    spooled = n1.add_pod("f-spool")
    address = spooled.address
    network, sandbox = spooled.record.network, spooled.record.sandbox
    n1.kill("cni-shim")
    try:
        with pytest.raises(CniError) as caught:
            n1.runtime().add(network, sandbox)
        n1.delete_pod("f-spool")
    finally:
        n1.start("cni-shim")
        n1.wait_ready()

    assert caught.value.code == 11
    assert f"{address}/" not in n1.exec(["weave", "ps"]).stdout
    assert traffic.unreachable_pairs(pods) == []


def test_a_cut_between_two_nodes_is_seen_and_heals(
    cluster: Lab, n1: Node, n2: Node, pods: list[Pod]
) -> None:
    cluster.cut("n1", "n2")
    try:
        assert until(lambda: "n2" not in established(n1))
        assert until(lambda: "n1" not in established(n2))
        # n3 still reaches both.
        assert traffic.unreachable_pairs([pods[0], pods[3]]) == []
    finally:
        cluster.heal("n1", "n2")

    assert until(lambda: "n2" in established(n1))
    assert until(lambda: traffic.unreachable_pairs(pods) == [])


def test_pods_can_be_added_on_a_node_that_is_cut_off(cluster: Lab, n1: Node) -> None:
    """A node needs nobody to give out addresses of its own."""
    cluster.cut("n1", "n2")
    cluster.cut("n1", "n3")
    try:
        pod = n1.add_pod("f-island")
        neighbour = n1.add_pod("f-isle")
        failed = traffic.unreachable_pairs([pod, neighbour])
    finally:
        cluster.heal("n1", "n2")
        cluster.heal("n1", "n3")
        n1.delete_pod("f-island")
        n1.delete_pod("f-isle")

    assert failed == []
    assert until(lambda: established(n1) == {"n2", "n3"})


def test_an_orderly_stop_of_all_services_costs_no_packet(n1: Node, pods: list[Pod]) -> None:
    """What an upgrade of the DaemonSet does to a node."""
    with traffic.flowing([(pods[0], pods[1]), (pods[2], pods[0])], PING_INTERVAL_S) as stop:
        n1.stop()
        time.sleep(1)
        sockets_left = list(n1.layout.run_dir.glob("*/*.sock"))
        n1.start()
        n1.wait_ready()
        time.sleep(1)
        counts = stop()

    assert [each.lost for each in counts] == [0, 0]
    assert sockets_left == []


def test_a_whole_cluster_that_died_comes_back_with_the_same_ring(
    cluster: Lab, n1: Node, pods: list[Pod]
) -> None:
    ring = report(n1)["IPAM"]["Entries"]
    with traffic.flowing([(pods[0], pods[2]), (pods[3], pods[1])], PING_INTERVAL_S) as stop:
        for node in cluster.nodes():
            node.kill()
        for node in cluster.nodes():
            node.launch()
        for node in cluster.nodes():
            node.wait_ready()
        counts = stop()

    assert [each.lost for each in counts] == [0, 0]
    assert until(lambda: established(n1) == {"n2", "n3"})
    assert until(lambda: report(n1)["IPAM"]["Entries"] == ring)
    assert traffic.unreachable_pairs(pods) == []
