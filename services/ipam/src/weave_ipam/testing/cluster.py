"""Several nodes in one process: real ipam services on unix sockets, fake gossips and routers."""

from __future__ import annotations

import asyncio
import contextlib
import tempfile
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, Self

import grpc

from weave.ipam.v1 import ipam_pb2, ipam_pb2_grpc
from weave_ipam.__main__ import serve
from weave_ipam.codec import key_to_proto, prefixes_to_proto
from weave_ipam.config import Config, Init
from weave_ipam.core.options import Consensus, Seeded
from weave_ipam.testing.gossip import FakeGossip
from weave_ipam.testing.mesh import Coordinated, Mesh, MeshPeer
from weave_ipam.testing.router import Attached, FakeRouter
from weave_model.attachment import AttachmentKey, ContainerId
from weave_model.peer import PeerName
from weave_model.prefix import Prefix
from weave_model.ring import Genesis
from weave_runtime.client import connect
from weave_runtime.process import Supervisor

DEFAULT_RANGE = Prefix.parse("10.32.0.0/12")
# Longer than anything here takes on a busy machine; a test that needs it all has failed.
TIMEOUT_S = 20.0


def pod_key(name: str, network: str = "weave") -> AttachmentKey:
    """The attachment of a pod's first interface."""
    return AttachmentKey(network, ContainerId(name), "eth0")


def numbered(number: int) -> PeerName:
    """The name of the node that has this number."""
    return PeerName(bytes([2, 0, 0, 0, 0, number]))


def seeded(*numbers: int) -> Seeded:
    """A first ring among these nodes."""
    return Seeded(Genesis(tuple(numbered(n) for n in numbers)))


class IpamNode:
    """One node: a gossip, a router and an ipam, each of which can be stopped and started."""

    def __init__(
        self, directory: Path, peer: MeshPeer, coordinated: Coordinated, config: Config
    ) -> None:
        self.config = config
        self.name = peer.name
        self.directory = directory
        self.gossip = FakeGossip(config.gossip_path, peer, coordinated)
        self.router = FakeRouter(config.router_path)
        self.channel = connect(config.socket_path)
        self.stub = ipam_pb2_grpc.IpamStub(self.channel)
        self._serving: list[contextlib.AsyncExitStack] = []
        self._gossip_up: contextlib.AsyncExitStack | None = None
        self._router_up: contextlib.AsyncExitStack | None = None
        self._supervisor: Supervisor | None = None
        self._task: asyncio.Task[None] | None = None

    async def start_gossip(self) -> None:
        """Starts the gossip; it knows what its peer of the mesh knows."""
        self._gossip_up = contextlib.AsyncExitStack()
        await self._gossip_up.enter_async_context(self.gossip)

    async def stop_gossip(self) -> None:
        """Ends the gossip. Idempotent."""
        if self._gossip_up:
            await self._gossip_up.aclose()
        self._gossip_up = None

    async def start_router(self) -> None:
        """Starts the router."""
        self._router_up = contextlib.AsyncExitStack()
        await self._router_up.enter_async_context(self.router)

    async def stop_router(self) -> None:
        """Ends the router. Idempotent."""
        if self._router_up:
            await self._router_up.aclose()
        self._router_up = None

    async def start(self) -> None:
        """Starts the ipam; it may take a while to be ready."""
        self._supervisor = Supervisor()
        self._task = asyncio.create_task(serve(self.config, self._supervisor))

    async def stop(self) -> bool:
        """Ends the ipam as SIGTERM does; says whether it had been well. Idempotent."""
        if self._supervisor is None or self._task is None:
            return True
        self._supervisor.stop()
        await self._task
        well = not self._supervisor.has_failed
        self._supervisor = self._task = None
        return well

    async def ended(self) -> None:
        """Returns when the ipam asks to be ended by itself."""
        assert self._supervisor
        await self._supervisor.stopped()

    async def restart(self) -> None:
        """Ends the ipam and starts it anew with the same state."""
        await self.stop()
        await self.start()

    async def allocate(
        self, name: str, *, timeout_s: float = TIMEOUT_S, **fields: Any
    ) -> ipam_pb2.AllocateResponse:
        """Allocates for a pod. Raises AioRpcError."""
        request = ipam_pb2.AllocateRequest(key=key_to_proto(pod_key(name)), **fields)
        return await self.stub.Allocate(request, timeout=timeout_s, wait_for_ready=True)

    async def address(self, name: str, **fields: Any) -> str:
        """Allocates for a pod and gives its first address as text."""
        answer = await self.allocate(name, **fields)
        return text_of(answer.addresses[0].address)

    async def release(self, name: str) -> list[str]:
        """Releases a pod's addresses and gives them."""
        request = ipam_pb2.ReleaseRequest(key=key_to_proto(pod_key(name)))
        answer = await self.stub.Release(request, timeout=TIMEOUT_S, wait_for_ready=True)
        return [text_of(prefix.address) for prefix in answer.released]

    async def lookup(self, name: str) -> list[str]:
        """What a pod holds."""
        request = ipam_pb2.LookupRequest(key=key_to_proto(pod_key(name)))
        answer = await self.stub.Lookup(request, timeout=TIMEOUT_S, wait_for_ready=True)
        return [text_of(prefix.address) for prefix in answer.addresses]

    async def claim(self, name: str, *addresses: str, timeout_s: float = TIMEOUT_S) -> None:
        """Claims addresses for a pod. Raises AioRpcError."""
        request = ipam_pb2.ClaimRequest(
            key=key_to_proto(pod_key(name)),
            addresses=prefixes_to_proto(map(Prefix.parse, addresses)),
        )
        await self.stub.Claim(request, timeout=timeout_s, wait_for_ready=True)

    async def allocations(self) -> dict[str, tuple[str, ...]]:
        """All allocations of this node by container id."""
        answer = await self.stub.List(
            ipam_pb2.ListRequest(), timeout=TIMEOUT_S, wait_for_ready=True
        )
        return {
            allocation.key.container_id: tuple(text_of(a.address) for a in allocation.addresses)
            for allocation in answer.allocations
        }

    async def status(self) -> ipam_pb2.GetStatusResponse:
        """The status."""
        return await self.stub.GetStatus(
            ipam_pb2.GetStatusRequest(), timeout=TIMEOUT_S, wait_for_ready=True
        )

    async def status_when(
        self, condition: Callable[[ipam_pb2.GetStatusResponse], bool]
    ) -> ipam_pb2.GetStatusResponse:
        """The status as soon as it fulfils a condition. Raises TimeoutError."""
        async with asyncio.timeout(TIMEOUT_S):
            while not condition(status := await self.status()):  # noqa: ASYNC110 - as over a wire
                await asyncio.sleep(0.02)
        return status

    async def rings(self) -> AsyncGenerator[dict[str, str], None]:
        """Block -> owner, as the router sees it, again at each change."""
        stream = self.stub.WatchRing(ipam_pb2.WatchRingRequest(), timeout=TIMEOUT_S)
        ring: dict[str, str] = {}
        async for message in stream:
            if message.WhichOneof("event") == "ring":
                ring = {
                    str(Prefix.from_bytes(block.prefix.address, block.prefix.length)): block.owner
                    for block in message.ring.blocks
                }
            if message.WhichOneof("event") == "synced" and ring:
                yield ring

    async def ring(self) -> dict[str, str]:
        """The ring as soon as there is one."""
        return await self.ring_when(lambda _: True)

    async def ring_when(self, condition: Callable[[dict[str, str]], bool]) -> dict[str, str]:
        """The ring as soon as it fulfils a condition. Raises AioRpcError after TIMEOUT_S."""
        async with contextlib.aclosing(self.rings()) as rings:
            async for ring in rings:
                if condition(ring):
                    return ring
        raise TimeoutError("the watch ended")

    def attach(self, pods: Mapping[str, str], *, sandbox_exists: bool = True) -> None:
        """Has the router show pods with these addresses."""
        for pod, address in pods.items():
            self.router.attached[pod_key(pod)] = Attached(
                (Prefix.parse(address),), sandbox_exists=sandbox_exists
            )

    async def until_ready(self) -> None:
        """Returns when an Allocate would succeed."""
        await self.stub.Prime(ipam_pb2.PrimeRequest(), timeout=TIMEOUT_S, wait_for_ready=True)
        await self.status_when(lambda status: status.ready)

    async def close(self) -> None:
        """Ends all of it."""
        await self.stop()
        await self.stop_router()
        await self.stop_gossip()
        await self.channel.close()


