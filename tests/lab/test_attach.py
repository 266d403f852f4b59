"""weave attach and detach: namespaces that no runtime made."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from ipaddress import IPv4Address

import pytest

from tests.lab.nameless import nameless_process
from weave_lab import Node, Pod

pytestmark = pytest.mark.lab


@pytest.fixture
def namespace(n1: Node) -> Iterator[list[str]]:
    """The command that leads into a named namespace of n1, which nothing is attached to."""
    n1.exec(["ip", "netns", "add", "plain"])
    yield [*n1.enter(), "ip", "netns", "exec", "plain"]
    n1.exec(["weave", "detach", "plain"])
    n1.exec(["ip", "netns", "delete", "plain"])


@pytest.fixture
def pod(n2: Node) -> Iterator[Pod]:
    yield n2.add_pod("peer")
    n2.delete_pod("peer")


def said(node: Node, *argv: str) -> str:
    done = node.exec(["weave", *argv])
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def reaches(enter: list[str], address: str) -> bool:
    command = [*enter, "ping", "-n", "-c1", "-W3", address]
    return subprocess.run(command, capture_output=True, check=False).returncode == 0


def test_an_attached_namespace_reaches_pods_until_it_is_detached(
    n1: Node, namespace: list[str], pod: Pod
) -> None:
    address = said(n1, "attach", "plain")
    again = said(n1, "attach", "/var/run/netns/plain")
    links = json.loads(subprocess.check_output([*namespace, "ip", "-j", "addr", "show", "ethwe"]))
    reached = reaches(namespace, pod.address)
    back = pod.exec(["ping", "-n", "-c1", "-W3", address.partition("/")[0]])
    listed = said(n1, "ps")
    released = said(n1, "detach", "plain")

    assert again == address
    assert links[0]["addr_info"][0]["local"] == address.partition("/")[0]
    assert (reached, back.returncode) == (True, 0)
    assert address in listed
    assert released == address
    assert address not in said(n1, "ps")
    assert not reaches(namespace, pod.address)
    assert said(n1, "detach", "plain") == ""


def test_a_wanted_address_is_given(n1: Node, namespace: list[str]) -> None:
    first, _, length = said(n1, "attach", "plain").partition("/")
    said(n1, "detach", "plain")
    # Of the same node's space, and far from what other tests have used.
    wanted = str(IPv4Address(first) + 1000)

    assert said(n1, "attach", wanted, "plain") == f"{wanted}/{length}"


def test_a_process_is_attached(n1: Node, namespace: list[str], pod: Pod) -> None:
    sleeper = subprocess.Popen([*namespace, "sh", "-c", "echo $$; exec sleep 60"], stdout=-1)
    try:
        assert sleeper.stdout
        pid = sleeper.stdout.readline().decode().strip()

        said(n1, "attach", pid)
        reached = reaches(namespace, pod.address)
        said(n1, "detach", pid)
    finally:
        sleeper.kill()
        sleeper.communicate()

    assert reached


@pytest.fixture
def nameless(n1: Node) -> Iterator[subprocess.Popen[bytes]]:
    with nameless_process(n1) as process:
        yield process


def names(node: Node) -> str:
    return node.exec(["ls", "/run/netns"]).stdout


def test_a_process_without_a_named_namespace_is_attached_over_a_restart_and_its_own_end(
    n1: Node, nameless: subprocess.Popen[bytes], pod: Pod
) -> None:
    pid = str(nameless.pid)
    inside = [*n1.enter(), "nsenter", f"--net=/proc/{pid}/ns/net", "--"]

    address = said(n1, "attach", pid)
    assert said(n1, "attach", pid) == address
    reached = reaches(inside, pod.address)
    n1.kill("router")
    n1.start("router")
    n1.wait_ready()
    assert (reached, reaches(inside, pod.address)) == (True, True)
    assert address in said(n1, "ps")

    nameless.kill()
    nameless.wait()
    assert said(n1, "detach", pid) == address
    assert said(n1, "detach", pid) == ""
    assert address not in said(n1, "ps")
    assert f"weave-pid-{pid}" not in names(n1)


def test_a_process_that_lives_on_is_detached(
    n1: Node, nameless: subprocess.Popen[bytes], pod: Pod
) -> None:
    pid = str(nameless.pid)
    first = said(n1, "attach", pid)
    second = said(n1, "attach", "--interface", "ethwe2", pid)

    assert said(n1, "detach", pid) == first
    assert f"weave-pid-{pid}" in names(n1)
    assert said(n1, "detach", "--interface", "ethwe2", pid) == second
    assert f"weave-pid-{pid}" not in names(n1)
    links = n1.exec(["nsenter", f"--net=/proc/{pid}/ns/net", "ip", "-o", "link"]).stdout
    assert "ethwe" not in links


def test_a_pod_gets_a_second_interface_and_keeps_its_default_route(n1: Node, pod: Pod) -> None:
    own = n1.add_pod("two-legs")
    try:
        said(n1, "attach", "two-legs")
        routes = json.loads(own.exec(["ip", "-j", "route"]).stdout)
        reached = own.exec(["ping", "-n", "-c1", "-W3", "-I", "ethwe", pod.address])
        said(n1, "detach", "two-legs")
    finally:
        n1.delete_pod("two-legs")

    assert [route["dev"] for route in routes if route["dst"] == "default"] == ["eth0"]
    assert reached.returncode == 0


def test_a_namespace_that_is_not_there_is_named(n1: Node) -> None:
    done = n1.exec(["weave", "attach", "nowhere"])

    assert done.returncode == 1
    assert "nowhere is neither a network namespace" in done.stderr
