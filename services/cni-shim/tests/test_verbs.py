"""The verbs against fakes; what only the real services can show is in tests/contract/cni."""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from weave_cni_shim.core.frame import ANSWER_LIMIT, Request
from weave_cni_shim.core.port import Allocated
from weave_cni_shim.testing.node import Node
from weave_model.attachment import AttachmentKey, ContainerId, Route, Workload
from weave_model.errors import Absent, Exhausted, NotReady
from weave_model.prefix import Prefix

KEY = AttachmentKey("weave", ContainerId("c1"), "eth0")


@dataclass
class Response:
    status: int
    stdout: bytes

    @property
    def body(self) -> Any:
        return json.loads(self.stdout)

    @property
    def code(self) -> int:
        """The code of an error."""
        assert self.status == 1
        return int(self.body["code"])


@pytest.fixture
async def node(tmp_path: Path) -> AsyncIterator[Node]:
    made = Node(tmp_path)
    spooling = asyncio.create_task(made.spool.run(made.verbs.carry_out))
    yield made
    spooling.cancel()
    await asyncio.wait({spooling})


def request(command: str, environ: Mapping[str, str], config: Mapping[str, Any]) -> Request:
    return Request(
        {
            "CNI_COMMAND": command,
            "CNI_CONTAINERID": "c1",
            "CNI_NETNS": "/run/netns/none",
            "CNI_IFNAME": "eth0",
            "CNI_PATH": "/opt/cni/bin",
            **environ,
        },
        json.dumps({"cniVersion": "1.1.0", "name": "weave", **config}).encode(),
    )


async def run(
    node: Node, command: str, environ: Mapping[str, str] | None = None, /, **config: Any
) -> Response:
    answer = await node.verbs.answer(request(command, environ or {}, config))
    return Response(answer.exit_code, answer.stdout)


async def add(node: Node, container: str = "c1", **config: Any) -> Any:
    response = await run(node, "ADD", {"CNI_CONTAINERID": container}, **config)
    assert response.status == 0
    return response.body


# ADD


async def test_add_passes_on_what_the_caller_asked_for(node: Node) -> None:
    await run(
        node,
        "ADD",
        {"CNI_ARGS": "K8S_POD_NAMESPACE=shop;K8S_POD_NAME=cart-0;K8S_POD_UID=u1"},
        mtu=1400,
        ipam={"routes": [{"dst": "192.0.2.0/24"}]},
        runtimeConfig={"ips": ["10.32.0.9"], "mac": "02:00:00:00:00:01"},
    )

    port = node.router.ports[KEY].port
    assert port.workload == Workload("shop", "cart-0", "u1")
    assert port.addresses == (Prefix.parse("10.32.0.9"),)
    assert port.routes == (Route(Prefix.parse("192.0.2.0/24")),)
    assert (port.mtu, port.mac) == (1400, b"\x02\0\0\0\0\x01")


async def test_s10_the_nodes_own_namespace_is_refused(node: Node) -> None:
    response = await run(node, "ADD", {"CNI_NETNS": f"/proc/{os.getpid()}/ns/net"})

    assert response.code == 8
    assert node.is_empty


async def test_s10_unless_the_caller_insists(node: Node) -> None:
    environ = {"CNI_NETNS": f"/proc/{os.getpid()}/ns/net", "CNI_NETNS_OVERRIDE": "1"}

    assert (await run(node, "ADD", environ)).status == 0


async def test_s10_a_missing_namespace_is_named_by_the_router(node: Node) -> None:
    node.stage.errors["router.prepare:before"] = Absent("no namespace /run/netns/none")

    response = await run(node, "ADD")

    assert response.code == 8
    assert response.body["msg"] == "interface: no namespace /run/netns/none"


async def test_s18_a_second_add_of_an_interface_fails(node: Node) -> None:
    await add(node)

    assert (await run(node, "ADD")).code == 100
    assert node.router.ports[KEY].is_open


async def test_s21_an_add_behind_another_plugin_keeps_its_result(node: Node) -> None:
    result = await add(node, prevResult={"interfaces": [{"name": "lo"}], "future": 1})

    assert result["future"] == 1
    assert result["interfaces"][0] == {"name": "lo"}


