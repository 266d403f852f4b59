"""A node after `weave reset` is what it was before weave-net came."""

from __future__ import annotations

import hashlib
import json
import os
import time
from collections.abc import Iterator
from typing import Any

import pytest

from tests.lab.nameless import nameless_process
from weave_lab import Lab, LabSpec, Node, services, traffic

pytestmark = pytest.mark.lab

# Facts of the moment: counters, ages, numbers that a new object gets.
_FLEETING = {
    *("ifindex", "link_index", "stats", "stats64", "valid_life_time", "preferred_life_time"),
    *("metainfo", "handle", "expires", "cache", "gc_timer"),
}
_DUMPS = {
    "links": ["ip", "-d", "-j", "link"],
    "addresses": ["ip", "-j", "addr"],
    "routes": ["ip", "-4", "-j", "route", "show", "table", "all"],
    "routes6": ["ip", "-6", "-j", "route", "show", "table", "all"],
    "rules": ["ip", "-4", "-j", "rule"],
    "rules6": ["ip", "-6", "-j", "rule"],
    # What the kernel has learned itself comes and goes.
    "neighbours": ["ip", "-j", "neigh", "show", "nud", "permanent"],
    "nftables": ["nft", "-j", "list", "ruleset"],
}
_SWITCHES = "cd /proc/sys/net && grep -rs '' ipv4/conf ipv6/conf ipv4/neigh ipv6/neigh; true"
_HOST_SWITCHES = "cd /proc/sys/net && grep -s '' ipv4/* ipv6/*; true"


def dump(node: Node) -> dict[str, Any]:
    """All that the product could have changed on a node, but for switches of the whole host."""
    found: dict[str, Any] = {
        name: steady(json.loads(node.exec(argv).stdout or "[]")) for name, argv in _DUMPS.items()
    }
    found["files"] = {
        str(path): hashlib.sha256(path.read_bytes()).hexdigest()
        for folder in (node.layout.conf_dir, node.layout.bin_dir, node.layout.state_dir)
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }
    found["sockets"] = [
        str(path) for path in node.layout.run_dir.rglob("*") if path.exists() and not path.is_dir()
    ]
    found["namespaces"] = node.exec(["ip", "netns"]).stdout
    return found


def steady(value: Any) -> Any:
    """The value without what is fleeting."""
    match value:
        case dict():
            return {key: steady(item) for key, item in value.items() if key not in _FLEETING}
        case list():
            return [steady(item) for item in value if steady(item)]
        case _:
            return value


def differences(before: dict[str, Any], after: dict[str, Any]) -> list[str]:
    """What is only in one of two dumps, a line each."""
    lines = []
    for kind, old in before.items():
        olds, news = ({json.dumps(item) for item in listed(of)} for of in (old, after[kind]))
        lines += [f"{kind} gone: {item}" for item in sorted(olds - news)]
        lines += [f"{kind} new: {item}" for item in sorted(news - olds)]
    return lines


def listed(value: Any) -> list[Any]:
    match value:
        case dict():
            return sorted(value.items())
        case str():
            return value.splitlines()
        case _:
            return list(value)


def switches(node: Node) -> dict[str, str]:
    """The host's switches by name as sysctl writes it, those of single devices among them."""
    lines = [
        line
        for script in (_SWITCHES, _HOST_SWITCHES)
        for line in node.exec(["sh", "-c", script]).stdout.splitlines()
    ]
    pairs = (line.partition(":") for line in lines)
    return {f"net.{name.replace('/', '.')}": value for name, _, value in pairs}


@pytest.fixture(scope="module")
def lab() -> Iterator[Lab]:
    """No service runs yet."""
    made = Lab.create(LabSpec(name=f"t-uninstall-{os.getpid()}", nodes=2))
    try:
        yield made
    finally:
        made.down()


def foreign_things(node: Node) -> None:
    """What belongs to others and must be there afterwards."""
    node.exec(["ip", "link", "add", "other0", "type", "bridge"])
    node.exec(["ip", "addr", "add", "192.0.2.1/24", "dev", "other0"])
    node.exec(["ip", "link", "set", "other0", "addrgenmode", "none", "up"])
    node.exec(["ip", "route", "add", "198.51.100.0/24", "dev", "other0"])
    node.exec(["ip", "rule", "add", "from", "192.0.2.7", "lookup", "99", "pref", "500"])
    rules = "table ip other { chain c { type filter hook forward priority 0; policy drop; }; }"
    assert node.exec(["nft", rules]).returncode == 0
    (node.layout.conf_dir / "99-other.conflist").write_text("{}")
    (node.layout.bin_dir / "other").write_text("x")


def settle(node: Node) -> None:
    """Returns when the kernel has no address under examination any more (RFC 4862, 5.4)."""
    deadline = time.monotonic() + 20.0
    while "tentative" in node.exec(["ip", "-6", "addr"]).stdout:
        assert time.monotonic() < deadline
        time.sleep(0.1)


def used(lab: Lab, node: Node) -> None:
    """All that people do with a node."""
    one, two = node.add_pod("one"), node.add_pod("two")
    far = lab.node("n2").add_pod("far")
    # Just started: one node may hear of the other a little later than its runtime asks for pods.
    deadline = time.monotonic() + 20.0
    while unreachable := traffic.unreachable_pairs([one, two, far]):
        assert time.monotonic() < deadline, unreachable
    for argv in (["hide"], ["expose"], ["attach", "two"], ["detach", "two"]):
        assert node.exec(["weave", *argv]).returncode == 0
    # Attached, and gone without a detach.
    with nameless_process(node) as process:
        assert node.exec(["weave", "attach", str(process.pid)]).returncode == 0
    for name in ("one", "two"):
        node.delete_pod(name)


def test_nothing_is_left_of_an_install_but_what_is_said(lab: Lab) -> None:
    node = lab.node("n1")
    foreign_things(node)
    settle(node)
    before, switches_before = dump(node), switches(node)
    lab.start()
    while_there = dump(node)
    used(lab, node)

    done = node.exec(["weave", "reset"])
    after_reset = dump(node)
    early = node.exec(["weave", "reset", "--files"])
    node.stop()
    removed = node.exec(["weave", "reset", "--files"])

    assert done.returncode == 0, done.stderr
    said = {
        line.removeprefix("left as it is: ").partition("=")[0].split()[0]
        for line in done.stdout.splitlines()
        if line.startswith("left as it is: ")
    }
    # The kernel changes others along with those: putting back what is named must be enough.
    for name in said:
        node.exec(["sysctl", "-qw", f"{name}={switches_before[name]}"])
    assert {key for key in before if while_there[key] != before[key]} >= {
        *("links", "addresses", "routes", "nftables", "files", "sockets")
    }
    on_disk = {"files", "sockets"}
    assert [
        line for line in differences(before, after_reset) if line.split()[0] not in on_disk
    ] == []
    assert early.returncode == 1
    assert removed.returncode == 0, removed.stderr
    assert differences(before, dump(node)) == []
    assert said == {"net.ipv4.ip_forward"}
    assert differences({"switches": switches_before}, {"switches": switches(node)}) == []


def test_a_node_can_be_installed_again(lab: Lab) -> None:
    node = lab.node("n1")
    # Whoever starts services makes their folders.
    services.make_folders(node.layout)

    lab.start()
    pod = node.add_pod("again")

    assert traffic.unreachable_pairs([pod, lab.node("n2").pod("far")]) == []
