"""The process: wires the parts and runs them."""

from __future__ import annotations

import logging
import os
import sys
from contextlib import AsyncExitStack

from weave.cni.v1.cni_pb2_grpc import add_CniServicer_to_server
from weave_cni_shim import health
from weave_cni_shim.attach import Attacher
from weave_cni_shim.backends import NoNpc, Npc
from weave_cni_shim.chain import Chain
from weave_cni_shim.clients import GrpcIpam, GrpcNpc, GrpcRouter
from weave_cni_shim.collector import Collector
from weave_cni_shim.config import Config
from weave_cni_shim.core.conflist import FILE_NAME, render
from weave_cni_shim.delegations import Delegations
from weave_cni_shim.exec_server import ExecServer
from weave_cni_shim.install import Conflist, install_executable
from weave_cni_shim.readiness import Readiness
from weave_cni_shim.service import CniService
from weave_cni_shim.spool import Spool
from weave_cni_shim.uninstall import Uninstall, remove_folders
from weave_cni_shim.verbs import Verbs
from weave_runtime import removal
from weave_runtime.client import connect
from weave_runtime.config import load_or_exit
from weave_runtime.http import HttpServer
from weave_runtime.process import Supervisor, run
from weave_runtime.server import Server

PROGRAM = "weave-cni-shim"

log = logging.getLogger(__name__)


async def serve(config: Config, supervisor: Supervisor) -> None:
    """Runs until the supervisor stops."""
    install_executable(config.executable, config.bin_dir)
    conflist = Conflist(config.conf_dir / FILE_NAME, render(mtu=config.mtu, chain=config.chain))
    chain = Chain(
        config.chain,
        config.bin_dir,
        lambda versions: conflist.rewrite(
            render(mtu=config.mtu, chain=config.chain, versions=versions)
        ),
    )
    async with AsyncExitStack() as stack:
        ipam_channel = await stack.enter_async_context(
            connect(config.run_dir / "ipam" / "api.sock")
        )
        ipam = GrpcIpam(ipam_channel)
        router_channel = await stack.enter_async_context(
            connect(config.run_dir / "router" / "api.sock")
        )
        router = GrpcRouter(router_channel)
        needed = {"weave.ipam.v1.Ipam": ipam_channel, "weave.router.v1.Router": router_channel}
        npc: Npc = NoNpc()
        if config.expect_npc:
            needed["weave.npc.v1.Npc"] = await stack.enter_async_context(
                connect(config.run_dir / "npc" / "api.sock")
            )
            npc = GrpcNpc(needed["weave.npc.v1.Npc"])
        spool = Spool(config.state_dir / "spool")
        attacher = Attacher(
            router, npc, timeout_s=config.add_timeout.total_seconds(), owe=spool.keep
        )
        delegations = Delegations(config.state_dir / "delegated")
        collector = Collector(attacher, ipam, router, delegations, plugin_dir=config.bin_dir)
        readiness = Readiness(
            [ipam.why_not_ready, router.why_not_ready, npc.why_not_ready],
            conflist,
            local=[chain.why_not_ready],
            on_ready=spool.try_again,
        )
        verbs = Verbs(
            attacher,
            collector,
            ipam,
            router,
            readiness,
            spool,
            delegations,
            mtu=config.mtu,
            plugin_dir=config.bin_dir,
        )
        service = CniService(
            attacher,
            ipam,
            readiness,
            conflist,
            config.bin_dir / "weave-net",
            verbs.counters,
            spool,
        )
        server = Server(
            config.socket_path, group=config.socket_group, ready=lambda: "; ".join(readiness.last)
        )
        server.add(add_CniServicer_to_server, service)
        supervisor.start("spool", spool.run(verbs.carry_out))
        supervisor.start("readiness", readiness.run())
        for name, channel in needed.items():
            supervisor.start(f"health of {name}", health.follow(channel, name, readiness.doubt))
        if config.kube_node:
            gossip_channel = await stack.enter_async_context(
                connect(config.run_dir / "gossip" / "api.sock")
            )
            uninstall = Uninstall(
                gossip_channel,
                router_channel,
                node=config.kube_node,
                bin_dir=config.bin_dir,
                run_dir=config.run_dir,
                withdraw=lambda: readiness.end("weave-net is uninstalled from this node"),
            )
            supervisor.start("uninstall", uninstall.run())
        supervisor.start("collector", collector.run(config.collect_interval))
        await stack.enter_async_context(server)
        await stack.enter_async_context(ExecServer(config.exec_socket, verbs))
        if config.http_addr:
            await stack.enter_async_context(
                HttpServer(config.http_addr, ready=lambda: "; ".join(readiness.last))
            )
        await supervisor.stopped()


def main() -> int:
    """Runs the service and gives the exit status."""
    config = load_or_exit(Config, sys.argv[1:], os.environ, prog=PROGRAM)
    status = run(serve, config, service="cni-shim")
    if removal.is_marked(config.run_dir):
        for path in remove_folders(config.state_dir.parent):
            log.warning("state of an uninstalled service is left: %s", path)
    return status


if __name__ == "__main__":
    sys.exit(main())
