"""The lab before any service runs: nodes look like nodes, and the host does not notice."""

from __future__ import annotations

import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from weave_lab import Lab, LabError, LabSpec, Node, interpreter
from weave_lab.layout import LabLayout
from weave_lab.residue import Snapshot
from weave_lab.services import CNI_SHIM, GOSSIP, IPAM, ROUTER, SERVICES, Service

pytestmark = pytest.mark.lab

NAME = "t-bare"


@pytest.fixture(scope="module")
def lab() -> Iterator[Lab]:
    with Lab.create(LabSpec(name=NAME, nodes=3)) as lab:
        yield lab


@pytest.fixture
def node(lab: Lab) -> Node:
    return lab.node("n1")


def output(node: Node, *argv: str) -> str:
    done = node.exec(argv)
    assert done.returncode == 0, done.stderr
    return done.stdout


def as_service(node: Node, service: Service, *argv: str) -> subprocess.CompletedProcess[str]:
    command = service.command()
    return node.exec([*command[: command.index("--") + 1], *argv])


def pings(node: Node, address: str) -> bool:
    return node.exec(["ping", "-n", "-c1", "-W1", address]).returncode == 0


def test_product_paths_hold_inside_a_node(lab: Lab, node: Node) -> None:
    for path, folder in (
        ("/run/weave", node.layout.run_dir),
        ("/var/lib/weave", node.layout.state_dir),
        ("/etc/cni/net.d", node.layout.conf_dir),
        ("/opt/cni/bin", node.layout.bin_dir),
    ):
        output(node, "touch", f"{path}/mark")

        assert (folder / "mark").exists()
        assert lab.node("n2").exec(["test", "-e", f"{path}/mark"]).returncode == 1

        (folder / "mark").unlink()


def test_a_node_has_its_own_host_name_and_its_own_run(node: Node) -> None:
    assert output(node, "hostname") == "n1\n"
    assert output(node, "ls", "/run").split() == ["lock", "netns", "weave"]


def test_sysfs_shows_the_nodes_own_interfaces(node: Node) -> None:
    assert output(node, "ls", "/sys/class/net").split() == ["eth0", "lo"]


def test_what_a_node_writes_elsewhere_stays_off_the_host(node: Node) -> None:
    output(node, "mkdir", "/etc/cni/net.d/../weave-test")

    assert not Path("/etc/cni/weave-test").exists()


@pytest.mark.parametrize("address", ["10.99.0.2", "10.99.0.254", "fd99::3", "fd99::254"])
def test_the_underlay_connects_nodes_and_the_outside(node: Node, address: str) -> None:
    assert pings(node, address)


def test_a_cut_stops_both_families_between_two_nodes_only(lab: Lab, node: Node) -> None:
    lab.cut("n2", "n1")
    lab.cut("n1", "n2")

    assert lab.cuts() == [("n1", "n2")]
    assert not pings(node, "10.99.0.2")
    assert not pings(lab.node("n2"), "fd99::1")
    assert pings(node, "10.99.0.3")
    assert pings(lab.node("n2"), "fd99::3")

    lab.heal("n1", "n2")
    lab.heal("n1", "n2")

    assert lab.cuts() == []
    assert pings(node, "10.99.0.2")


def test_folders_have_the_owners_and_modes_of_the_decision(node: Node) -> None:
    owners = output(node, "sh", "-c", "stat -c '%n %u %g %a' /run/weave/* /var/lib/weave/*")

    assert owners.splitlines() == [
        "/run/weave/cni 0 56788 750",
        "/run/weave/gossip 56786 56786 750",
        "/run/weave/ipam 56787 56787 750",
        "/run/weave/router 56784 56784 750",
        "/var/lib/weave/cni 0 56788 700",
        "/var/lib/weave/gossip 56786 56786 700",
        "/var/lib/weave/ipam 56787 56787 700",
        "/var/lib/weave/router 56784 56784 700",
    ]


@pytest.mark.parametrize(
    ("service", "expected"),
    [
        (GOSSIP, "0000000000000000"),
        (IPAM, "0000000000000000"),
        (ROUTER, "0000000000201000"),
        (CNI_SHIM, "0000000000000000"),
    ],
    ids=lambda value: value.name if isinstance(value, Service) else None,
)
def test_a_service_has_its_capabilities_and_no_more(
    node: Node, service: Service, expected: str
) -> None:
    status = as_service(node, service, "grep", "^Cap", "/proc/self/status").stdout

    by_name = dict(line.split(":\t") for line in status.splitlines())
    assert by_name["CapEff"] == expected
    assert by_name["CapBnd"] == expected


