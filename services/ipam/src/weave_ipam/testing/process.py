"""ipam as a process of its own beside a fake gossip and router: for kills and for measures."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import sys
import tempfile
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Self

import grpc

from weave.ipam.v1 import ipam_pb2, ipam_pb2_grpc
from weave_ipam.testing.gossip import FakeGossip
from weave_ipam.testing.mesh import Coordinated, Mesh
from weave_ipam.testing.router import FakeRouter
from weave_model.peer import PeerName
from weave_runtime.client import connect

NAME = PeerName(b"\x02\0\0\0\0\x01")
START_TIMEOUT_S = 30.0


class IpamProcess:
    """Starts and kills `python -m weave_ipam` with the same state again and again."""

    def __init__(self, directory: Path, *options: str) -> None:
        self.directory = directory
        self.router = FakeRouter(directory / "router" / "api.sock")
        self._gossip = FakeGossip(
            directory / "gossip" / "api.sock", Mesh().add(NAME), Coordinated()
        )
        self._options = options
        self._process: asyncio.subprocess.Process | None = None

    async def __aenter__(self) -> Self:
        await self._gossip.__aenter__()
        await self.router.__aenter__()
        return self

    async def __aexit__(self, *exc: object) -> None:
        await self.kill()
        await self.router.__aexit__(*exc)
        await self._gossip.__aexit__(*exc)

    @property
    def pid(self) -> int:
        """The process's number while it runs."""
        assert self._process
        return self._process.pid

    def connect(self) -> grpc.aio.Channel:
        """A channel to it, now or later."""
        return connect(self.directory / "ipam" / "api.sock")

    async def start(self, log: int | None = None) -> None:
        """Starts the process, its log on this file descriptor; it may take a while to answer."""
        directory = self.directory
        self._process = await asyncio.create_subprocess_exec(
            sys.executable,
            *("-m", "weave_ipam"),
            f"--socket-path={directory}/ipam/api.sock",
            f"--state-dir={directory}/state",
            f"--run-dir={directory}",
            "--http-addr=",
            "--log-level=warning",
            f"--ipalloc-init=seed={NAME}",
            *self._options,
            stderr=log,
            env={k: v for k, v in os.environ.items() if not k.startswith(("WEAVE", "IPALLOC"))},
        )

    async def ready(self) -> float:
        """Returns when it would allocate; gives the seconds that took."""
        started = time.monotonic()
        async with asyncio.timeout(START_TIMEOUT_S), self.connect() as channel:
            stub = ipam_pb2_grpc.IpamStub(channel)
            while not await _is_ready(stub):  # noqa: ASYNC110 - another process
                await asyncio.sleep(0.005)
        return time.monotonic() - started

    async def kill(self) -> None:
        """Ends it by SIGKILL. Idempotent."""
        await self._end(signal.SIGKILL)

    async def stop(self) -> int:
        """Ends it by SIGTERM and gives its exit status."""
        return await self._end(signal.SIGTERM)

    async def _end(self, number: signal.Signals) -> int:
        if self._process is None:
            return 0
        with contextlib.suppress(ProcessLookupError):
            self._process.send_signal(number)
        status = await self._process.wait()
        self._process = None
        return status


@contextlib.asynccontextmanager
async def ipam_process(*options: str) -> AsyncIterator[IpamProcess]:
    """A process that is not started yet, in a directory of its own."""
    with tempfile.TemporaryDirectory(prefix="wipam-") as directory:
        async with IpamProcess(Path(directory), *options) as made:
            yield made


async def _is_ready(stub: ipam_pb2_grpc.IpamAsyncStub) -> bool:
    status = await stub.GetStatus(ipam_pb2.GetStatusRequest(), wait_for_ready=True)
    if status.ready:
        return True
    with contextlib.suppress(grpc.aio.AioRpcError):
        await stub.Prime(ipam_pb2.PrimeRequest(), timeout=0.1)
    return False
