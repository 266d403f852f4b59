"""Wiring: what runs beside what in the router's process."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from contextlib import AsyncExitStack
from typing import TYPE_CHECKING

from weave.gossip.v1.gossip_pb2_grpc import GossipStub
from weave.ipam.v1.ipam_pb2_grpc import IpamStub
from weave.router.v1.router_pb2_grpc import add_RouterServicer_to_server
from weave_model.peer import PeerName
from weave_model.prefix import Family
from weave_router import codec, documents, inputs
from weave_router.config import Config
from weave_router.core.inputs import Endpoint
from weave_router.core.path_choice import Reach
from weave_router.documents import TOPIC_ENDPOINTS, TOPIC_PATHS, Publisher, follow_documents
from weave_router.errors import KernelRefused
from weave_router.kernel.api import Kernel
from weave_router.kernel.echo import EchoSocket
from weave_router.kernel.linux import LinuxKernel
from weave_router.path_finder import PathFinder
from weave_router.records import Records
from weave_router.router import Router
from weave_router.service import RouterService
from weave_runtime import removal
from weave_runtime.client import connect
from weave_runtime.http import HttpServer
from weave_runtime.process import Supervisor
from weave_runtime.server import Server
from weave_runtime.store import open_store

if TYPE_CHECKING:
    from prometheus_client.registry import Collector

    from weave.gossip.v1.gossip_pb2_grpc import GossipAsyncStub

log = logging.getLogger(__name__)


async def main(config: Config, supervisor: Supervisor) -> None:
    """Runs the service until it is asked to stop. Raises DomainError when it cannot go on."""
    async with AsyncExitStack() as stack:
        kernel = _open_kernel(config)
        stack.callback(kernel.close)
        store = await open_store(
            config.store_url,
            config.state_dir,
            owner=config.store_owner,
            is_last_life=lambda: removal.is_marked(config.run_dir),
        )
        await stack.enter_async_context(store)
        records = Records(store)
        supervisor.start("records", records.run())
        router = Router(config, kernel, records)
        stack.push_async_callback(router.close)
        await router.start()
        server = Server(config.socket_path, group=config.socket_group, ready=router.not_ready)
        server.add(add_RouterServicer_to_server, RouterService(router))
        await stack.enter_async_context(server)
        for address, option in (
            (config.http_addr, "--http-addr"),
            (config.metrics_addr, "--metrics-addr"),
        ):
            if address:
                http = HttpServer(
                    address, ready=router.not_ready, metrics=lambda: _metrics(router), option=option
                )
                await stack.enter_async_context(http)
        ipam_channel = connect(config.run_dir / "ipam" / "api.sock")
        gossip_channel = connect(config.run_dir / "gossip" / "api.sock")
        await stack.enter_async_context(ipam_channel)
        await stack.enter_async_context(gossip_channel)
        ipam, gossip = IpamStub(ipam_channel), GossipStub(gossip_channel)
        await router.watch_kernel()
        supervisor.start("sweeper", router.sweeper.run())
        supervisor.start("sandboxes", router.sandboxes.run())
        supervisor.start("sandbox paths", router.sandboxes.follow_paths())
        supervisor.start("reconcile", router.reconciler.run())
        supervisor.start("uplinks", router.follow_uplinks())
        supervisor.start("peers", inputs.follow_peers(router.node, gossip))
        supervisor.start("ring", inputs.follow_ring(router.node, ipam))
        supervisor.start("overlay address", inputs.own_overlay_address(router.node, ipam))
        endpoint = Publisher(gossip, TOPIC_ENDPOINTS, lambda: documents.endpoint(router.node))
        supervisor.start("endpoint", endpoint.run())
        _find_paths(config, supervisor, router, gossip)
        await supervisor.stopped()


def _open_kernel(config: Config) -> Kernel:
    try:
        return LinuxKernel(config.proc_sys)
    except OSError as error:
        raise KernelRefused(
            f"cannot reach the kernel's network: {error}; the router needs CAP_NET_ADMIN and "
            "libnftables (Debian package libnftables1)"
        ) from error


def _metrics(router: Router) -> Collector:
    from weave_router.metrics import RouterCollector

    return RouterCollector(router)


def _find_paths(
    config: Config, supervisor: Supervisor, router: Router, gossip: GossipAsyncStub
) -> None:
    node = router.node
    try:
        tunnel_echo = EchoSocket(Family.IPV6, config.proc_sys)
        direct_echo = EchoSocket(Family.IPV4, config.proc_sys) if config.direct else None
    except OSError as error:
        log.warning("paths are not probed", extra={"reason": str(error)})
        return
    finder = PathFinder(node, tunnel_echo, direct_echo, router.reconciler.request)
    router.on_facts = finder.refresh

    def on_endpoints(found: Mapping[PeerName, Endpoint]) -> None:
        node.endpoints = found
        finder.refresh()

    def on_reaches(found: Mapping[PeerName, Reach]) -> None:
        node.reaches = found
        finder.refresh()

    def reach() -> bytes | None:
        found = finder.reach()
        return codec.write_reach(found).SerializeToString() if found is not None else None

    supervisor.start("probes", finder.run())
    supervisor.start("paths", Publisher(gossip, TOPIC_PATHS, reach).run())
    endpoints = follow_documents(gossip, TOPIC_ENDPOINTS, codec.read_endpoint, on_endpoints)
    reaches = follow_documents(gossip, TOPIC_PATHS, codec.read_reach, on_reaches)
    supervisor.start("watch endpoints", endpoints)
    supervisor.start("watch paths", reaches)
