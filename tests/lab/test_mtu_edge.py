"""At the edge of the MTU: what fits arrives, what does not is told at once, TCP never stalls."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Iterator

import pytest

from weave_lab import Lab, Node, Pod
from weave_lab.layout import NETNS_ROOT

pytestmark = pytest.mark.lab

# IPv4 and ICMP headers.
HEADERS = 28
SMALL = 1300
OUTSIDE = "10.99.0.254"
PORT = 8099
MEGABYTE = 1 << 20


@pytest.fixture(scope="module")
def pods(cluster: Lab) -> Iterator[list[Pod]]:
    """Two pods on n1, one on n2."""
    places = [("n1", "e1"), ("n1", "e2"), ("n2", "e3")]
    yield [cluster.node(node).add_pod(name) for node, name in places]
    for node, name in places:
        cluster.node(node).delete_pod(name)


@pytest.fixture
def outside(cluster: Lab) -> Iterator[str]:
    """An HTTP server that pods reach only by leaving the cluster; gives its address."""
    enter = ["nsenter", f"--net={NETNS_ROOT / cluster.layout.wire_netns}", "--"]
    command = [sys.executable, "-I", "-m", "weave_lab.transfer", "serve", str(PORT), str(MEGABYTE)]
    server = subprocess.Popen([*enter, *command], stdout=subprocess.PIPE, text=True)
    assert server.stdout
    assert server.stdout.readline().startswith("{")
    yield f"http://{OUTSIDE}:{PORT}/"
    server.kill()
    server.communicate()


@pytest.fixture
def narrow(n1: Node) -> Iterator[None]:
    """Beyond n1 the way to the outside is narrower than any pod knows."""
    route = ["ip", "route", "replace", f"{OUTSIDE}/32", "dev", "eth0", "mtu", str(SMALL)]
    assert n1.exec(route).returncode == 0
    yield
    n1.exec(["ip", "route", "delete", f"{OUTSIDE}/32"])


def mtu(pod: Pod) -> int:
    link = json.loads(pod.exec(["ip", "-j", "link", "show", "dev", "eth0"]).stdout)[0]
    return int(link["mtu"])


def ping(of: Node | Pod, size: int, address: str) -> str:
    """Sends packets of a whole size that nobody may divide; what ping says."""
    # The first may only be the one that learns the path's MTU.
    command = ["ping", "-n", "-c2", "-i0.2", "-W3", "-Mdo", f"-s{size - HEADERS}", address]
    done = of.exec(command)
    return done.stdout + done.stderr


def downloaded(pod: Pod, url: str) -> int:
    command = [sys.executable, "-I", "-m", "weave_lab.transfer", "fetch", url]
    done = pod.exec(command)
    assert done.returncode == 0, done.stderr
    return int(json.loads(done.stdout)["bytes"])


def test_a_packet_as_large_as_the_pods_mtu_arrives(pods: list[Pod]) -> None:
    here, near, far = pods

    assert "2 received" in ping(here, mtu(here), near.address)
    assert "2 received" in ping(here, mtu(here), far.address)


def test_a_larger_one_is_refused_in_the_pod(pods: list[Pod]) -> None:
    here, near, far = pods

    for target in (near, far):
        said = ping(here, mtu(here) + 1, target.address)
        assert re.search(rf"mtu[ =]+{mtu(here)}", said), said


def test_the_node_itself_is_told_what_fits_into_the_tunnel(n1: Node, pods: list[Pod]) -> None:
    far = pods[2]

    assert "2 received" in ping(n1, mtu(far), far.address)
    said = ping(n1, mtu(far) + 1, far.address)
    assert re.search(rf"mtu[ =]+{mtu(far)}", said), said


def test_the_node_is_told_what_fits_into_its_own_pods(n1: Node, pods: list[Pod]) -> None:
    assert "2 received" in ping(n1, mtu(pods[0]), pods[0].address)


def test_what_comes_from_an_outside_with_a_larger_mtu_arrives(
    pods: list[Pod], outside: str
) -> None:
    assert downloaded(pods[0], outside) == MEGABYTE


@pytest.mark.usefixtures("narrow")
def test_a_pod_is_told_of_a_narrower_way_beyond_its_node(pods: list[Pod]) -> None:
    said = ping(pods[0], mtu(pods[0]), OUTSIDE)

    assert re.search(rf"mtu ?= ?{SMALL}", said), said
    assert "2 received" in ping(pods[0], SMALL, OUTSIDE)


@pytest.mark.usefixtures("narrow")
def test_tcp_takes_the_narrower_way(pods: list[Pod]) -> None:
    """The pod sends: its segments are what does not fit at first."""
    sink = subprocess.Popen(
        [
            *("nsenter", f"--net={NETNS_ROOT / pods[0].node.layout.lab}-wire", "--"),
            *(sys.executable, "-c", _SINK, OUTSIDE, str(PORT + 1)),
        ],
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        assert sink.stdout
        assert sink.stdout.readline() == "listening\n"
        done = pods[1].exec(
            [sys.executable, "-c", _SOURCE, OUTSIDE, str(PORT + 1), str(MEGABYTE)], timeout_s=30
        )
        received, _ = sink.communicate(timeout=30)
    finally:
        sink.kill()
        sink.communicate()

    assert done.returncode == 0, done.stderr
    assert int(received) == MEGABYTE


_SINK = """
import socket, sys
with socket.create_server((sys.argv[1], int(sys.argv[2]))) as server:
    print("listening", flush=True)
    connection, _ = server.accept()
    count = 0
    while data := connection.recv(65536):
        count += len(data)
    print(count)
"""
_SOURCE = """
import socket, sys
with socket.create_connection((sys.argv[1], int(sys.argv[2])), 20) as connection:
    connection.sendall(bytes(int(sys.argv[3])))
"""
