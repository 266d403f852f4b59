"""Nodes on one link that allow it send pods' packets without a tunnel, as long as that works."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.lab.test_paths import RELAYED_S, paths, reaches, until
from weave_lab import Lab, LabSpec, Pod

pytestmark = pytest.mark.lab

CHOSEN_S = 30.0


@pytest.fixture(scope="module")
def lab() -> Iterator[Lab]:
    spec = LabSpec(name="t-direct", nodes=2, environment={"WEAVE_DIRECT": "1"})
    with Lab.create(spec) as made:
        for node in made.nodes():
            # The strictest that a host may be.
            for scope in ("all", "default", "eth0"):
                node.exec(["sysctl", "-q", f"net.ipv4.conf.{scope}.rp_filter=1"])
        made.start()
        yield made


@pytest.fixture(scope="module")
def pods(lab: Lab) -> list[Pod]:
    return [node.add_pod("d") for node in lab.nodes()]


def kinds(lab: Lab) -> list[str]:
    return [path["Kind"] for node in lab.nodes() for path in paths(node).values()]


def test_a_network_that_drops_pods_sources_sends_them_through_the_tunnel(
    lab: Lab, pods: list[Pod]
) -> None:
    n1, n2 = lab.nodes()
    near, far = pods
    until(lambda: kinds(lab) == ["direct", "direct"], CHOSEN_S)
    assert "dev eth0" in n1.exec(["ip", "route", "get", far.address]).stdout
    assert reaches(near, far)
    assert reaches(far, near)

    # As clouds do: one direction, and only what bears a pod's address.
    wall = "table inet cloud { chain in { type filter hook prerouting priority -400; "
    wall += "iifname eth0 ip saddr 10.32.0.0/12 drop; } ; }"
    assert n2.exec(["nft", wall]).returncode == 0
    until(lambda: reaches(near, far) and reaches(far, near), RELAYED_S)
    until(lambda: paths(n1)["n2"]["Kind"] == "vxlan", RELAYED_S)

    n2.exec(["nft", "delete", "table", "inet", "cloud"])
    until(lambda: kinds(lab) == ["direct", "direct"], CHOSEN_S)
    assert reaches(near, far)


def test_one_node_that_does_not_allow_it_stays_in_the_tunnel(lab: Lab, pods: list[Pod]) -> None:
    n1, n2 = lab.nodes()
    n2.stop("router")
    n2.start("router", environment={"WEAVE_DIRECT": "0"})
    n2.wait_ready()
    until(lambda: kinds(lab) == ["vxlan", "vxlan"], CHOSEN_S)

    assert reaches(*pods)
    assert "dev vxlan-6784" in n1.exec(["ip", "route", "get", pods[1].address]).stdout
