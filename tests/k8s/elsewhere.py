"""A Redis outside of the cluster that all nodes share, with a password."""

from __future__ import annotations

import secrets
import subprocess
from pathlib import Path
from typing import Self

from tests.k8s.cluster import HOST, run, wait

PORT = 6399


class RedisElsewhere:
    """Durable as the services ask it to be, on the machine of the control plane."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self.password = secrets.token_hex(16)
        self.url = f"redis://:{self.password}@{HOST}:{PORT}/0"

    def __enter__(self) -> Self:
        """Returns when it answers."""
        settings = {
            "bind": HOST,
            "port": str(PORT),
            "dir": str(self._folder),
            "requirepass": self.password,
            "save": "",
            "appendonly": "yes",
            "appendfsync": "always",
        }
        options = [part for name, value in settings.items() for part in (f"--{name}", value)]
        self._process = subprocess.Popen(["redis-server", *options], stdout=subprocess.DEVNULL)
        try:
            wait("the Redis answers", lambda: self._ask("ping") == ["PONG"], 30)
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self._process.kill()
        self._process.wait()

    def names(self) -> list[str]:
        """Of all that is stored."""
        return self._ask("keys", "*")

    def _ask(self, *command: str) -> list[str]:
        # In an address redis-cli takes no password without a user.
        client = ["redis-cli", "--no-auth-warning", "-h", HOST, "-p", str(PORT)]
        client += ["-a", self.password]
        return run(*client, *command, check=False).split()
