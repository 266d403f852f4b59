"""Files are lost under running pods: the node stays who it is, and its pods do not notice."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest

from weave_lab import Lab, Node, Pod, traffic
from weave_lab.services import ALL, SERVICES, selected

pytestmark = pytest.mark.lab

PING_INTERVAL_S = 0.02


@pytest.fixture(scope="module")
def pods(cluster: Lab) -> Iterator[list[Pod]]:
    """Two pods on n1, one on n2."""
    places = [("n1", "l1"), ("n1", "l2"), ("n2", "l3")]
    made = [cluster.node(node).add_pod(name) for node, name in places]
    assert traffic.unreachable_pairs(made) == []
    yield made
    for node, name in places:
        cluster.node(node).delete_pod(name)


def peer_name(node: Node) -> str:
    name: str = json.loads(node.exec(["weave", "report"]).stdout)["Router"]["Name"]
    return name


@pytest.mark.parametrize("lost", [*(each.name for each in SERVICES), ALL])
def test_a_node_that_lost_state_is_the_same_peer_with_the_same_addresses(
    lost: str, n1: Node, pods: list[Pod]
) -> None:
    here, near, far = pods
    name = peer_name(n1)
    with traffic.flowing([(here, far), (far, near), (here, near)], PING_INTERVAL_S) as stop:
        n1.kill(lost)
        for service in selected(lost):
            n1.exec(["sh", "-c", f"rm -rf /var/lib/weave/{service.folder}/*"])
        n1.start(lost)
        n1.wait_ready()
        added = [n1.add_pod(f"l-new{number}") for number in range(4)]
        reached = traffic.unreachable_pairs([added[0], far])
        flows = stop()
    for pod in added:
        n1.delete_pod(pod.name)

    assert [flow.lost for flow in flows] == [0, 0, 0]
    assert reached == []
    assert len({pod.address for pod in (*added, *pods)}) == len(added) + len(pods)
    assert peer_name(n1) == name
