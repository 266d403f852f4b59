"""What only weave-net is asked: its daemon away, its addresses used up, plugins around it."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from tests.contract.cni.place import SYSTEM_PATH, Outcome, Program
from tests.contract.cni.runtime import Runtime, Sandbox
from tests.contract.cni.subjects import REFERENCE_DIR, lab_name, weave
from weave_lab import Lab, LabSpec, Node

pytestmark = pytest.mark.lab

DOWN_S = 0.1


@pytest.fixture(scope="module")
def lab() -> Iterator[Lab]:
    arguments = {"cni-shim": ("--collect-interval=200ms",)}
    with Lab.up(LabSpec(name=lab_name("t-cni-weave"), nodes=1, arguments=arguments)) as made:
        yield made


@pytest.fixture
def node(lab: Lab) -> Node:
    return lab.node("n1")


@pytest.fixture
def runtime(lab: Lab, numbers: Iterator[int]) -> Iterator[Runtime]:
    with weave(lab) as subject:
        made = Runtime(subject, f"weave{next(numbers)}")
        yield made
        made.clean_up()


def as_ipam_plugin(
    runtime: Runtime, command: str, sandbox: Sandbox, config: dict[str, Any]
) -> Outcome:
    """A call of a reference plugin whose IPAM plugin we are."""
    program = runtime.program(command, sandbox, config)
    argv = [f"{REFERENCE_DIR}/{config['type']}"]
    (outcome,) = runtime.place.run(Program(argv, program.environ, program.stdin))
    return outcome


def main_plugin(runtime: Runtime, **fields: Any) -> dict[str, Any]:
    return {
        "cniVersion": "1.0.0",
        "name": runtime.network,
        "ipam": {"type": "weave-ipam", "subnet": "10.41.0.0/24"},
        **fields,
    }


# The daemon away


def test_add_without_the_daemon_fails_at_once_with_code_11(runtime: Runtime, node: Node) -> None:
    sandbox = runtime.sandbox()
    node.kill("cni-shim")

    outcomes = [runtime.call("ADD", sandbox) for _ in range(5)]

    node.start("cni-shim")
    node.wait_ready()
    assert [outcome.code for outcome in outcomes] == [11] * 5
    assert min(outcome.elapsed_s for outcome in outcomes) < DOWN_S


def test_del_without_the_daemon_succeeds_and_is_carried_out_later(
    runtime: Runtime, node: Node
) -> None:
    sandbox = runtime.sandbox()
    result = runtime.add(sandbox)
    node.kill("cni-shim")

    assert runtime.delete(sandbox, result).status == 0

    assert runtime.holders() == {sandbox.container_id}
    node.start("cni-shim")
    node.wait_ready()
    runtime.add(sandbox)
    runtime.delete(sandbox)
    assert runtime.holders() == set()


@pytest.mark.parametrize("service", ["ipam", "router"])
def test_s40_s41_without_a_service_status_fails_and_del_succeeds(
    runtime: Runtime, node: Node, service: str
) -> None:
    sandbox = runtime.sandbox()
    result = runtime.add(sandbox)
    node.kill(service)

    status = runtime.call("STATUS", None)
    deleted = runtime.delete(sandbox, result)

    node.start(service)
    node.wait_ready()
    assert status.code == 50
    assert f"{service} does not answer" in status.message
    assert deleted.status == 0
    runtime.add(sandbox)
    runtime.delete(sandbox)
    assert runtime.holders() == set()


def test_attachments_of_vanished_namespaces_are_collected(runtime: Runtime) -> None:
    """No runtime but CRI-O calls GC."""
    dead, living = runtime.sandbox(), runtime.sandbox()
    runtime.add(dead)
    result = runtime.add(living)

    runtime.remove(dead)

    deadline = time.monotonic() + 20
    while runtime.holders() != {living.container_id}:
        assert time.monotonic() < deadline
        time.sleep(0.05)
    assert runtime.check(living, result).status == 0


# Plugins around it


@pytest.mark.parametrize("version", ["0.3.1", "0.4.0", "1.0.0"])
def test_s51_bridge_takes_addresses_from_our_ipam_plugin(runtime: Runtime, version: str) -> None:
    config = main_plugin(
        runtime, cniVersion=version, type="bridge", bridge="lan0", isGateway=True, ipMasq=False
    )
    sandbox = runtime.sandbox()

    added = as_ipam_plugin(runtime, "ADD", sandbox, config)

    assert added.status == 0, added.stdout
    assert added.body["ips"][0]["address"].endswith("/24")
    assert runtime.holders() == {sandbox.container_id}
    assert as_ipam_plugin(runtime, "DEL", sandbox, config).status == 0
    assert runtime.holders() == set()


def test_s51_macvlan_takes_addresses_from_our_ipam_plugin(runtime: Runtime) -> None:
    runtime.place.shell("ip", "link", "add", "lan1", "type", "veth", "peer", "name", "lan2")
    config = main_plugin(runtime, type="macvlan", master="lan1", mode="bridge")
    sandbox = runtime.sandbox()

    added = as_ipam_plugin(runtime, "ADD", sandbox, config)
    checked = as_ipam_plugin(runtime, "CHECK", sandbox, {**config, "prevResult": added.body})
    deleted = as_ipam_plugin(runtime, "DEL", sandbox, config)

    runtime.place.shell("ip", "link", "delete", "lan1")
    assert added.status == 0, added.stdout
    assert checked.status == 0, checked.stdout
    assert deleted.status == 0
    assert runtime.holders() == set()


def test_portmap_and_bandwidth_work_behind_it(runtime: Runtime) -> None:
    sandbox = runtime.sandbox()
    result = runtime.add(sandbox, cniVersion="1.0.0")
    chain: dict[str, dict[str, Any]] = {
        "portmap": {"runtimeConfig": {"portMappings": [_PORT]}, "snat": True},
        "bandwidth": {"runtimeConfig": {"bandwidth": _RATE}},
    }

    for name, fields in chain.items():
        config: dict[str, Any] = {"cniVersion": "1.0.0", "name": runtime.network, **fields}
        config["type"] = name
        program = runtime.program("ADD", sandbox, {**config, "prevResult": result})
        (outcome,) = runtime.place.run(
            Program([f"{REFERENCE_DIR}/{name}"], program.environ, program.stdin)
        )
        assert outcome.status == 0, outcome.stdout + outcome.stderr
        result = outcome.body

    assert runtime.check(sandbox, result, cniVersion="1.0.0").status == 0
    assert _answered_at_host_port(runtime, sandbox)
    for name, fields in reversed(chain.items()):
        config = {"cniVersion": "1.0.0", "name": runtime.network, "type": name, **fields}
        program = runtime.program("DEL", sandbox, {**config, "prevResult": result})
        (outcome,) = runtime.place.run(
            Program([f"{REFERENCE_DIR}/{name}"], program.environ, program.stdin)
        )
        assert outcome.status == 0, outcome.stdout


_PORT = {"hostPort": 18080, "containerPort": 80, "protocol": "tcp"}
_RATE = {
    "ingressRate": 1_000_000_000,
    "ingressBurst": 80_000_000,
    "egressRate": 1_000_000_000,
    "egressBurst": 80_000_000,
}
_SERVER = (
    "import socket; s = socket.create_server(('', 80)); s.settimeout(20);"
    "c, _ = s.accept(); c.sendall(b'pod'); c.close()"
)
_CLIENT = (
    "import socket, sys, time\n"
    "for _ in range(100):\n"
    "    try: c = socket.create_connection((sys.argv[1], 18080), 2)\n"
    "    except OSError: time.sleep(0.05); continue\n"
    "    print(c.recv(9).decode()); break\n"
)


def _answered_at_host_port(runtime: Runtime, sandbox: Sandbox) -> bool:
    """Does the pod answer on the node's own address?"""
    node = next(
        entry["local"]
        for link in runtime.place.json("ip", "-json", "-4", "address")
        for entry in link["addr_info"]
        if entry["local"].startswith("10.99.")
    )
    environ = {"PATH": SYSTEM_PATH}
    inside = ["ip", "netns", "exec", sandbox.name]
    _, client = runtime.place.run(
        Program([*inside, "python3", "-c", _SERVER], environ),
        Program(["python3", "-c", _CLIENT, node], environ),
    )
    return client.stdout == "pod\n"


