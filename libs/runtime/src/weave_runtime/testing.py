"""What tests of services share: a real server on a real socket, and a real Redis."""

from __future__ import annotations

import contextlib
import shutil
import subprocess
import tempfile
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from weave_runtime.client import connect
from weave_runtime.server import Server

if TYPE_CHECKING:
    import grpc

S = TypeVar("S")


@contextlib.asynccontextmanager
async def serving(
    register: Callable[[S, Any], None], servicer: S, *, ready: Callable[[], str] = str
) -> AsyncIterator[grpc.aio.Channel]:
    """Serves one servicer on a temporary socket and gives a channel to it."""
    # Not pytest's tmp_path: its names grow beyond what a socket path may have.
    with tempfile.TemporaryDirectory(prefix="weave-") as directory:
        server = Server(Path(directory) / "api.sock", ready=ready, grace_s=0)
        server.add(register, servicer)
        async with server, connect(Path(directory) / "api.sock") as channel:
            yield channel


class RedisServer:
    """A real redis-server on a socket of its own."""

    def __init__(self, directory: Path) -> None:
        if not shutil.which("redis-server"):
            raise FileNotFoundError("redis-server is not installed (Debian: redis-server)")
        self._directory = directory
        self.url = f"unix://{directory}/redis.sock"

    def start(self, **settings: str) -> None:
        """Returns when it answers."""
        settings = {
            "port": "0",
            "unixsocket": f"{self._directory}/redis.sock",
            "dir": str(self._directory),
            "save": "",
            "appendonly": "yes",
            "appendfsync": "always",
        } | settings
        options = [part for name, value in settings.items() for part in (f"--{name}", value)]
        self._process = subprocess.Popen(["redis-server", *options], stdout=subprocess.PIPE)
        assert self._process.stdout
        for line in self._process.stdout:
            if b"ready to accept connections" in line:
                return
        raise AssertionError("redis-server does not start")

    def kill(self) -> None:
        """Ends it without giving it time to write anything."""
        self._process.kill()
        self._process.wait()
        assert self._process.stdout
        self._process.stdout.close()

    def ask(self, *words: str) -> str:
        """Sends one command and gives the answer as redis-cli prints it."""
        command = ["redis-cli", "-s", f"{self._directory}/redis.sock", *words]
        return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()

    def configure(self, setting: str, value: str) -> None:
        """Changes a setting while it runs."""
        assert self.ask("config", "set", setting, value) == "OK"
