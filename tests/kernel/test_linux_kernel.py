"""The real kernel keeps the contract, and touches nothing that is not ours."""

from __future__ import annotations

import os
import subprocess
import tempfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from tests.kernel.kernel_contract import *  # noqa: F403 - the tests of the contract
from tests.kernel.kernel_contract import OUTSIDE, Rig, inputs
from tests.kernel.namespaces import Netns, netns
from tests.kernel.tracking import Tracking
from weave_model.errors import Invalid
from weave_router.core import ruleset
from weave_router.core.diff import LoadRuleset, diff
from weave_router.core.ruleset import RulesetOptions
from weave_router.errors import KernelRefused
from weave_router.kernel import linux
from weave_router.kernel.linux import LinuxKernel

pytestmark = pytest.mark.kernel

NOBODY = 65534


@pytest.fixture
def node() -> Iterator[Netns]:
    with netns("node") as made:
        made.run("ip", "link", "add", "eth0", "type", "bridge")
        made.bring_up("eth0")
        made.run("ip", "addr", "add", "10.99.0.1/24", "dev", "eth0")
        yield made


@pytest.fixture
def rig(node: Netns) -> Iterator[Rig]:
    with netns("pod") as pod:
        kernel = node.call(LinuxKernel)
        seen = Tracking(node)
        yield Rig(kernel, node.call, pod.path, node.path, seen.track, seen.tracked)
        kernel.close()


def test_a_broken_ruleset_is_refused_and_the_old_one_stays(rig: Rig) -> None:
    desired = rig.reconcile(inputs())
    broken = LoadRuleset("chain guard { no such rule\n}\n")

    failed = rig.do(lambda: rig.kernel.apply([broken]))

    assert [item.operation for item in failed] == [broken]
    assert "syntax error" in failed[0].reason
    assert diff(desired, rig.found()) == []


@pytest.mark.parametrize("exposed", [True, False])
def test_the_ruleset_needs_no_list_of_names_on_the_machine(*, exposed: bool) -> None:
    """An image without /etc/protocols is no worse than a whole Debian."""
    options = RulesetOptions(exposed=exposed, no_masq_local=False, mark_forwarded=True)
    text = ruleset.replacement(ruleset.text(options), [])
    without = "for f in protocols services; do mount --bind /dev/null /etc/$f; done; nft -c -f -"

    done = subprocess.run(
        ["unshare", "--mount", "--net", "sh", "-ec", without],
        input=text,
        text=True,
        capture_output=True,
        timeout=30,
        check=False,
    )

    assert done.returncode == 0, done.stderr