async def test_a_previous_result_of_another_shape_is_refused_before_anything_is_done(
    node: Node,
) -> None:
    assert (await run(node, "ADD", prevResult={"ips": 7})).code == 6
    assert node.stage.calls == []


@pytest.mark.parametrize(
    ("error", "code"), [(NotReady("no ring yet"), 11), (Exhausted("universe is full"), 11)]
)
async def test_s24_a_passing_condition_is_code_11(node: Node, error: Any, code: int) -> None:
    node.stage.errors["ipam.allocate:before"] = error

    response = await run(node, "ADD")

    assert response.code == code
    assert response.body["msg"] == f"address: {error}"


async def test_a_result_too_long_for_the_frame_is_taken_back(node: Node) -> None:
    response = await run(node, "ADD", prevResult={"future": "ü" * (ANSWER_LIMIT // 6)})

    assert response.code == 7
    assert node.is_empty


async def test_a_bug_is_an_internal_error_and_leaves_nothing(
    node: Node, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    async def broken(*_: object) -> None:
        raise RuntimeError("bug")

    monkeypatch.setattr(node.npc, "admit", broken)

    response = await run(node, "ADD")

    assert response.code == 999
    assert response.body["msg"] == "RuntimeError: bug"
    assert "Traceback" in caplog.text
    assert node.is_empty


# DEL


async def test_s26_del_needs_nothing_to_be_there(node: Node) -> None:
    assert await run(node, "DEL", {"CNI_NETNS": ""}) == Response(0, b"")


async def test_s27_del_again_is_a_success(node: Node) -> None:
    await add(node)

    assert [(await run(node, "DEL")).status for _ in range(3)] == [0, 0, 0]
    assert node.is_empty


async def test_s29_del_releases_the_address_though_the_namespace_is_gone(node: Node) -> None:
    await add(node)

    await run(node, "DEL", {"CNI_NETNS": "/run/netns/gone"})

    assert node.ipam.held == {}


async def test_s30_del_does_not_depend_on_the_present_configuration(node: Node) -> None:
    await add(node)

    assert (await run(node, "DEL", ipMasq=True, mtu="x", ipam={"type": 7})).status == 0
    assert node.is_empty


async def test_a_del_that_cannot_be_carried_out_succeeds_and_is_kept(node: Node) -> None:
    await add(node)
    node.stage.errors["router.detach:before"] = NotReady("router does not answer")

    assert await run(node, "DEL") == Response(0, b"")

    assert len(node.spool) == 1
    node.stage.errors.clear()
    await node.spool.settled(KEY)
    assert node.is_empty


async def test_a_del_that_can_neither_be_done_nor_kept_fails(node: Node) -> None:
    node.stage.errors["router.detach:before"] = NotReady("router does not answer")
    (node.folder / "spool").write_text("in the way")

    response = await run(node, "DEL")

    assert response.code == 11
    assert response.body["details"] == "and the DEL cannot be kept: File exists"


async def test_s51_del_as_ipam_plugin_releases_the_address_only(node: Node) -> None:
    environ = {"WEAVE_ARGV0": "weave-ipam"}
    await run(node, "ADD", environ)

    await run(node, "DEL", environ)

    assert node.stage.calls == ["ipam.lookup", "ipam.allocate", "ipam.release"]
    assert node.is_empty


@pytest.mark.parametrize("was_held", [False, True])
async def test_an_address_whose_caller_left_goes_back_unless_it_was_held_before(
    node: Node, *, was_held: bool
) -> None:
    environ = {"WEAVE_ARGV0": "weave-ipam"}
    if was_held:
        await run(node, "ADD", environ)
    arrived = node.stage.hold("ipam.allocate:after")
    asked = asyncio.create_task(run(node, "ADD", environ))
    await arrived.wait()

    asked.cancel()
    await asyncio.wait({asked})

    assert asked.cancelled()
    assert list(node.ipam.held) == ([KEY] if was_held else [])


async def test_an_address_that_cannot_go_back_now_goes_back_later(node: Node) -> None:
    node.stage.errors["ipam.allocate:after"] = NotReady("ipam does not answer")
    node.stage.errors["ipam.release:before"] = NotReady("ipam does not answer")

    assert (await run(node, "ADD", {"WEAVE_ARGV0": "weave-ipam"})).code == 11
    assert (len(node.ipam.held), len(node.spool)) == (1, 1)

    node.stage.errors.clear()
    async with asyncio.timeout(5):
        while len(node.spool):  # noqa: ASYNC110 - the spool has a rhythm of its own
            await asyncio.sleep(0.01)
    assert node.is_empty


# CHECK


async def test_s35_check_passes_right_after_add(node: Node) -> None:
    result = await add(node)

    assert await run(node, "CHECK", prevResult=result) == Response(0, b"")


async def test_s32_check_needs_the_result_of_add(node: Node) -> None:
    await add(node)

    assert (await run(node, "CHECK")).code == 7


async def test_s33_check_names_every_difference(node: Node) -> None:
    result = await add(node)
    node.router.ports[KEY].differences = ["mtu: expected 1450, found 1500", "route: ..."]

    response = await run(node, "CHECK", prevResult=result)

    assert response.code == 102
    assert response.body["details"] == "mtu: expected 1450, found 1500; route: ..."


async def test_s33_check_fails_when_the_interface_is_unknown(node: Node) -> None:
    result = await add(node)
    node.router.ports.clear()

    response = await run(node, "CHECK", prevResult=result)

    assert response.body["details"] == "interface: weave/c1/eth0 is not attached"


async def test_s33_check_fails_when_a_service_is_away(node: Node) -> None:
    result = await add(node)
    node.stage.errors["ipam.lookup:before"] = NotReady("ipam does not answer")

    assert (await run(node, "CHECK", prevResult=result)).code == 11


async def test_s34_check_tolerates_addresses_of_later_plugins(node: Node) -> None:
    result = await add(node)
    result["ips"].append({"address": "192.0.2.1/24"})

    assert (await run(node, "CHECK", prevResult=result)).status == 0


async def test_s38_check_finds_a_lost_address_record(node: Node) -> None:
    result = await add(node)
    node.ipam.held.clear()

    response = await run(node, "CHECK", prevResult=result)

    assert response.body["details"] == "no address is recorded"


async def test_s38_check_finds_an_address_recorded_anew(node: Node) -> None:
    result = await add(node)
    held = node.ipam.held[KEY]
    other = type(held.addresses[0])(held.addresses[0].family, held.addresses[0].address + 1, 12)
    node.ipam.held[KEY] = Allocated((other,), held.generation)

    response = await run(node, "CHECK", prevResult=result)

    assert "10.32.0.2/32" in response.body["details"]


async def test_s37_check_changes_nothing(node: Node) -> None:
    result = await add(node)
    node.stage.calls.clear()

    await run(node, "CHECK", prevResult=result)

    assert node.stage.calls == ["ipam.lookup", "router.check"]


async def test_check_as_ipam_plugin_compares_the_address_only(node: Node) -> None:
    environ = {"WEAVE_ARGV0": "weave-ipam"}
    result = (await run(node, "ADD", environ)).body

    assert (await run(node, "CHECK", environ, prevResult=result)).status == 0


# GC


def attachments(*containers: str) -> dict[str, Any]:
    entries = [{"containerID": name, "ifname": "eth0"} for name in containers]
    return {"cni.dev/valid-attachments": entries}


async def test_s44_gc_frees_what_is_not_listed(node: Node) -> None:
    for name in ("c1", "c2", "c3"):
        await add(node, name)

    assert await run(node, "GC", **attachments("c2")) == Response(0, b"")

    assert [key.container_id for key in node.ipam.held] == ["c2"]
    assert [key.container_id for key in node.router.ports] == ["c2"]


async def test_s44_gc_leaves_other_networks_alone(node: Node) -> None:
    await add(node, name="other")

    await run(node, "GC", **attachments())

    assert len(node.ipam.held) == 1


async def test_s44_gc_frees_an_address_without_interface_and_the_reverse(node: Node) -> None:
    await add(node, "c1")
    await add(node, "c2")
    node.router.ports.pop(KEY)
    node.ipam.held.pop(AttachmentKey("weave", ContainerId("c2"), "eth0"))

    await run(node, "GC", **attachments())

    assert node.is_empty


async def test_s45_without_a_list_gc_frees_nothing(node: Node) -> None:
    await add(node)

    assert (await run(node, "GC")).code == 7
    assert not node.is_empty


async def test_s45_an_empty_list_frees_all_but_the_nodes_own_address(node: Node) -> None:
    own = AttachmentKey("weave", ContainerId("weave:expose"), "weave")
    await node.ipam.allocate(own, Workload(), (), (), 1.0)
    await add(node)

    await run(node, "GC", **attachments())

    assert list(node.ipam.held) == [own]


async def test_s46_gc_goes_on_after_an_error_and_reports_all(node: Node) -> None:
    for name in ("c1", "c2"):
        await add(node, name)
    node.stage.errors["ipam.release:before"] = NotReady("ipam does not answer")

    response = await run(node, "GC", **attachments())

    assert response.code == 103
    assert "weave/c1/eth0: address: ipam does not answer" in response.body["details"]
    assert "weave/c2/eth0: address: ipam does not answer" in response.body["details"]


async def test_s47_gc_does_not_end_an_add_under_way(node: Node) -> None:
    arrived = node.stage.hold("router.activate:before")
    adding = asyncio.create_task(run(node, "ADD"))
    await arrived.wait()

    await run(node, "GC", **attachments())

    node.stage.release("router.activate:before")
    assert (await adding).status == 0
    assert node.router.ports[KEY].is_open


# STATUS and VERSION


async def test_s39_status_succeeds_while_an_add_would(node: Node) -> None:
    assert await run(node, "STATUS") == Response(0, b"")


async def test_s40_status_says_why_an_add_would_fail(node: Node) -> None:
    node.ipam.not_ready = "ipam: universe is full"
    node.stage.errors["router.why_not_ready:before"] = NotReady("router does not answer")

    response = await run(node, "STATUS")

    assert response.code == 50
    assert response.body["details"] == "ipam: universe is full; router does not answer"


async def test_s39_status_tells_whether_pods_that_are_there_may_be_cut_off(node: Node) -> None:
    node.router.not_ready = "router: the data plane is being set up"
    unused = await run(node, "STATUS")

    node.router.is_impaired = True
    used = await run(node, "STATUS")

    assert (unused.code, used.code) == (50, 51)


async def test_s41_other_verbs_work_though_status_fails(node: Node) -> None:
    node.ipam.not_ready = "ipam: universe is full"

    assert (await run(node, "DEL")).status == 0


async def test_s13_version_repeats_the_version_it_was_asked_in(node: Node) -> None:
    answer = await node.verbs.answer(Request({"CNI_COMMAND": "VERSION"}, b'{"cniVersion":"0.4.0"}'))

    assert json.loads(answer.stdout)["cniVersion"] == "0.4.0"


# Errors


async def test_an_error_repeats_the_version_of_the_request(node: Node) -> None:
    response = await run(node, "ADD", cniVersion="0.4.0", name="-")

    assert response.body["cniVersion"] == "0.4.0"


async def test_failures_are_counted_and_logged_with_their_container(
    node: Node, caplog: pytest.LogCaptureFixture
) -> None:
    await run(node, "ADD", name="-")
    await add(node)
    await run(node, "DEL")

    assert (node.verbs.counters.adds, node.verbs.counters.dels) == (1, 1)
    assert node.verbs.counters.failures == 1
    assert caplog.records[0].cni_containerid == "c1"  # type: ignore[attr-defined]


async def test_failed_status_calls_do_not_fill_the_log(
    node: Node, caplog: pytest.LogCaptureFixture
) -> None:
    node.ipam.not_ready = "ipam: universe is full"

    await run(node, "STATUS")

    assert caplog.text == ""
