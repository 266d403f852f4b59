"""Machines cloned with their disks: real processes that begin with one state, so with one name."""

from __future__ import annotations

import asyncio
import contextlib
import shutil
import subprocess
import sys
import tempfile
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest

from services.gossip.tests.shell.cluster import PATIENCE_S, Node, errors, make_node
from weave.gossip.v1 import gossip_pb2
from weave_runtime.client import connect

COLLISION = "peer names collision"
# A dial, and those that the answer "try again, your former life still has a link" asks for.
MAX_DIALS = 4


class Machine(Node):
    """A peer in a process of its own."""

    process: subprocess.Popen[bytes] | None = None

    @property
    def log_path(self) -> Path:
        return self.config.state_dir.with_suffix(".log")

    def lines(self, text: str) -> list[str]:
        return [line for line in self.log_path.read_text().splitlines() if text in line]

    async def start(self, *peers: str, **changes: Any) -> None:
        assert not changes
        self._launch(*peers)
        self.channel = connect(self.config.socket_path)
        answer = asyncio.ensure_future(self._first_answer())
        done, _ = await asyncio.wait({answer}, timeout=PATIENCE_S)
        assert done, self.log_path.read_text()
        answer.result()

    def _launch(self, *peers: str) -> None:
        config = self.config
        command = [sys.executable, "-m", "weave_gossip", "--host", config.host, "--http-addr", ""]
        command += ["--port", str(config.port), "--nickname", config.nickname]
        command += ["--underlay-address", "127.0.0.1", "--log-level", "info"]
        command += ["--state-dir", str(config.state_dir), "--socket-path", str(config.socket_path)]
        with self.log_path.open("ab") as log:
            self.process = subprocess.Popen([*command, *peers], stderr=log)

    async def stop(self) -> None:
        if self.channel is not None:
            await self.channel.close()
            self.channel = None
        process, self.process = self.process, None
        if process is not None:
            process.terminate()
            await asyncio.to_thread(process.wait, PATIENCE_S)


@pytest.fixture
async def machines(free_port: Callable[[], int]) -> AsyncIterator[Callable[[int], list[Machine]]]:
    made: list[Machine] = []
    with tempfile.TemporaryDirectory(prefix="weave-") as folder:

        def make(count: int) -> list[Machine]:
            fresh = [
                Machine(make_node(len(made) + n, Path(folder), free_port()).config)
                for n in range(count)
            ]
            made.extend(fresh)
            return fresh

        yield make
        for each in made:
            with contextlib.suppress(subprocess.TimeoutExpired):
                await each.stop()


async def clone(original: Machine, copy: Machine) -> None:
    """Copies the disk of a machine that has run once."""
    await original.start()
    await original.stop()
    shutil.copytree(original.config.state_dir, copy.config.state_dir)


def is_given_up(status: gossip_pb2.GetStatusResponse) -> bool:
    outbound = [each for each in status.connections if each.outbound]
    return bool(outbound) and all(
        COLLISION in each.last_error and each.next_try_unix_s < 0 for each in outbound
    )


@pytest.mark.parametrize("meets", ["the original", "a third party"])
async def test_a_clone_is_told_once_and_gives_up(
    machines: Callable[[int], list[Machine]], meets: str
) -> None:
    original, third, copy = machines(3)
    await clone(original, copy)
    await third.start()
    await original.start(third.address)
    for each in (original, third):
        await each.until_connected(2)
    met = original if meets == "the original" else third
    links_lost = (await third.status()).terminated_connections

    await copy.start(met.address)

    status = await copy.until(is_given_up)
    name = await original.name()
    assert status.name == name
    assert any(f'{name}(node2)"' in error for error in errors(status))
    assert any(COLLISION in error for error in errors(await met.until(errors)))
    # The others go on as if nothing had happened.
    for each in (original, third):
        await each.until_connected(2)
    assert (await third.status()).terminated_connections == links_lost
    # Nothing is left that could be tried again, so what is in the logs now is all there will be.
    assert len(copy.lines("attempting connection")) <= MAX_DIALS
    for each in (original, third, copy):
        errors_told = [line for line in each.lines(COLLISION) if line.startswith("ERRO")]
        assert len(errors_told) == (each is met or (each is copy and met is original))
