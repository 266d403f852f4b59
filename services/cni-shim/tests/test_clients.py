"""The gRPC side of the backends: what goes over the wire, and what errors become."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import grpc
import pytest

from weave.ipam.v1 import ipam_pb2, ipam_pb2_grpc
from weave.npc.v1 import npc_pb2, npc_pb2_grpc
from weave.router.v1 import router_pb2, router_pb2_grpc
from weave.types.v1 import types_pb2
from weave_cni_shim.backends import NoNpc
from weave_cni_shim.clients import GrpcIpam, GrpcNpc, GrpcRouter
from weave_cni_shim.core.port import LiveAttachment, Port
from weave_model.attachment import AttachmentKey, ContainerId, Route, Workload
from weave_model.errors import Conflict, DomainError, Exhausted, NotReady
from weave_model.prefix import Prefix
from weave_runtime.client import connect
from weave_runtime.testing import serving

KEY = AttachmentKey("weave", ContainerId("c1"), "eth0")
KEY_ON_WIRE = types_pb2.AttachmentKey(network="weave", container_id="c1", interface="eth0")
ADDRESS = types_pb2.Prefix(address=bytes([10, 32, 0, 5]), length=12)
GATEWAY = bytes([169, 254, 1, 1])


class Services:
    """ipam, router and npc in one. Answers with what the test lays down, and keeps the requests."""

    def __init__(self) -> None:
        self.requests: list[Any] = []
        self.answer: Any = None
        self.error: DomainError | None = None

    def __getattr__(self, name: str) -> Any:
        """Every RPC of every service."""
        if name[0].isupper():
            return self._reply
        raise AttributeError(name)

    async def _reply(self, request: Any, _context: Any) -> Any:
        self.requests.append(request)
        if self.error:
            raise self.error
        return self.answer


def register(services: Any, server: Any) -> None:
    ipam_pb2_grpc.add_IpamServicer_to_server(services, server)
    router_pb2_grpc.add_RouterServicer_to_server(services, server)
    npc_pb2_grpc.add_NpcServicer_to_server(services, server)


@pytest.fixture
def services() -> Services:
    return Services()


@pytest.fixture
async def channel(services: Services) -> AsyncIterator[grpc.aio.Channel]:
    async with serving(register, services) as opened:
        yield opened


async def test_allocate(services: Services, channel: grpc.aio.Channel) -> None:
    services.answer = ipam_pb2.AllocateResponse(addresses=[ADDRESS], generation=7, existed=True)

    allocated = await GrpcIpam(channel).allocate(
        KEY,
        Workload("shop", "cart", "u1"),
        [Prefix.parse("10.32.0.0/24")],
        [Prefix.parse("10.32.0.5")],
        5.0,
    )

    assert services.requests == [
        ipam_pb2.AllocateRequest(
            key=KEY_ON_WIRE,
            workload=types_pb2.Workload(namespace="shop", name="cart", uid="u1"),
            subnets=[types_pb2.Prefix(address=bytes([10, 32, 0, 0]), length=24)],
            requested=[types_pb2.Prefix(address=bytes([10, 32, 0, 5]), length=32)],
        )
    ]
    assert [str(address) for address in allocated.addresses] == ["10.32.0.5/12"]
    assert (allocated.generation, allocated.existed) == (7, True)


async def test_lookup_release_and_keys(services: Services, channel: grpc.aio.Channel) -> None:
    ipam = GrpcIpam(channel)

    services.answer = ipam_pb2.LookupResponse(addresses=[ADDRESS])
    assert [str(item) for item in (await ipam.lookup(KEY)).addresses] == ["10.32.0.5/12"]

    services.answer = ipam_pb2.ReleaseResponse(released=[ADDRESS])
    assert await ipam.release(KEY, 7) == (Prefix.parse("10.32.0.5"),)

    services.answer = ipam_pb2.ListResponse(allocations=[ipam_pb2.Allocation(key=KEY_ON_WIRE)])
    assert await ipam.keys("weave") == [KEY]

    assert services.requests == [
        ipam_pb2.LookupRequest(key=KEY_ON_WIRE),
        ipam_pb2.ReleaseRequest(key=KEY_ON_WIRE, generation=7),
        ipam_pb2.ListRequest(network="weave"),
    ]


async def test_claim(services: Services, channel: grpc.aio.Channel) -> None:
    services.answer = ipam_pb2.ClaimResponse(generation=7)

    generation = await GrpcIpam(channel).claim(
        KEY, Workload("shop", "cart", "u1"), [Prefix.parse("10.32.0.5")], 5.0
    )

    assert generation == 7
    (sent,) = services.requests
    assert sent.key == KEY_ON_WIRE
    assert sent.addresses[0].length == 32


async def test_prepare(services: Services, channel: grpc.aio.Channel) -> None:
    services.answer = router_pb2.PrepareResponse(
        host_interface="vethwepl1",
        host_mac=b"\x02\0\0\0\0\1",
        mac=b"\x02\0\0\0\0\2",
        mtu=1450,
        routes=[types_pb2.Route(destination=types_pb2.Prefix(address=bytes(4)), gateway=GATEWAY)],
        gateways=[GATEWAY],
    )
    port = Port(
        key=KEY,
        netns="/n",
        addresses=(Prefix.parse("10.32.0.5"),),
        generation=7,
        workload=Workload("shop", "cart", "u1"),
        routes=(Route(Prefix.parse("192.0.2.0/24"), Prefix.parse("10.32.0.1")),),
        mtu=1400,
        mac=b"\x02\0\0\0\0\2",
    )

    prepared = await GrpcRouter(channel).prepare(port)

    assert prepared.routes == (Route(Prefix.parse("0.0.0.0/0"), Prefix.parse("169.254.1.1")),)
    assert prepared.gateways == (Prefix.parse("169.254.1.1"),)
    assert (prepared.host_interface, prepared.mtu) == ("vethwepl1", 1450)
    sent = services.requests[0].attachment
    assert sent.netns_path == "/n"
    assert sent.addresses[0].length == 32
    assert sent.routes[0].gateway == bytes([10, 32, 0, 1])
    assert (sent.mtu, sent.generation, sent.workload.name) == (1400, 7, "cart")
    assert not services.requests[0].activate
    assert not prepared.is_open


async def test_prepare_opens_the_port_in_the_same_call(
    services: Services, channel: grpc.aio.Channel
) -> None:
    services.answer = router_pb2.PrepareResponse(activated=True)
    port = Port(key=KEY, netns="/n", addresses=(), generation=7, workload=Workload())

    prepared = await GrpcRouter(channel).prepare(port, opens=True)

    assert services.requests[0].activate
    assert prepared.is_open


@pytest.mark.parametrize(("routes", "no_routes"), [(None, False), ((), True)])
async def test_no_routes_are_told_from_none_asked_for(
    services: Services,
    channel: grpc.aio.Channel,
    routes: tuple[Route, ...] | None,
    no_routes: bool,
) -> None:
    services.answer = router_pb2.PrepareResponse()
    port = Port(key=KEY, netns="/n", addresses=(), generation=7, workload=Workload(), routes=routes)

    await GrpcRouter(channel).prepare(port)

    sent = services.requests[0].attachment
    assert (sent.no_routes, len(sent.routes)) == (no_routes, 0)


async def test_activate_detach_and_check(services: Services, channel: grpc.aio.Channel) -> None:
    router = GrpcRouter(channel)

    services.answer = router_pb2.ActivateResponse()
    await router.activate(KEY, 7)
    services.answer = router_pb2.DetachResponse()
    await router.detach(KEY, "/n")
    difference = router_pb2.CheckResponse.Difference
    services.answer = router_pb2.CheckResponse(
        differences=[
            difference(kind="mtu", expected="1450", found="1500"),
            difference(kind="route", expected="default"),
        ]
    )
    assert await router.check(KEY, "/n") == [
        "mtu: expected 1450, found 1500",
        "route: expected default, found none",
    ]

    assert services.requests == [
        router_pb2.ActivateRequest(key=KEY_ON_WIRE, generation=7),
        router_pb2.DetachRequest(key=KEY_ON_WIRE, netns_path="/n"),
        router_pb2.CheckRequest(key=KEY_ON_WIRE, netns_path="/n"),
    ]


@pytest.mark.parametrize(
    ("state", "is_open"),
    [
        (router_pb2.ATTACHMENT_STATE_PREPARED, False),
        (router_pb2.ATTACHMENT_STATE_ACTIVE, True),
        (router_pb2.ATTACHMENT_STATE_BROKEN, True),
    ],
)
async def test_attachments(
    services: Services, channel: grpc.aio.Channel, state: Any, is_open: bool
) -> None:
    item = router_pb2.ListAttachmentsResponse.Item(
        attachment=router_pb2.Attachment(key=KEY_ON_WIRE), state=state, sandbox_exists=True
    )
    services.answer = router_pb2.ListAttachmentsResponse(items=[item])

    assert await GrpcRouter(channel).attachments("weave") == [
        LiveAttachment(KEY, sandbox_exists=True, is_open=is_open)
    ]


async def test_admit_and_retire(services: Services, channel: grpc.aio.Channel) -> None:
    npc = GrpcNpc(channel)
    port = Port(KEY, "/n", (Prefix.parse("10.32.0.5"),), 7, Workload("shop", "cart", "u1"))

    services.answer = npc_pb2.AdmitResponse()
    await npc.admit(port, "vethwepl1")
    services.answer = npc_pb2.RetireResponse()
    await npc.retire(KEY)

    admitted, retired = services.requests
    assert (admitted.host_interface, admitted.generation) == ("vethwepl1", 7)
    assert admitted.workload.name == "cart"
    assert retired == npc_pb2.RetireRequest(key=KEY_ON_WIRE)


@pytest.mark.parametrize(
    ("client", "answer"),
    [
        (GrpcIpam, ipam_pb2.GetStatusResponse),
        (GrpcRouter, router_pb2.GetStatusResponse),
        (GrpcNpc, npc_pb2.GetStatusResponse),
    ],
)
async def test_readiness_is_what_the_service_says(
    services: Services, channel: grpc.aio.Channel, client: Any, answer: Any
) -> None:
    services.answer = answer(ready=True, reason="")
    assert await client(channel).why_not_ready() == ""

    services.answer = answer(ready=False, reason="because")
    assert (await client(channel).why_not_ready()).endswith(": because")

    services.answer = answer(ready=False)
    assert (await client(channel).why_not_ready()).endswith(": not ready")


@pytest.mark.parametrize("kind", [Conflict, Exhausted, NotReady])
async def test_an_error_arrives_as_the_one_that_was_raised(
    services: Services, channel: grpc.aio.Channel, kind: type[DomainError]
) -> None:
    services.error = kind("10.32.0.5 is held by c2")

    with pytest.raises(kind, match=r"10\.32\.0\.5 is held by c2"):
        await GrpcIpam(channel).lookup(KEY)


async def test_a_service_that_is_away_is_named(tmp_path: Path) -> None:
    async with connect(tmp_path / "none.sock") as channel:
        with pytest.raises(NotReady, match="router does not answer"):
            await GrpcRouter(channel).detach(KEY, "")


async def test_a_service_that_dies_during_a_call_is_named(tmp_path: Path) -> None:
    """Connections are taken and closed at once."""

    def drop(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.close()

    dying = await asyncio.start_unix_server(drop, str(tmp_path / "x.sock"))
    async with dying, connect(tmp_path / "x.sock") as channel:
        with pytest.raises(NotReady, match="router does not answer"):
            await GrpcRouter(channel).detach(KEY, "")


async def test_without_npc_everybody_is_admitted() -> None:
    npc = NoNpc()

    await npc.admit(Port(KEY, "/n", (), 1, Workload()), "veth")
    await npc.retire(KEY)

    assert await npc.why_not_ready() == ""


@pytest.mark.parametrize(
    ("attachments", "ready", "blocked_by", "impaired"),
    [(1, True, "", False), (1, False, "", True), (0, False, "", False), (2, True, "ufw", True)],
)
async def test_a_router_that_answers_may_cut_pods_off(
    services: Services,
    channel: grpc.aio.Channel,
    attachments: int,
    ready: bool,
    blocked_by: str,
    impaired: bool,
) -> None:
    services.answer = router_pb2.GetStatusResponse(
        attachments=attachments, ready=ready, blocked_by=blocked_by
    )
    router = GrpcRouter(channel)

    await router.why_not_ready()
    answered = router.is_impaired
    services.error = NotReady("gone")
    with pytest.raises(NotReady):
        await router.why_not_ready()

    assert answered is impaired
    assert not router.is_impaired