def test_a_folder_of_namespaces_that_is_shut_is_passed_over(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Docker shuts its own to all but root, and the router ended there."""
    with tempfile.TemporaryDirectory() as made:
        root = Path(made)
        root.chmod(0o755)
        shut, opened = root / "docker" / "netns", root / "netns"
        for folder in (shut, opened):
            folder.mkdir(parents=True)
        (opened / "pod").touch()
        shut.parent.chmod(0o700)
        monkeypatch.setattr(linux, "_NETNS_DIRECTORIES", (shut, opened, root / "none"))

        os.seteuid(NOBODY)
        try:
            found = linux._namespace_paths()
        finally:
            os.seteuid(0)

    assert found == [opened / "pod"]


def test_rules_changed_by_others_are_noticed(rig: Rig, node: Netns) -> None:
    desired = rig.reconcile(inputs())
    node.run("nft", "flush", "chain", "inet", "weave", "guard")

    assert diff(desired, rig.found()) == [LoadRuleset(desired.ruleset)]

    rig.reconcile(inputs())
    assert diff(desired, rig.found()) == []


@pytest.mark.parametrize("device", ["weave", "vxlan-6784", "vethwepl*"])
def test_a_device_that_went_down_is_brought_up_with_all_its_routes(
    rig: Rig, node: Netns, device: str
) -> None:
    rig.reconcile(inputs())
    record = rig.attach(rig.record())
    desired = rig.reconcile(inputs(record))

    node.run("ip", "link", "set", record.link if "*" in device else device, "down")
    rig.reconcile(inputs(record))

    assert diff(desired, rig.found()) == []


def test_a_device_that_was_removed_is_made_anew(rig: Rig, node: Netns) -> None:
    desired = rig.reconcile(inputs())

    node.run("ip", "link", "del", "vxlan-6784")
    node.run("ip", "link", "del", "weave")
    rig.reconcile(inputs())

    assert diff(desired, rig.found()) == []


def test_an_address_of_another_length_is_put_right(rig: Rig, node: Netns) -> None:
    desired = rig.reconcile(inputs())
    for address in ("10.32.0.1", "fd00:32::1"):
        node.run("ip", "addr", "del", address, "dev", "weave")
        length = "128" if ":" in address else "32"
        node.run("ip", "addr", "add", f"{address}/{int(length) - 8}", "dev", "weave")

    rig.reconcile(inputs())

    assert diff(desired, rig.found()) == []


@pytest.mark.parametrize("path", ["/etc/hostname", "/proc/self/ns/uts", "/dev/null"])
def test_a_file_that_is_no_network_namespace_is_invalid(rig: Rig, path: str) -> None:
    record = rig.record()

    with pytest.raises(Invalid, match=path):
        rig.attach(replace(record, attachment=replace(record.attachment, netns_path=path)))


def test_connections_go_from_the_zones_of_others_too(rig: Rig, node: Netns) -> None:
    """Other programs on the host may track packets of pods in a zone of their own."""
    rig.track(OUTSIDE)
    Tracking(node).track(OUTSIDE, zone=7)

    removed = rig.do(lambda: rig.kernel.remove_connections({OUTSIDE.source}))

    assert removed == 2
    assert rig.tracked() == set()


def test_connections_that_may_not_be_read_are_told(rig: Rig) -> None:
    rig.track(OUTSIDE)

    def try_without_privileges() -> None:
        os.seteuid(NOBODY)
        try:
            rig.kernel.remove_connections({OUTSIDE.source})
        finally:
            os.seteuid(0)

    with pytest.raises(KernelRefused, match="tracked connections: Operation not permitted"):
        rig.do(try_without_privileges)

    assert rig.do(lambda: rig.kernel.remove_connections({OUTSIDE.source})) == 1


def test_nothing_foreign_is_touched(rig: Rig, node: Netns) -> None:
    node.run("ip", "link", "add", "foreign0", "type", "bridge")
    node.bring_up("foreign0")
    node.run("ip", "addr", "add", "192.0.2.1/24", "dev", "foreign0")
    node.run("ip", "route", "add", "198.51.100.0/24", "dev", "foreign0", "table", "6785")
    node.run("ip", "route", "add", "203.0.113.0/24", "dev", "foreign0", "proto", "85")
    node.run("ip", "rule", "add", "preference", "6783", "iif", "foreign0", "lookup", "6785")
    node.run(
        "nft", "add table inet weave-foreign { set s { type ipv4_addr; } ; chain c { drop; } ; }"
    )
    node.run("nft", "add element inet weave-foreign s { 192.0.2.7 }")

    def dump() -> list[str]:
        commands = ["ip link", "ip addr", "ip route show table all", "ip rule", "ip -6 rule"]
        commands += ["ip -6 route show table all", "ip neigh", "nft list ruleset"]
        return [line for command in commands for line in node.run(*command.split()).splitlines()]

    before = dump()
    rig.reconcile(inputs())
    record = rig.attach(rig.record())
    rig.reconcile(inputs(record))
    assert dump() != before

    rig.do(rig.kernel.reset)

    gone, new = set(before) - set(dump()), set(dump()) - set(before)
    assert (gone, new) == (set(), set())
