"""The weave command against real services."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Iterator

import pytest

from weave_lab import Lab, LabSpec, Node, traffic
from weave_lab.command import run

pytestmark = pytest.mark.lab

# A peer that died is known to be unreachable within 10 s (docs/adr/0001).
UNREACHABLE_TIMEOUT_S = 30.0


def weave(node: Node, *argv: str) -> str:
    done = node.exec(["weave", *argv])
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.mark.parametrize("part", ["connections", "peers", "ipam", "targets", "paths"])
def test_every_part_of_status_names_what_there_is(cluster: Lab, n1: Node, part: str) -> None:
    shown = weave(n1, "status", part)

    assert len(shown.splitlines()) >= cluster.spec.nodes - 1


def test_status_of_a_node_in_order_says_so(n1: Node) -> None:
    lines = [line.strip() for line in weave(n1, "status").splitlines()]

    assert lines.count("Status: ready") == 2
    assert "DataPath: ready" in lines
    assert any(line.startswith("Connections: ") and "2 established" in line for line in lines)
    assert "Range: 10.32.0.0/12" in lines


def test_report_is_json_and_names_no_problem(n1: Node) -> None:
    report = json.loads(weave(n1, "report"))

    assert report["Ready"] is True
    assert report["Problems"] == {}
    assert sum(entry["Size"] for entry in report["IPAM"]["Entries"]) == 1 << 20


def test_ps_shows_a_pod_with_its_address_and_its_mac(n1: Node) -> None:
    pod = n1.add_pod("shown")
    try:
        link = json.loads(pod.exec(["ip", "-j", "link", "show", "dev", "eth0"]).stdout)[0]
        short = pod.record.sandbox.container_id[:12]

        shown = weave(n1, "ps").splitlines()
    finally:
        n1.delete_pod("shown")

    assert shown[0].startswith("weave:expose ")
    assert f"{short} {link['address']} {pod.address}/32" in shown


def test_hide_takes_the_hosts_access_and_expose_gives_it_back(n1: Node) -> None:
    pod = n1.add_pod("hidden")
    ping = ["ping", "-n", "-c1", "-W1", pod.address]
    try:
        weave(n1, "hide")
        while_hidden = n1.exec(ping).returncode
        weave(n1, "expose")
        after = n1.exec(ping).returncode
    finally:
        weave(n1, "expose")
        n1.delete_pod("hidden")

    assert (while_hidden, after) == (1, 0)


def test_connect_and_forget_change_the_targets(n1: Node) -> None:
    weave(n1, "connect", "10.99.0.99")
    connected = weave(n1, "status", "targets")
    weave(n1, "forget", "10.99.0.99")
    forgotten = weave(n1, "status", "targets")

    assert "10.99.0.99" in connected
    assert "10.99.0.99" not in forgotten


def test_a_target_that_is_no_address_is_refused_by_name(n1: Node) -> None:
    done = n1.exec(["weave", "connect", "no address!"])

    assert done.returncode == 1
    assert "no address!" in done.stderr


def test_the_command_works_from_the_host_by_the_run_dir(n1: Node) -> None:
    done = run(
        [f"{sys.prefix}/bin/weave", "--run-dir", str(n1.layout.run_dir), "status", "targets"]
    )

    assert done.stdout == weave(n1, "status", "targets")


@pytest.fixture
def own() -> Iterator[Lab]:
    """A cluster that may be ruined."""
    with Lab.up(LabSpec(name="t-command", nodes=3)) as lab:
        yield lab


def has_line(text: str, *parts: str) -> bool:
    return any(all(part in line for part in parts) for line in text.splitlines())


def shares(node: Node) -> dict[str, int]:
    sizes: dict[str, int] = {}
    for entry in json.loads(weave(node, "report"))["IPAM"]["Entries"]:
        sizes[entry["Nickname"]] = sizes.get(entry["Nickname"], 0) + entry["Size"]
    return sizes


def test_the_addresses_of_dead_and_leaving_peers_go_to_others(own: Lab) -> None:
    n1, n2, n3 = own.nodes()
    # Who is slow to start has no share of the first ring: so it owns something for sure.
    n3.add_pod("before")
    n3.kill()
    deadline = time.monotonic() + UNREACHABLE_TIMEOUT_S
    while not has_line(seen := weave(n1, "status", "ipam"), "(n3)", "unreachable!"):
        assert time.monotonic() < deadline, seen
        time.sleep(0.2)
    dead = shares(n1)["n3"]

    said = weave(n1, "rmpeer", "n3")
    taken = shares(n1)

    assert said.startswith(f"{dead} IPs taken over from ")
    assert "n3" not in taken
    assert sum(taken.values()) == 1 << 20

    said = weave(n2, "reset")
    left = n2.exec(["ip", "-o", "link"]).stdout

    assert f"{taken['n2']} IPs handed over" in said
    assert "vxlan" not in left
    assert "weave" not in left
    assert n2.exec(["nft", "list", "tables"]).stdout == ""
    assert shares(n1) == {"n1": 1 << 20}

    pods = [n1.add_pod("after"), n1.add_pod("afterwards")]

    assert traffic.unreachable_pairs(pods) == []
