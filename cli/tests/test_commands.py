"""The commands that change something: what they send and what they print."""

from __future__ import annotations

import grpc
import pytest

from cli.tests.conftest import Weave
from cli.tests.fake_node import FakeNode
from weave.ipam.v1 import ipam_pb2
from weave.types.v1 import types_pb2


def test_connect_sends_the_targets(node: FakeNode, weave: Weave) -> None:
    done = weave("connect", "--replace", "10.99.0.7", "n8:6783")

    assert (done.status, done.out) == (0, "")
    [(_, rpc, request)] = node.requests
    assert rpc == "Connect"
    assert list(request.targets) == ["10.99.0.7", "n8:6783"]
    assert request.replace


def test_forget_sends_the_targets(node: FakeNode, weave: Weave) -> None:
    done = weave("forget", "10.99.0.7")

    assert (done.status, done.out) == (0, "")
    [(_, rpc, request)] = node.requests
    assert (rpc, list(request.targets)) == ("Forget", ["10.99.0.7"])


def test_a_refused_target_is_told_in_one_line(node: FakeNode, weave: Weave) -> None:
    node.fail("gossip", "Connect", grpc.StatusCode.INVALID_ARGUMENT, "'!' is no address")

    done = weave("connect", "!")

    assert done.status == 1
    assert done.err == "ERROR: gossip: '!' is no address\n"


def test_prime_returns_when_the_ring_exists(weave: Weave) -> None:
    done = weave("prime")

    assert (done.status, done.out, done.err) == (0, "", "")


def test_prime_fails_when_no_ring_comes(node: FakeNode, weave: Weave) -> None:
    node.fail("ipam", "Prime", grpc.StatusCode.DEADLINE_EXCEEDED, "awaiting consensus")

    done = weave("prime")

    assert done.status == 1
    assert done.err == "ERROR: ipam: awaiting consensus\n"


def removed(node: FakeNode) -> list[str]:
    return [request.peer for _, rpc, request in node.requests if rpc == "Reclaim"]


def test_rmpeer_prints_a_line_per_peer(node: FakeNode, weave: Weave) -> None:
    done = weave("rmpeer", "n3", "n4")

    assert done.out.splitlines() == ["262144 IPs taken over from 1a:2b:3c:4d:5e:03"] * 2
    assert removed(node) == ["n3", "n4"]


@pytest.mark.parametrize("named", [["n4"], ["n4", "n2"]])
def test_rmpeer_waits_for_owners_that_may_know_more(
    node: FakeNode, weave: Weave, named: list[str]
) -> None:
    done = weave("rmpeer", *named)

    assert done.status == 1
    assert done.err.startswith("ERROR: 1a:2b:3c:4d:5e:03(n3) cannot be reached either")
    assert "--force" in done.err
    assert removed(node) == []


@pytest.mark.parametrize("arguments", [["--force", "n4"], ["n4", "1a:2b:3c:4d:5e:03"]])
def test_rmpeer_takes_over_all_the_same_when_told_so(
    node: FakeNode, weave: Weave, arguments: list[str]
) -> None:
    done = weave("rmpeer", *arguments)

    assert done.status == 0
    assert removed(node) == [name for name in arguments if name != "--force"]


def test_ipam_check_names_what_is_wrong_and_fails(node: FakeNode, weave: Weave) -> None:
    finding = ipam_pb2.CheckResponse.Finding(
        kind="leak",
        key=types_pb2.AttachmentKey(container_id="0123456789abcdef"),
        addresses=[types_pb2.Prefix(address=bytes([10, 32, 0, 5]), length=32)],
        since_unix_s=1_709_612_000,
        advice="its sandbox is gone",
    )
    node.answers["ipam", "Check"] = ipam_pb2.CheckResponse(findings=[finding])

    done = weave("ipam", "check")

    assert done.status == 1
    assert done.out == (
        "leak: 0123456789ab 10.32.0.5/32 since 2024-03-05 04:13:20 UTC: its sandbox is gone\n"
    )


def test_ipam_check_is_quiet_when_all_is_well(node: FakeNode, weave: Weave) -> None:
    node.answers["ipam", "Check"] = ipam_pb2.CheckResponse()

    done = weave("ipam", "check", "--repair")

    assert (done.status, done.out) == (0, "")
    assert [request.repair for _, _, request in node.requests] == [True]


@pytest.mark.parametrize("verb", ["expose", "hide"])
def test_expose_and_hide_print_the_address(verb: str, weave: Weave) -> None:
    done = weave(verb)

    assert (done.status, done.out) == (0, "10.32.0.1/32\n")


def test_reset_hands_over_before_it_removes(node: FakeNode, weave: Weave) -> None:
    done = weave("reset")

    assert [rpc for _, rpc, _ in node.requests] == ["Leave", "Withdraw", "Reset"]
    assert done.out.splitlines() == [
        "524288 IPs handed over to other peers",
        "removed: /opt/cni/bin/weave-net",
        "left as it is: net.ipv4.ip_forward=1",
        "stop the services; `weave reset --files` then removes what they keep on disk",
    ]


def test_reset_does_nothing_when_it_cannot_leave_the_cluster(node: FakeNode, weave: Weave) -> None:
    node.down("ipam")

    done = weave("reset")

    assert done.status == 1
    assert done.err.startswith("ERROR: weave is not running; unable to remove from cluster")
    assert node.requests == []


def test_reset_by_force_removes_the_data_path_all_the_same(node: FakeNode, weave: Weave) -> None:
    node.fail("ipam", "Leave", grpc.StatusCode.UNAVAILABLE, "no heir is reachable")

    done = weave("reset", "--force")

    assert done.status == 0
    assert "not removed from the cluster: ipam: no heir is reachable" in done.out
    assert [rpc for _, rpc, _ in node.requests] == ["Leave", "Withdraw", "Reset"]


def test_reset_by_force_needs_no_cni_shim(node: FakeNode, weave: Weave) -> None:
    node.down("cni")

    refused = weave("reset")
    forced = weave("reset", "--force")

    assert (refused.status, forced.status) == (1, 0)
    assert "conflist and executables are left: cni" in forced.out
    assert node.requests[-1][1] == "Reset"


def test_version_works_without_a_node(node: FakeNode, weave: Weave) -> None:
    node.down("gossip")

    done = weave("version")

    assert done.status == 0
    assert done.out == "weave command 0.1.0\n"


def test_an_unknown_flag_is_named(weave: Weave, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        weave("status", "--colour")

    assert ended.value.code == 2
    assert "--colour" in capsys.readouterr().err