class Cluster:
    """Nodes that share a mesh and a Coordination."""

    def __init__(self, directory: Path, store_url: str = "") -> None:
        self.mesh = Mesh()
        self.coordinated = Coordinated()
        self.nodes: list[IpamNode] = []
        self._directory = directory
        self._store_url = store_url

    def add(self, number: int, **options: Any) -> IpamNode:
        """A node that is not started yet; options replace those of the configuration."""
        directory = self._directory / str(number)
        peer = self.mesh.add(numbered(number), nickname=f"node-{number}", node_uid=f"uid-{number}")
        config = Config(
            socket_path=directory / "ipam" / "api.sock",
            state_dir=directory / "state",
            run_dir=directory,
            http_addr="",
            store_url=self._store_url,
            ipalloc_init=Consensus(1),
        )
        node = IpamNode(directory, peer, self.coordinated, replace(config, **options))
        self.nodes.append(node)
        return node

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        for node in self.nodes:
            await node.close()


@contextlib.asynccontextmanager
async def cluster(
    size: int, *, init: Init | None = None, store_url: str = "", **options: Any
) -> AsyncIterator[Cluster]:
    """A cluster whose nodes all run; they agree on a ring by consensus unless told otherwise.

    All nodes keep their state in the store of `store_url`, each for itself in SQLite without one.
    """
    # Short names: a socket's path has at most 107 bytes.
    with tempfile.TemporaryDirectory(prefix="wipam-") as directory:
        async with Cluster(Path(directory), store_url) as made:
            for number in range(1, size + 1):
                mode = init or Consensus(size)
                node = made.add(number, ipalloc_init=mode, **options)
                await node.start_gossip()
                await node.start_router()
                await node.start()
            yield made


def text_of(address: bytes) -> str:
    """An address of the wire as text."""
    prefix = Prefix.from_bytes(address, len(address) * 8)
    return str(prefix).partition("/")[0]


def code_of(error: grpc.aio.AioRpcError) -> str:
    """The name of a status code."""
    return str(error.code().name)
