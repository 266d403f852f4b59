"""The whole process: its files, its sockets, its end; ipam and router are away or served here."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import sys
import tempfile
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest

from weave.ipam.v1 import ipam_pb2
from weave.ipam.v1.ipam_pb2_grpc import add_IpamServicer_to_server
from weave.router.v1 import router_pb2
from weave.router.v1.router_pb2_grpc import add_RouterServicer_to_server
from weave_cni_shim.core.frame import Request, decode_answer, encode_request
from weave_cni_shim.testing.host import build
from weave_runtime.server import Server

START_S = 20.0


class Ready:
    """ipam or router as far as GetStatus goes."""

    def __init__(self, answer: object) -> None:
        self._answer = answer

    def __getattr__(self, name: str) -> Any:
        if name[0].isupper():
            return self._reply
        raise AttributeError(name)

    async def _reply(self, _request: object, _context: object) -> object:
        return self._answer


class Daemon:
    """One process of the service with all its paths in a folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.conflist = folder / "net.d/10-weave.conflist"
        self.exec_socket = folder / "cni/exec.sock"
        self.process: asyncio.subprocess.Process | None = None

    async def start(self, *extra: str) -> None:
        self.process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "weave_cni_shim"),
            *("--run-dir", str(self.folder), "--state-dir", str(self.folder / "state")),
            *("--socket-path", str(self.folder / "cni/api.sock")),
            *("--exec-socket", str(self.exec_socket)),
            *("--conf-dir", str(self.folder / "net.d"), "--bin-dir", str(self.folder / "bin")),
            *("--executable", str(build())),
            *extra,
            stderr=asyncio.subprocess.PIPE,
            env={"PATH": os.environ["PATH"]},
        )

    async def stop(self) -> tuple[int, str]:
        """Exit status and log."""
        assert self.process
        with contextlib.suppress(ProcessLookupError):
            self.process.send_signal(signal.SIGTERM)
        async with asyncio.timeout(START_S):
            _, log = await self.process.communicate()
        return self.process.returncode or 0, log.decode()

    async def call(self, command: str) -> dict[str, Any]:
        """What the host executable would print."""
        reader, writer = await asyncio.open_unix_connection(str(self.exec_socket))
        environ = {"CNI_COMMAND": command, "CNI_PATH": "/x"}
        writer.write(encode_request(Request(environ, b'{"cniVersion":"1.1.0","name":"weave"}')))
        answer = decode_answer(await reader.read())
        writer.close()
        return dict(json.loads(answer.stdout or b"{}"))


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(START_S):
        while not condition():  # noqa: ASYNC110 - files of another process
            await asyncio.sleep(0.01)


@pytest.fixture
async def daemon() -> AsyncIterator[Daemon]:
    with tempfile.TemporaryDirectory(prefix="weave-") as folder:
        made = Daemon(Path(folder))
        yield made
        if made.process and made.process.returncode is None:
            made.process.kill()
            await made.process.wait()


@contextlib.asynccontextmanager
async def services(folder: Path) -> AsyncIterator[None]:
    """ipam and router, both ready."""
    ready_ipam: Any = Ready(ipam_pb2.GetStatusResponse(ready=True))
    ready_router: Any = Ready(router_pb2.GetStatusResponse(ready=True))
    ipam = Server(folder / "ipam/api.sock", ready=str, grace_s=0)
    ipam.add(add_IpamServicer_to_server, ready_ipam)
    router = Server(folder / "router/api.sock", ready=str, grace_s=0)
    router.add(add_RouterServicer_to_server, ready_router)
    async with ipam, router:
        yield


async def test_without_its_services_it_serves_and_says_what_it_lacks(daemon: Daemon) -> None:
    """docs/adr/0004: nobody waits for anybody at start."""
    await daemon.start()
    await until(daemon.exec_socket.exists)

    status = await daemon.call("STATUS")

    assert status["code"] == 50
    assert status["details"] == "ipam does not answer; router does not answer"
    assert sorted(path.name for path in (daemon.folder / "bin").iterdir()) == [
        *("weave-ipam", "weave-net")
    ]
    assert not daemon.conflist.exists()
    assert (await daemon.stop())[0] == 0


async def test_the_conflist_follows_its_services_and_outlives_the_process(daemon: Daemon) -> None:
    (daemon.folder / "bin").mkdir()
    for plugin in ("portmap", "bandwidth"):
        (daemon.folder / "bin" / plugin).symlink_to(f"/usr/lib/cni/{plugin}")
    await daemon.start("--chain", "portmap,bandwidth", "--mtu", "1400")
    async with services(daemon.folder):
        await until(daemon.conflist.exists)
        assert await daemon.call("STATUS") == {}
    await until(lambda: not daemon.conflist.exists())
    async with services(daemon.folder):
        await until(daemon.conflist.exists)
        status, _ = await daemon.stop()

    assert status == 0
    assert not daemon.exec_socket.exists()
    plugins = json.loads(daemon.conflist.read_text())["plugins"]
    assert [plugin["type"] for plugin in plugins] == ["weave-net", "portmap", "bandwidth"]
    assert plugins[0]["mtu"] == 1400


@pytest.mark.parametrize(
    ("option", "value", "reason"),
    [
        ("--executable", "/none", "--executable /none cannot be read: No such file or directory"),
        ("--chain", "firewall", 'option chain: flag --chain is "firewall": expected one of'),
        ("--exec-socket", "/dev/null", "/dev/null exists and is not a socket"),
        ("--mtu", "100", 'option mtu: flag --mtu is "100": expected 0, or 576 to 65535'),
        ("--http-addr", "6788", "--http-addr 6788: expected host:port"),
    ],
)
async def test_what_it_cannot_work_with_is_one_line_and_a_status(
    daemon: Daemon, option: str, value: str, reason: str
) -> None:
    await daemon.start(option, value)
    assert daemon.process

    async with asyncio.timeout(START_S):
        _, log = await daemon.process.communicate()

    assert daemon.process.returncode != 0
    assert reason in log.decode()
    assert "Traceback" not in log.decode()
