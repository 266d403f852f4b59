"""Who may talk to whom (docs/adr/0004), tried with the services' own uids and groups."""

from __future__ import annotations

import sys

import pytest

from weave_lab import Node
from weave_lab.services import CNI_SHIM, GOSSIP, IPAM, ROUTER, SERVICES, Service

pytestmark = pytest.mark.lab

CALLERS = {
    "gossip": {"ipam", "router", "cni-shim"},
    "ipam": {"router", "cni-shim"},
    "router": {"ipam", "cni-shim"},
    "cni": set[str](),
}
CONNECT = "import socket, sys; socket.socket(socket.AF_UNIX).connect(sys.argv[1])"
STRANGER = 65534


def may_connect(node: Node, command: list[str], path: str) -> bool:
    done = node.exec([*command, sys.executable, "-c", CONNECT, path])
    refused = "PermissionError" in done.stderr
    assert done.returncode == 0 or refused, done.stderr
    return not refused


def identity_of(service: Service) -> list[str]:
    command = service.command()
    return command[: command.index("--") + 1]


@pytest.mark.parametrize("caller", SERVICES, ids=lambda service: service.name)
@pytest.mark.parametrize("callee", SERVICES, ids=lambda service: service.name)
def test_a_service_reaches_its_callees_only(n1: Node, caller: Service, callee: Service) -> None:
    path = f"/run/weave/{callee.folder}/api.sock"

    allowed = may_connect(n1, identity_of(caller), path)

    assert allowed == (caller.name in CALLERS[callee.folder] or caller is callee)


@pytest.mark.parametrize("callee", SERVICES, ids=lambda service: service.name)
def test_a_uid_outside_the_group_is_refused(n1: Node, callee: Service) -> None:
    stranger = ["setpriv", f"--reuid={STRANGER}", f"--regid={STRANGER}", "--clear-groups", "--"]

    assert not may_connect(n1, stranger, f"/run/weave/{callee.folder}/api.sock")


def test_root_reaches_every_service(n1: Node) -> None:
    for service in SERVICES:
        assert may_connect(n1, [], f"/run/weave/{service.folder}/api.sock")


@pytest.mark.parametrize("caller", [GOSSIP, IPAM, ROUTER], ids=lambda service: service.name)
def test_only_root_reaches_the_socket_of_the_host_executable(n1: Node, caller: Service) -> None:
    assert not may_connect(n1, identity_of(caller), "/run/weave/cni/exec.sock")
    assert may_connect(n1, identity_of(CNI_SHIM), "/run/weave/cni/exec.sock")


def test_sockets_have_the_modes_of_the_decision(n1: Node) -> None:
    paths = "/run/weave/*/*.sock"

    shown = n1.exec(["sh", "-c", f"stat -c '%n %u %g %a' {paths}"]).stdout.splitlines()

    assert shown == [
        "/run/weave/cni/api.sock 0 56788 660",
        "/run/weave/cni/exec.sock 0 56788 600",
        "/run/weave/gossip/api.sock 56786 56786 660",
        "/run/weave/ipam/api.sock 56787 56787 660",
        "/run/weave/router/api.sock 56784 56784 660",
    ]


def test_no_service_serves_anything_but_loopback_the_mesh_and_the_tunnel(n1: Node) -> None:
    listening = n1.exec(["ss", "-H", "-ltun"]).stdout.split("\n")

    public = {
        line.split()[4].rpartition(":")[2]
        for line in listening
        if line and not line.split()[4].startswith(("127.", "[::1]"))
    }
    assert public <= {"6783", "6784"}


@pytest.mark.parametrize("service", SERVICES, ids=lambda service: service.name)
def test_a_running_service_has_the_identity_of_the_decision(n1: Node, service: Service) -> None:
    process = n1.service_process(service.name)
    assert process is not None

    status = n1.exec(["cat", f"/proc/{process.pid}/status"]).stdout
    facts = dict(line.split(":\t", 1) for line in status.splitlines() if ":\t" in line)

    assert facts["Uid"].split() == [str(service.uid)] * 4
    assert facts["Gid"].split() == [str(service.gid)] * 4
    assert facts["CapEff"] == ("0000000000201000" if service is ROUTER else "0" * 16)
    assert facts["NoNewPrivs"] == "1"
