"""weave.cni.v1.Cni over a real socket."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable
from pathlib import Path
from typing import Any

import grpc
import pytest

from weave.cni.v1 import cni_pb2
from weave.cni.v1.cni_pb2_grpc import CniStub, add_CniServicer_to_server
from weave.types.v1 import types_pb2
from weave_cni_shim.service import CniService
from weave_cni_shim.testing.node import Node
from weave_model.attachment import AttachmentKey, ContainerId
from weave_model.errors import Absent, NotReady
from weave_runtime.testing import serving

KEY = AttachmentKey("weave", ContainerId("c1"), "eth0")
KEY_ON_WIRE = types_pb2.AttachmentKey(network="weave", container_id="c1", interface="eth0")
ATTACH = cni_pb2.AttachRequest(key=KEY_ON_WIRE, netns_path="/run/netns/c1")


@pytest.fixture
async def node(tmp_path: Path) -> AsyncIterator[Node]:
    made = Node(tmp_path)
    spooling = asyncio.create_task(made.spool.run(made.verbs.carry_out))
    yield made
    spooling.cancel()
    await asyncio.wait({spooling})


@pytest.fixture
async def stub(node: Node, tmp_path: Path) -> AsyncIterator[Any]:
    service = CniService(
        node.attacher,
        node.ipam,
        node.readiness,
        node.conflist,
        tmp_path / "bin" / "weave-net",
        node.verbs.counters,
        node.spool,
    )
    async with serving(add_CniServicer_to_server, service) as channel:
        yield CniStub(channel)


async def code_of(call: Awaitable[object]) -> grpc.StatusCode:
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await call
    return caught.value.code()


async def test_status_of_a_ready_node(node: Node, stub: Any, tmp_path: Path) -> None:
    node.conflist.publish()

    status = await stub.GetStatus(cni_pb2.GetStatusRequest())

    assert (status.ready, list(status.reasons)) == (True, [])
    assert status.conflist == str(node.conflist.path)
    assert status.executable == str(tmp_path / "bin/weave-net")
    assert list(status.cni_versions) == ["0.3.0", "0.3.1", "0.4.0", "1.0.0", "1.1.0"]


async def test_status_of_a_node_that_is_not_ready(node: Node, stub: Any) -> None:
    node.ipam.not_ready = "ipam: awaiting consensus"

    status = await stub.GetStatus(cni_pb2.GetStatusRequest())

    assert (status.ready, list(status.reasons)) == (False, ["ipam: awaiting consensus"])
    assert status.conflist == ""


async def test_attach_and_detach(node: Node, stub: Any) -> None:
    attached = await stub.Attach(ATTACH)
    assert attached.addresses[0].address == bytes([10, 32, 0, 1])
    assert node.router.ports[KEY].port.netns == "/run/netns/c1"

    detached = await stub.Detach(cni_pb2.DetachRequest(key=KEY_ON_WIRE))
    assert detached.addresses == attached.addresses
    assert node.is_empty


async def test_both_are_idempotent(node: Node, stub: Any) -> None:
    first = await stub.Attach(ATTACH)
    assert await stub.Attach(ATTACH) == first

    await stub.Detach(cni_pb2.DetachRequest(key=KEY_ON_WIRE))
    again = await stub.Detach(cni_pb2.DetachRequest(key=KEY_ON_WIRE))
    assert list(again.addresses) == []
    assert node.is_empty


async def test_a_request_without_a_namespace_is_refused(stub: Any) -> None:
    call = stub.Attach(cni_pb2.AttachRequest(key=KEY_ON_WIRE))

    assert await code_of(call) is grpc.StatusCode.INVALID_ARGUMENT


async def test_a_bad_name_or_address_is_refused(stub: Any) -> None:
    bad_key = cni_pb2.AttachRequest(key=types_pb2.AttachmentKey(network="-"), netns_path="/n")
    bad_address = cni_pb2.AttachRequest(
        key=KEY_ON_WIRE, netns_path="/n", requested=[types_pb2.Prefix(address=b"x")]
    )

    assert await code_of(stub.Attach(bad_key)) is grpc.StatusCode.INVALID_ARGUMENT
    assert await code_of(stub.Attach(bad_address)) is grpc.StatusCode.INVALID_ARGUMENT


@pytest.mark.parametrize(
    ("point", "error", "code"),
    [
        ("ipam.allocate:before", NotReady("no ring"), grpc.StatusCode.UNAVAILABLE),
        ("router.prepare:before", Absent("no namespace"), grpc.StatusCode.NOT_FOUND),
    ],
)
async def test_errors_of_the_steps_arrive_as_they_are(
    node: Node, stub: Any, point: str, error: NotReady, code: grpc.StatusCode
) -> None:
    node.stage.errors[point] = error

    assert await code_of(stub.Attach(ATTACH)) is code
    assert node.is_empty


async def test_a_withdrawn_plugin_is_not_shown_again(node: Node, stub: Any, tmp_path: Path) -> None:
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "weave-net").touch()
    node.conflist.publish()
    running = asyncio.create_task(node.readiness.run())

    first = await stub.Withdraw(cni_pb2.WithdrawRequest())
    second = await stub.Withdraw(cni_pb2.WithdrawRequest())
    node.readiness.doubt()
    status = await stub.GetStatus(cni_pb2.GetStatusRequest())
    running.cancel()

    assert list(first.removed) == [str(node.conflist.path), str(tmp_path / "bin/weave-net")]
    assert list(second.removed) == []
    assert (status.ready, status.conflist) == (False, "")
    assert list(status.reasons) == ["weave-net is reset on this node"]
