"""Services crash and are upgraded: a ping a millisecond and open connections do not notice."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack

import pytest

from weave_lab import Lab, Node, Pod, traffic
from weave_lab.services import ALL, SERVICES

pytestmark = pytest.mark.lab

INTERVAL_S = 0.001
# So many packets at least, or the flow has not been what it should be.
LEAST = 500


@pytest.fixture(scope="module")
def pods(cluster: Lab) -> Iterator[list[Pod]]:
    """Two pods on n1, one on n2."""
    places = [("n1", "r1"), ("n1", "r2"), ("n2", "r3")]
    made = [cluster.node(node).add_pod(name) for node, name in places]
    assert traffic.unreachable_pairs(made) == []
    yield made
    for node, name in places:
        cluster.node(node).delete_pod(name)


def crash(node: Node, service: str) -> None:
    node.kill(service)


def upgrade(node: Node, service: str) -> None:
    node.stop(service)


@pytest.mark.parametrize("end", [crash, upgrade])
def test_nothing_is_lost_while_services_are_replaced_one_by_one_and_all_at_once(
    end: Callable[[Node, str], None], n1: Node, pods: list[Pod]
) -> None:
    here, near, far = pods
    with ExitStack() as stack:
        talks = [traffic.Talk(here, far), traffic.Talk(near, here)]
        for talk in talks:
            stack.callback(talk.abandon)
        pairs = [(here, far), (here, near)]
        stop = stack.enter_context(traffic.flowing(pairs, INTERVAL_S))

        for name in [*(service.name for service in SERVICES), ALL]:
            end(n1, name)
            n1.start(name)
            n1.wait_ready()
        flows = stop()
        said = [talk.stop() for talk in talks]

    print(*flows, *said, sep="\n")
    assert [flow.lost for flow in flows] == [0, 0]
    assert [talk.error for talk in said] == ["", ""]
    assert min(flow.sent for flow in flows) > LEAST
    assert min(talk.exchanges for talk in said) > LEAST