def test_a_second_interface_of_a_sandbox_gets_no_default_route(runtime: Runtime) -> None:
    sandbox = runtime.sandbox()
    runtime.add(sandbox)

    second = runtime.call("ADD", sandbox, CNI_IFNAME="net1")

    assert second.status == 0, second.stdout
    routes = runtime.inside(sandbox, "route", "show", "dev", "net1")
    assert "default" not in {route["dst"] for route in routes}
    assert runtime.call("DEL", sandbox, CNI_IFNAME="net1").status == 0
    assert runtime.interfaces(sandbox) == {"lo", "eth0"}


def test_an_empty_list_of_routes_is_no_route_at_all(runtime: Runtime) -> None:
    sandbox = runtime.sandbox()
    config = runtime.config(cniVersion="1.1.0", ipam={"type": "weave-ipam", "routes": []})

    added = runtime.call("ADD", sandbox, config)

    assert added.status == 0, added.stdout
    assert added.body.get("routes", []) == []
    assert "default" not in {route["dst"] for route in runtime.inside(sandbox, "route", "show")}
    assert runtime.check(sandbox, added.body, **config).status == 0


def test_named_routes_take_the_place_of_the_default_one(runtime: Runtime) -> None:
    sandbox = runtime.sandbox()
    routes = [{"dst": "10.32.0.0/12"}, {"dst": "203.0.113.0/24"}]
    config = runtime.config(cniVersion="1.1.0", ipam={"type": "weave-ipam", "routes": routes})

    added = runtime.call("ADD", sandbox, config)

    assert added.status == 0, added.stdout
    found = {route["dst"] for route in runtime.inside(sandbox, "route", "show")}
    assert found >= {"10.32.0.0/12", "203.0.113.0/24"}
    assert "default" not in found


