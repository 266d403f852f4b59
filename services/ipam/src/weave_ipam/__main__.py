"""The ipam process: `python -m weave_ipam [options]`."""

from __future__ import annotations

import contextlib
import os
import sys

from weave.ipam.v1 import ipam_pb2_grpc
from weave_ipam.config import Config
from weave_ipam.metrics import collector
from weave_ipam.node import Node
from weave_ipam.service import IpamService
from weave_runtime.config import load_or_exit
from weave_runtime.http import HttpServer
from weave_runtime.process import Supervisor, run
from weave_runtime.server import Server

SERVICE = "ipam"


async def serve(config: Config, supervisor: Supervisor) -> None:
    """Wires the service and serves until it is to stop."""
    async with contextlib.AsyncExitStack() as stack:
        node = Node(config, supervisor)
        stack.push_async_callback(node.close)
        stack.push_async_callback(supervisor.close)
        server = Server(config.socket_path, group=config.socket_group, ready=node.reason)
        server.add(ipam_pb2_grpc.add_IpamServicer_to_server, IpamService(node))
        await stack.enter_async_context(server)
        if config.http_addr:
            http = HttpServer(
                config.http_addr,
                ready=node.reason,
                metrics=lambda: collector(node.status, node.latency),
            )
            await stack.enter_async_context(http)
        supervisor.start("start", node.start())
        await supervisor.stopped()


def main() -> None:
    """Reads the options and runs the service to its end."""
    config = load_or_exit(Config, sys.argv[1:], os.environ, prog="weave-ipam")
    sys.exit(run(serve, config, service=SERVICE))


if __name__ == "__main__":
    main()