def test_only_the_router_may_change_the_network(node: Node) -> None:
    change = ["sh", "-c", "echo 1 > /proc/sys/net/ipv4/ip_forward"]

    assert as_service(node, ROUTER, *change).returncode == 0
    assert [as_service(node, each, *change).returncode for each in (GOSSIP, IPAM)] == [2, 2]


def test_every_service_can_load_its_code(node: Node) -> None:
    for service in SERVICES:
        done = as_service(node, service, sys.executable, "-c", f"import {service.module}")

        assert done.returncode == 0, done.stderr


def test_a_lab_that_is_there_is_not_made_again(lab: Lab) -> None:
    with pytest.raises(LabError, match="already there"):
        Lab.create(LabSpec(name=NAME))

    assert pings(lab.node("n1"), "10.99.0.2")


def test_a_lab_is_found_by_its_name(lab: Lab) -> None:
    assert Lab.open(NAME).spec.nodes == lab.spec.nodes
    assert NAME in Lab.names()


def test_a_lab_that_is_not_there_is_named() -> None:
    with pytest.raises(LabError, match="there is no lab 't-none'"):
        Lab.open("t-none")


def test_a_node_that_is_not_there_is_named(lab: Lab) -> None:
    with pytest.raises(LabError, match="n1 to n3, no n4"):
        lab.node("n4")


def test_a_foreign_namespace_of_the_same_name_is_left_alone() -> None:
    subprocess.run(["ip", "netns", "add", "t-foreign-n1"], check=True)
    try:
        with pytest.raises(LabError, match="t-foreign-n1 is already there and not of this lab"):
            Lab.create(LabSpec(name="t-foreign", nodes=1))

        assert Path("/run/netns/t-foreign-n1").exists()
    finally:
        subprocess.run(["ip", "netns", "delete", "t-foreign-n1"], check=True)


def test_down_ends_everything_that_runs_in_a_lab_and_leaves_nothing() -> None:
    layout = LabLayout("t-down")
    before = Snapshot.take(layout)
    lab = Lab.create(LabSpec(name="t-down", nodes=1))
    node = lab.node("n1")
    output(node, "ip", "netns", "add", "pod")
    command = [*node.enter(), "nsenter", "--net=/run/netns/pod", "sleep", "1000"]
    with subprocess.Popen(command) as stray, lab.namespaces() as namespaces:
        lab.down()
        lab.down()

        assert stray.wait(5) == -9
        assert Snapshot.take(layout, namespaces.numbers).since(before) == []


def test_a_lab_whose_first_process_died_goes_down_all_the_same() -> None:
    layout = LabLayout("t-broken")
    before = Snapshot.take(layout)
    lab = Lab.create(LabSpec(name="t-broken", nodes=1))
    lab.node("n1").holder.kill()

    with pytest.raises(LabError, match=r"node n1 .* is gone; run `weave-lab down`"):
        lab.node("n1").enter()
    lab.down()

    assert Snapshot.take(layout).since(before) == []


def test_a_lab_is_missed_while_it_is_up(lab: Lab) -> None:
    """The search for leftovers finds what there is to find."""
    with lab.namespaces() as namespaces:
        found = Snapshot.take(lab.layout, namespaces.numbers).items

    assert f"namespace {NAME}-n1" in found
    assert f"file /run/weave-lab/{NAME}" in found
    assert any(item.startswith("process ") and "infinity" in item for item in found)
    assert any(item.startswith("mount /run/weave-lab/") for item in found)


def test_a_checkout_in_a_closed_home_is_reached_inside_a_node(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Debian's /root has mode 0700, and that is where a new user clones to."""
    with tempfile.TemporaryDirectory(prefix="weave-") as home:
        library = Path(home) / "checkout" / "lib"
        library.mkdir(parents=True)
        (library / "module").write_text("found")
        (Path(home) / "private").write_text("secret")
        covers = interpreter.covers
        monkeypatch.setattr(
            interpreter, "covers", lambda needed: covers(needed) | covers([library])
        )
        with Lab.create(LabSpec(name="t-home", nodes=1)) as lab:
            node = lab.node("n1")

            shown = as_service(node, GOSSIP, "cat", f"{library}/module")
            hidden = as_service(node, GOSSIP, "cat", f"{home}/private")

        assert shown.stdout == "found"
        assert hidden.returncode == 1
        assert "No such file" in hidden.stderr


def test_an_interpreter_out_of_reach_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    with tempfile.TemporaryDirectory(prefix="weave-") as home:
        closed = Path(home) / "venv"
        closed.mkdir(mode=0o700)
        monkeypatch.setattr(interpreter, "needed_folders", lambda: [closed])
        monkeypatch.setattr(interpreter, "covers", lambda _: {})

        with pytest.raises(LabError, match=rf"uid 56786 \(gossip\) may not enter {home}"):
            Lab.create(LabSpec(name="t-closed", nodes=1))