def test_s17_the_conflist_offers_what_old_and_new_runtimes_know(node: Node) -> None:
    conflist = json.loads((node.layout.conf_dir / "10-weave.conflist").read_text())

    assert conflist["cniVersion"] == "1.0.0"
    assert conflist["cniVersions"] == ["0.4.0", "1.0.0", "1.1.0"]


def test_s24_s39_s40_a_range_used_up_is_told_before_and_at_an_add() -> None:
    """ADD says "try again later" at once, STATUS and the conflist say it before."""
    spec = LabSpec(
        name=lab_name("t-cni-small"),
        nodes=1,
        address_range="10.44.0.0/29",
        environment={"WEAVE_QUARANTINE": "1s"},
    )
    with Lab.up(spec) as lab, weave(lab) as subject:
        runtime = Runtime(subject, "small")
        conflist = lab.node("n1").layout.conf_dir / "10-weave.conflist"
        sandboxes = [runtime.sandbox() for _ in range(8)]
        outcomes = [runtime.call("ADD", sandbox) for sandbox in sandboxes]
        full = runtime.call("STATUS", None, runtime.config(cniVersion="1.1.0"))
        gone = until(lambda: not conflist.exists())
        runtime.call("DEL", sandboxes[0])
        back = until(conflist.exists)
        again = runtime.call("STATUS", None, runtime.config(cniVersion="1.1.0"))
        added = runtime.call("ADD", sandboxes[-1])
        runtime.clean_up()

    text = "no free address is left in 10.44.0.0/29"
    assert outcomes[0].status == 0
    assert outcomes[-1].code == 11
    assert text in outcomes[-1].message
    assert full.code == 50
    assert text in full.body["details"]
    assert (gone, back, again.status, added.status) == (True, True, 0, 0)


def until(holds: Callable[[], bool]) -> bool:
    deadline = time.monotonic() + 30.0
    while not holds():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.05)
    return True
