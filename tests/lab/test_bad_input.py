"""Wrong input gives one clear line that names the value and what to do, and loses nothing."""

from __future__ import annotations

import contextlib
import json
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence

import pytest

from weave_lab import Lab, LabSpec, Node
from weave_lab.cni import Network, Outcome, load_network
from weave_lab.services import SERVICES

pytestmark = pytest.mark.lab

EVERY_SERVICE = [service.name for service in SERVICES]
WITH_RANGE = ["gossip", "ipam", "router"]
# How long a service gets to notice what is wrong; a cold start takes less than 1 s.
REFUSAL_TIMEOUT_S = 20.0

LISTEN = """
import socket, sys, time
listener = socket.create_server((sys.argv[1], int(sys.argv[2])))
print("listening", flush=True)
time.sleep(1000)
"""


@pytest.fixture(scope="module")
def bare() -> Iterator[Lab]:
    """Two nodes on which nothing runs."""
    with Lab.create(LabSpec(name="t-bad", nodes=2)) as lab:
        yield lab


@pytest.fixture
def node(bare: Lab) -> Iterator[Node]:
    node = bare.node("n1")
    yield node
    node.kill()
    node.exec(["sh", "-c", "rm -rf /var/lib/weave/*/*"])


def refusal(
    node: Node,
    service: str,
    arguments: Sequence[str] = (),
    environment: Mapping[str, str] | None = None,
) -> str:
    """The last line of a service that does not start."""
    done = node.try_out(
        service, arguments=arguments, environment=environment, timeout_s=REFUSAL_TIMEOUT_S
    )
    assert done.returncode not in (0, None), done.stderr
    assert "Traceback" not in done.stderr
    return done.stderr.strip().splitlines()[-1]


