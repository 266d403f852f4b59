"""Addresses of a whole cluster: shared until none is left, of both families, known after a loss."""

from __future__ import annotations

import time

import pytest

from weave_lab import Lab, LabSpec, Node, Pod, traffic
from weave_lab.cni import CniError

pytestmark = pytest.mark.lab

TRY_AGAIN_LATER = 11


def add_until_full(node: Node) -> tuple[list[Pod], CniError]:
    """Adds pods until the universe is empty."""
    pods: list[Pod] = []
    for number in range(20):
        try:
            pods.append(node.add_pod(f"p{number}"))
        except CniError as error:
            return pods, error
    raise AssertionError("16 addresses are enough for 20 pods")


def test_a_node_uses_the_whole_universe_and_a_released_address_helps() -> None:
    spec = LabSpec(
        name="t-full",
        nodes=3,
        address_range="10.32.0.0/28",
        environment={"WEAVE_QUARANTINE": "2s"},
        arguments={"cni-shim": ["--add-timeout=10s"]},
    )
    with Lab.up(spec) as lab:
        node = lab.node("n1")

        pods, error = add_until_full(node)

        # 16 less the first and the last, less one for each node itself.
        assert len(pods) == 11
        assert len({pod.address for pod in pods}) == 11
        assert error.code == TRY_AGAIN_LATER
        assert "10.32.0.0/28" in error.message

        for each in lab.nodes():
            shown = until_shown(each, "no free address is left in 10.32.0.0/28")
            assert "no free address is left in 10.32.0.0/28" in shown

        node.delete_pod("p0")
        # A node that has been full for seconds shows no network to the runtime.
        node.wait_ready()
        again = node.add_pod("again")
        assert again.address not in {pod.address for pod in pods[1:]}


def until_shown(node: Node, text: str) -> str:
    """What `weave status` says once it says `text`, or after a while: advice takes some seconds."""
    deadline = time.monotonic() + 20.0
    while True:
        shown = node.exec(["weave", "status"]).stdout
        if text in shown or time.monotonic() > deadline:
            return shown
        time.sleep(0.2)


def test_pods_have_both_families_and_reach_each_other_over_both() -> None:
    with Lab.up(LabSpec(name="t-dual", nodes=2, address_range="10.32.0.0/16,fd00:32::/64")) as lab:
        pods = [lab.node(node).add_pod(name) for node in ("n1", "n2") for name in ("a", "b")]

        assert [len(pod.addresses) for pod in pods] == [2] * 4
        assert len({address for pod in pods for address in pod.addresses}) == 8
        for source in pods:
            for address in others(source, pods):
                done = source.exec(["ping", "-n", "-c1", "-W2", address])
                assert done.returncode == 0, f"{source.address} -> {address}: {done.stdout}"


def others(source: Pod, pods: list[Pod]) -> list[str]:
    return [address for pod in pods if pod is not source for address in pod.addresses]


def test_lost_state_gives_no_address_twice() -> None:
    with Lab.up(LabSpec(name="t-lost", nodes=2)) as lab:
        node = lab.node("n1")
        before = [node.add_pod(f"before{number}") for number in range(5)]
        node.kill("ipam")
        for path in (node.layout.state_dir / "ipam").iterdir():
            path.unlink()
        node.start("ipam")
        node.wait_ready()

        after = [node.add_pod(f"after{number}") for number in range(5)]

        assert len({pod.address for pod in (*before, *after)}) == 10
        assert traffic.unreachable_pairs([before[0], after[0]]) == []
