"""Packets through a lab, counted: reachability, loss over time, bulk transfer."""

from __future__ import annotations

import contextlib
import json
import re
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import IO

from weave_lab.errors import LabError
from weave_lab.pods import Pod

_PING_WAIT_S = 3
_TRANSFER_PORT = 8080
_STOP_TIMEOUT_S = 10.0
_TALK_PORT = 8081
# Longer than the silence after which the other side gives up.
_TALK_TIMEOUT_S = 20.0
_SEQUENCE = re.compile(r"icmp_seq=(\d+) .*time=")
_TRANSMITTED = re.compile(r"(\d+) packets transmitted")


def unreachable_pairs(pods: Sequence[Pod]) -> list[tuple[Pod, Pod]]:
    """Pings all ordered pairs at once, one packet each; returns those without an answer."""
    pairs = [(source, target) for source in pods for target in pods if source != target]
    pings = [
        (pair, pair[0].spawn(["ping", "-n", "-c1", f"-W{_PING_WAIT_S}", address]))
        for pair in pairs
        for address in pair[1].addresses
    ]
    failed = []
    for pair, ping in pings:
        with ping:
            ping.communicate()
        if ping.returncode != 0 and pair not in failed:
            failed.append(pair)
    return failed


@dataclass(frozen=True, slots=True)
class FlowCount:
    """What became of the packets of one flow."""

    source: str
    target: str
    sent: int
    lost: int
    # Longest run of packets without an answer, in packets.
    longest_gap: int


class Flow:
    """Echo requests until it is stopped, each accounted for by its sequence number."""

    def __init__(self, source: Pod, target: Pod, interval_s: float) -> None:
        self._names = _label(source), _label(target)
        # A pipe would fill up and stop the ping.
        self._output: IO[str] = tempfile.TemporaryFile("w+")  # noqa: SIM115
        self._process = subprocess.Popen(
            [
                *(*source.enter(), sys.executable, "-I", "-m", "weave_lab.echo"),
                *(target.address, f"{interval_s:g}"),
            ],
            stdin=subprocess.PIPE,
            stdout=self._output,
            stderr=self._output,
            env=source.node.environment(),
        )

    def end(self) -> None:
        """Sends no more; `stop` waits for the last answers. Idempotent."""
        assert self._process.stdin is not None
        self._process.stdin.close()

    def stop(self) -> FlowCount:
        """Ends it and counts. Raises LabError when not a single packet came back."""
        self.end()
        self._process.wait(_STOP_TIMEOUT_S)
        with self._output:
            self._output.seek(0)
            return count(*self._names, self._output.read())

    def abandon(self) -> None:
        """Ends it without counting. Idempotent."""
        self._process.kill()
        self._process.wait(_STOP_TIMEOUT_S)
        self.end()
        self._output.close()


def count(source: str, target: str, output: str) -> FlowCount:
    """Reads what ping printed. The last packet may still be on its way and is no loss."""
    received = {int(number) for number in _SEQUENCE.findall(output)}
    transmitted = _TRANSMITTED.search(output)
    if not received or transmitted is None:
        raise LabError(f"no packet came back from {target} to {source}: {output.strip()[-200:]}")
    sent = int(transmitted[1])
    expected = range(1, max(sent, max(received) + 1))
    longest_gap = gap = 0
    for number in expected:
        gap = 0 if number in received else gap + 1
        longest_gap = max(longest_gap, gap)
    lost = sum(number not in received for number in expected)
    return FlowCount(source, target, sent, lost, longest_gap)


@contextlib.contextmanager
def flowing(
    pairs: Sequence[tuple[Pod, Pod]], interval_s: float
) -> Iterator[Callable[[], list[FlowCount]]]:
    """Pings these pairs during the block; call what it gives, once, to stop and count."""
    flows = [Flow(source, target, interval_s) for source, target in pairs]
    try:
        yield lambda: _stop_all(flows)
    finally:
        for flow in flows:
            flow.abandon()


def _stop_all(flows: Sequence[Flow]) -> list[FlowCount]:
    for flow in flows:
        flow.end()
    return [flow.stop() for flow in flows]


@dataclass(frozen=True, slots=True)
class Transfer:
    """A download that arrived whole."""

    size: int
    seconds: float
    sha256: str

    @property
    def gbit_per_s(self) -> float:
        """Rate of the payload."""
        return self.size * 8 / self.seconds / 1e9


def transfer(server: Pod, client: Pod, size: int) -> Transfer:
    """Downloads `size` bytes by HTTP. Raises LabError unless every byte arrives as it was sent."""
    python = [sys.executable, "-I", "-m", "weave_lab.transfer"]
    serving = server.spawn([*python, "serve", str(_TRANSFER_PORT), str(size)])
    try:
        assert serving.stdout is not None
        line = serving.stdout.readline()
        if not line.startswith("{"):
            raise LabError(f"the server in {_label(server)} failed: {line.strip()}")
        sent = json.loads(line)
        done = client.exec([*python, "fetch", f"http://{server.address}:{_TRANSFER_PORT}/"])
        if done.returncode != 0:
            reason = done.stderr.strip().splitlines()[-1:]
            raise LabError(f"{_label(client)} cannot download from {_label(server)}: {reason}")
        got = json.loads(done.stdout)
    finally:
        serving.kill()
        serving.communicate()
    if (got["bytes"], got["sha256"]) != (size, sent["sha256"]):
        raise LabError(f"{got['bytes']} bytes with SHA-256 {got['sha256']} arrived, not {sent}")
    return Transfer(size, got["seconds"], got["sha256"])


@dataclass(frozen=True, slots=True)
class TalkCount:
    """What became of a connection. `error` is empty unless it broke."""

    exchanges: int
    longest_s: float
    error: str


class Talk:
    """A TCP connection between two pods that is never silent, until it is stopped."""

    def __init__(self, server: Pod, client: Pod) -> None:
        python = [sys.executable, "-I", "-m", "weave_lab.talk"]
        self._serving = server.spawn([*python, "serve", str(_TALK_PORT)])
        self._asking: subprocess.Popen[str] | None = None
        try:
            self._expect(self._serving, "listening")
            self._asking = subprocess.Popen(
                [*client.enter(), *python, "ask", server.address, str(_TALK_PORT)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                text=True,
                env=client.node.environment(),
            )
            self._expect(self._asking, "connected")
        except BaseException:
            self.abandon()
            raise

    def stop(self) -> TalkCount:
        """Ends the connection and counts."""
        assert self._asking is not None
        said, _ = self._asking.communicate(timeout=_TALK_TIMEOUT_S)
        self.abandon()
        return TalkCount(**json.loads(said))

    def abandon(self) -> None:
        """Ends it without counting. Idempotent."""
        for process in (self._serving, self._asking):
            if process is not None:
                process.kill()
                process.wait(_STOP_TIMEOUT_S)
                for pipe in (process.stdin, process.stdout):
                    if pipe is not None:
                        pipe.close()

    @staticmethod
    def _expect(process: subprocess.Popen[str], word: str) -> None:
        assert process.stdout is not None
        line = process.stdout.readline().strip()
        if line != word:
            raise LabError(f"a connection between two pods did not begin: {line}")


def _label(pod: Pod) -> str:
    return f"{pod.node.name}/{pod.name}"
