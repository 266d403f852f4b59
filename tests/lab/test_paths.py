"""Packets find a way: relays where the underlay is cut, smaller packets where large ones vanish."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from weave_lab import Lab, Node, Pod

pytestmark = pytest.mark.lab

# What is promised; the tests wait for this long and not longer.
RELAYED_S = 10.0
DIRECT_S = 30.0
MTU_S = 60.0
POLL_S = 0.2


@pytest.fixture(scope="module")
def pods(cluster: Lab) -> Iterator[list[Pod]]:
    """A pod on each node."""
    names = [node.name for node in cluster.nodes()]
    yield [cluster.node(name).add_pod(f"p-{name}") for name in names]
    for name in names:
        cluster.node(name).delete_pod(f"p-{name}")


def until(holds: Callable[[], bool], timeout_s: float) -> float:
    """How long it took until this held. Fails when it takes longer."""
    begun = time.monotonic()
    while not holds():
        assert time.monotonic() < begun + timeout_s, f"not within {timeout_s:g} s"
        time.sleep(POLL_S)
    return time.monotonic() - begun


def paths(node: Node) -> dict[str, dict[str, Any]]:
    """The node's paths as `weave report` shows them, by the peer's nickname."""
    report = json.loads(node.exec(["weave", "report"]).stdout)
    nicknames = {peer["Name"]: peer["NickName"] for peer in report["Router"]["Peers"]}
    return {nicknames[path["Peer"]]: path for path in report["Router"]["Paths"]}


def is_direct(cluster: Lab) -> bool:
    return all(
        path["Kind"] == "vxlan" and path["RTT"] > 0
        for node in cluster.nodes()
        for path in paths(node).values()
    )


def reaches(source: Pod, target: Pod) -> bool:
    ping = ["ping", "-n", "-c1", "-W1", target.address]
    return source.exec(ping).returncode == 0


def logged(node: Node, since: int) -> list[str]:
    return node.log("router")[since:].splitlines()


def test_pods_reach_each_other_by_a_relay_while_two_nodes_are_cut_off(
    cluster: Lab, pods: list[Pod]
) -> None:
    n1, _, n3 = cluster.nodes()
    near, _, far = pods
    until(lambda: is_direct(cluster), DIRECT_S)
    begins = {node.name: len(node.log("router")) for node in cluster.nodes()}
    cluster.cut("n1", "n3")
    try:
        relayed_s = until(lambda: reaches(near, far) and reaches(far, near), RELAYED_S)
        until(lambda: paths(n1)["n3"]["Kind"] == paths(n3)["n1"]["Kind"] == "relay", POLL_S)
        line = n1.exec(["weave", "status", "paths"]).stdout
    finally:
        cluster.heal("n1", "n3")
    direct_s = until(lambda: is_direct(cluster), DIRECT_S)

    assert "relay" in line
    assert "via=" in line
    assert reaches(near, far)
    print(f"relayed after {relayed_s:.1f} s, direct again after {direct_s:.1f} s")
    for node in cluster.nodes():
        lines = logged(node, begins[node.name])
        print(node.name, *lines, sep="\n")
        assert len(lines) <= 10


def test_a_router_that_is_down_changes_no_path(cluster: Lab) -> None:
    """Far kernels answer probes; a process that died is no broken path."""
    n1, _, n3 = cluster.nodes()
    until(lambda: is_direct(cluster), DIRECT_S)
    begin = len(n1.log("router"))
    n3.kill("router")
    try:
        # Longer than any cut would take to be left.
        end = time.monotonic() + RELAYED_S
        while time.monotonic() < end:
            assert {path["Kind"] for path in paths(n1).values()} == {"vxlan"}
            time.sleep(POLL_S)
    finally:
        n3.start("router")
        n3.wait_ready()

    assert not [line for line in logged(n1, begin) if "using" in line]


def test_a_hole_that_swallows_large_packets_lowers_the_mtu_of_one_path(
    cluster: Lab, pods: list[Pod]
) -> None:
    n1, n2, _ = cluster.nodes()
    full = paths(n1)["n2"]["MTU"]
    hole = (
        "table inet hole { chain in { type filter hook prerouting priority -400; "
        "udp dport 6784 ip saddr " + n1.address + " meta length > 1400 drop; } ; }"
    )
    assert n2.exec(["nft", hole]).returncode == 0
    try:
        lowered_s = until(lambda: paths(n1)["n2"]["MTU"] < full, MTU_S)
        mtu = paths(n1)["n2"]["MTU"]
        big = ["ping", "-n", "-c1", "-W1", "-M", "do", "-s", str(full - 28), pods[1].address]
        told = pods[0].exec(big).stdout
        other = paths(n1)["n3"]["MTU"]
    finally:
        n2.exec(["nft", "delete", "table", "inet", "hole"])
    raised_s = until(lambda: paths(n1)["n2"]["MTU"] == full, 2 * MTU_S)

    print(f"lowered to {mtu} after {lowered_s:.1f} s, raised again after {raised_s:.1f} s")
    # Outer IP, UDP, VXLAN and inner Ethernet header.
    assert mtu == 1400 - 50
    assert f"mtu = {mtu}" in told
    assert other == full
    assert f"Effective MTU verified at {mtu}" in n1.log("router")