@contextlib.contextmanager
def listening(node: Node, host: str, port: int) -> Iterator[None]:
    """Another program of the node holds a port."""
    command = [*node.enter(), sys.executable, "-c", LISTEN, host, str(port)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as other:
        assert other.stdout is not None
        assert other.stdout.readline() == "listening\n"
        yield
        other.kill()


@pytest.mark.parametrize("service", EVERY_SERVICE)
def test_an_unknown_flag_is_named(node: Node, service: str) -> None:
    done = node.try_out(service, arguments=["--no-such-flag"])

    assert done.returncode == 2
    assert done.stderr == f"weave-{service}: unknown flag --no-such-flag\n"


@pytest.mark.parametrize("service", WITH_RANGE)
@pytest.mark.parametrize("value", ["10.32.0.1/12", "ten", "10.32.0.0/33"])
def test_a_range_that_is_no_network_is_named(node: Node, service: str, value: str) -> None:
    done = node.try_out(service, environment={"IPALLOC_RANGE": value})

    assert done.returncode == 2
    assert len(done.stderr.splitlines()) == 1
    assert value in done.stderr
    assert "IPALLOC_RANGE" in done.stderr


@pytest.mark.parametrize("service", WITH_RANGE)
def test_a_range_of_less_than_four_addresses_is_named(node: Node, service: str) -> None:
    done = node.try_out(service, environment={"IPALLOC_RANGE": "10.32.0.0/31"})

    assert done.returncode == 2
    assert len(done.stderr.splitlines()) == 1
    assert "10.32.0.0/31" in done.stderr
    assert "4" in done.stderr


def test_a_range_that_overlaps_a_route_of_the_host_is_named(node: Node) -> None:
    node.exec(["ip", "route", "add", "10.40.0.0/16", "via", "10.99.0.254"])
    try:
        line = refusal(node, "router")
    finally:
        node.exec(["ip", "route", "delete", "10.40.0.0/16"])

    assert "10.32.0.0/12" in line
    assert "10.40.0.0/16" in line


# ipam looks into its state once gossip has said whose state that should be.
@pytest.mark.parametrize(
    ("service", "needs"), [("gossip", "gossip"), ("ipam", "gossip"), ("router", "gossip")]
)
def test_an_unreadable_state_file_is_named_and_kept(node: Node, service: str, needs: str) -> None:
    node.start(needs)
    node.start(service)
    assert until_exists(node, f"/var/lib/weave/{service}/state.db")
    node.kill(service)
    folder = f"/var/lib/weave/{service}"
    damage = f"for file in {folder}/*; do head -c 4096 /dev/urandom > $file; done"
    node.exec(["sh", "-c", damage])
    before = node.exec(["sh", "-c", f"sha256sum {folder}/*"]).stdout

    line = refusal(node, service)

    assert f"{folder}/" in line
    assert before != ""
    assert node.exec(["sh", "-c", f"sha256sum {folder}/*"]).stdout == before


@pytest.mark.parametrize(
    ("service", "host", "port"),
    [
        ("gossip", "0.0.0.0", 6783),
        ("gossip", "127.0.0.1", 6786),
        ("ipam", "127.0.0.1", 6787),
        ("router", "127.0.0.1", 6784),
    ],
)
def test_a_port_in_use_is_named(node: Node, service: str, host: str, port: int) -> None:
    with listening(node, host, port):
        line = refusal(node, service)

    assert str(port) in line
    assert "in use" in line


def test_a_second_instance_is_told_what_the_first_one_holds(node: Node) -> None:
    node.start("gossip")

    line = refusal(node, "gossip", ["--port=7000", "--http-addr="])

    assert "/var/lib/weave/gossip/" in line
    assert "in use" in line


def test_peers_with_different_ranges_refuse_each_other_and_both_say_why(bare: Lab) -> None:
    n1, n2 = bare.nodes()
    n1.start("gossip")
    n2.start("gossip", environment={"IPALLOC_RANGE": "10.40.0.0/13"})
    try:
        shown = [until_shown(each, "10.40.0.0/13") for each in (n1, n2)]
    finally:
        n1.kill()
        n2.kill()

    assert ["10.32.0.0/12" in text for text in shown] == [True, True]
    assert ["established" in text for text in shown] == [False, False]


def until_shown(node: Node, text: str) -> str:
    """What `weave status connections` says once it says `text`, or after a while."""
    deadline = time.monotonic() + REFUSAL_TIMEOUT_S
    while True:
        shown = node.exec(["weave", "status", "connections"]).stdout
        if text in shown or time.monotonic() > deadline:
            return shown
        time.sleep(0.1)


def until_exists(node: Node, path: str) -> bool:
    deadline = time.monotonic() + REFUSAL_TIMEOUT_S
    while node.exec(["test", "-s", path]).returncode != 0:
        if time.monotonic() > deadline:
            return False
        time.sleep(0.1)
    return True


Call = Callable[[Mapping[str, str], str], Outcome]

GOOD = {
    "CNI_COMMAND": "ADD",
    "CNI_CONTAINERID": "bad-input",
    "CNI_NETNS": "/run/netns/bad-input",
    "CNI_IFNAME": "eth0",
    "CNI_PATH": "/opt/cni/bin",
}


@pytest.fixture
def network(n1: Node) -> Network:
    network = load_network(n1.layout.conf_dir)
    assert network is not None
    return network


@pytest.fixture
def call(n1: Node) -> Iterator[Call]:
    """Runs weave-net with exactly these variables; whatever it is told, nothing may be lost."""
    before = n1.exec(["weave", "ps"]).stdout

    def run(environment: Mapping[str, str], stdin: str) -> Outcome:
        return n1.runtime().call("weave-net", environment, stdin)

    yield run
    assert n1.exec(["weave", "ps"]).stdout == before
    assert n1.not_ready_reason() is None


def error_of(outcome: Outcome) -> dict[str, object]:
    assert outcome.status != 0
    error: dict[str, object] = json.loads(outcome.stdout)
    assert error["cniVersion"]
    return error


def test_missing_variables_are_all_named(call: Call, network: Network) -> None:
    given = {key: value for key, value in GOOD.items() if key not in ("CNI_NETNS", "CNI_IFNAME")}

    error = error_of(call(given, network.plugin_input(0, None)))

    assert error["code"] == 4
    assert "CNI_NETNS" in str(error["msg"])
    assert "CNI_IFNAME" in str(error["msg"])


@pytest.mark.parametrize("stdin", ["{", "", "[]", "nonsense"])
def test_broken_json_is_told(call: Call, stdin: str) -> None:
    error = error_of(call(GOOD, stdin))

    assert error["code"] == 6


@pytest.mark.parametrize(
    ("variable", "value", "code"),
    [
        ("CNI_CONTAINERID", "a/../b", 4),
        ("CNI_IFNAME", "a-name-far-too-long", 4),
        ("CNI_IFNAME", "..", 4),
        ("CNI_COMMAND", "DANCE", 4),
    ],
)
def test_a_variable_that_cannot_be_is_named(
    call: Call, network: Network, variable: str, value: str, code: int
) -> None:
    error = error_of(call({**GOOD, variable: value}, network.plugin_input(0, None)))

    assert error["code"] == code
    assert value in f"{error['msg']} {error.get('details', '')}"


def test_an_unknown_version_is_told(call: Call, network: Network) -> None:
    config = json.loads(network.plugin_input(0, None)) | {"cniVersion": "9.0.0"}

    error = error_of(call(GOOD, json.dumps(config)))

    assert error["code"] == 1


def test_the_nodes_own_namespace_is_refused(call: Call, network: Network) -> None:
    own = {**GOOD, "CNI_NETNS": "/proc/self/ns/net"}

    error = error_of(call(own, network.plugin_input(0, None)))

    assert error["code"] == 8
