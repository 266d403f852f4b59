"""A real router process in a namespace, with exactly the privileges it is granted."""

from __future__ import annotations

import asyncio
import contextlib
import os
import subprocess
import sys
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import grpc

from tests.kernel.namespaces import Netns
from weave.router.v1 import router_pb2 as pb
from weave.router.v1.router_pb2_grpc import RouterStub
from weave_runtime.client import connect

if TYPE_CHECKING:
    from weave.router.v1.router_pb2_grpc import RouterAsyncStub

# docs/adr/0004.
ROUTER_UID = 56784
_CAPABILITIES = "-all,+net_admin,+sys_admin"
_START_TIMEOUT_S = 20


@dataclass
class RouterProcess:
    """Starts, kills and talks to one router."""

    node: Netns
    root: Path
    arguments: tuple[str, ...] = ()
    process: subprocess.Popen[bytes] | None = None

    @property
    def run_dir(self) -> Path:
        """Sockets of all services."""
        return self.root / "run"

    @property
    def log(self) -> str:
        """What all its lives have logged."""
        path = self.root / "router.log"
        return path.read_text() if path.exists() else ""

    def prepare(self) -> None:
        """Makes the folders as whoever starts services does."""
        for path in (self.run_dir / "router", self.root / "state"):
            path.mkdir(parents=True, exist_ok=True)
            os.chown(path, ROUTER_UID, ROUTER_UID)
        for path in (self.root, self.run_dir):
            path.chmod(0o755)

    def start(self) -> None:
        """Starts it without waiting."""
        privileges = [
            # A checkout below a closed home (/root) is out of reach for the router's uid.
            *(sys.executable, "-m", "weave_lab.covers"),
            "setpriv",
            *(f"--reuid={ROUTER_UID}", f"--regid={ROUTER_UID}", "--clear-groups"),
            *("--no-new-privs", f"--inh-caps={_CAPABILITIES}"),
            *("--ambient-caps=+net_admin,+sys_admin", f"--bounding-set={_CAPABILITIES}", "--"),
        ]
        options = [
            f"--socket-path={self.run_dir / 'router' / 'api.sock'}",
            f"--state-dir={self.root / 'state'}",
            f"--run-dir={self.run_dir}",
            *self.arguments,
        ]
        command = self.node.command(*privileges, sys.executable, "-m", "weave_router", *options)
        with (self.root / "router.log").open("ab") as log:
            self.process = subprocess.Popen(command, stdout=log, stderr=log)

    def kill(self) -> None:
        """SIGKILL, as a crash."""
        assert self.process is not None
        self.process.kill()
        self.process.wait()

    def stop(self) -> int:
        """SIGTERM; returns the exit status."""
        assert self.process is not None
        self.process.terminate()
        return self.process.wait(20)

    @contextlib.asynccontextmanager
    async def stub(self) -> AsyncIterator[RouterAsyncStub]:
        """A client of it."""
        async with connect(self.run_dir / "router" / "api.sock") as channel:
            yield RouterStub(channel)

    async def ready(self, stub: RouterAsyncStub) -> pb.GetStatusResponse:
        """Waits until an attach would succeed."""
        reason = ""
        async with asyncio.timeout(_START_TIMEOUT_S):
            while True:
                with contextlib.suppress(grpc.aio.AioRpcError):
                    status = await stub.GetStatus(pb.GetStatusRequest(), wait_for_ready=True)
                    if status.ready:
                        return status
                    reason = status.reason
                assert self.process is not None
                assert self.process.poll() is None, f"router ended: {self.log} {reason}"
                await asyncio.sleep(0.02)
