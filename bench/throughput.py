"""TCP between pods beside what a kernel does that is set up by hand, burst by burst in turn.

The connections of both ways have one sender and one receiver between them, so the two bursts of a
round meet the same processes at the same places on the same processors. With a process pair for
each way, where the scheduler happens to put them decides more than the way does: single rounds lay
between 0.66 and 1.33.
"""

from __future__ import annotations

import contextlib
import json
import socket
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench.figures import Row
from bench.plugin import BenchError

GOAL = 0.95
PORT = 5201
ENDS = Path(__file__).with_name("ends.py")
TIMEOUT_S = 30
# A tenth of a second and more: longer than any slow start, shorter than what else a machine does.
BURST = 256 << 20
CHUNK = memoryview(bytes(1 << 20))
# A round of other loads is as long as some of these.
BURSTS_A_ROUND = 10


@dataclass(frozen=True, slots=True)
class Way:
    """A connection to measure: commands that lead into both ends, and the server's address."""

    name: str
    server: Sequence[str]
    client: Sequence[str]
    address: str


def compare(
    measure: str, ours: Way, reference: Way, rounds: int, tell: Callable[[str], None]
) -> list[Row]:
    """Medians of the bursts. The ratio is the median of those of two bursts, one right after the
    other: what else the machine does changes all the time, and meets both alike.

    Raises BenchError, also when the pods' devices are not alike.
    """
    _must_be_alike(ours, reference)
    rates: dict[str, list[float]] = {ours.name: [], reference.name: []}
    with _connected(ours) as mine, _connected(reference) as theirs, _drain(mine, theirs) as drain:
        ends = {ours.name: mine, reference.name: theirs}
        for name in (ours.name, reference.name):
            _rate(ends[name], drain)
        for number in range(rounds):
            for _ in range(BURSTS_A_ROUND):
                for name in ends if len(rates[ours.name]) % 2 else reversed(ends):
                    rates[name].append(_rate(ends[name], drain))
            tell(f"  {number + 1} of {rounds}")
    ratios = [a / b for a, b in zip(rates[ours.name], rates[reference.name], strict=True)]
    return [
        Row(
            f"{measure} against {reference.name}",
            f"{statistics.median(rates[ours.name]):.2f} Gbit/s",
            f"{statistics.median(rates[reference.name]):.2f} Gbit/s",
            statistics.median(ratios),
            GOAL,
            is_at_least=True,
        )
    ]


@dataclass(frozen=True, slots=True)
class _Ends:
    client: socket.socket
    server: socket.socket


def _rate(ends: _Ends, drain: subprocess.Popen[str]) -> float:
    """Gbit/s of one burst, up to when the receiver has all of it."""
    assert drain.stdin
    began = time.perf_counter()
    try:
        drain.stdin.write(f"{ends.server.fileno()}\n")
        drain.stdin.flush()
        for _ in range(BURST // len(CHUNK)):
            ends.client.sendall(CHUNK)
        answer = ends.client.recv(1)
    except OSError as error:
        raise BenchError(f"a burst did not arrive: {error}") from error
    if not answer:
        raise BenchError("the receiver of the bursts has ended")
    return BURST * 8 / (time.perf_counter() - began) / 1e9


@contextlib.contextmanager
def _connected(way: Way) -> Iterator[_Ends]:
    """Both ends of one connection of a way, each made in its namespace. Raises BenchError."""
    with _open(way, way.server, "listen") as listening:
        listening.settimeout(TIMEOUT_S)
        with _open(way, way.client, "connect") as client:
            client.settimeout(TIMEOUT_S)
            server, _ = listening.accept()
            with server:
                server.setblocking(True)
                yield _Ends(client, server)


def _open(way: Way, enter: Sequence[str], role: str) -> socket.socket:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        given = str(theirs.fileno())
        command = [*enter, sys.executable, str(ENDS), "open", given, role, way.address, str(PORT)]
        done = subprocess.run(
            command,
            pass_fds=[theirs.fileno()],
            capture_output=True,
            text=True,
            timeout=2 * TIMEOUT_S,
            check=False,
        )
        if done.returncode:
            raise BenchError(f"{way.name}: {done.stderr.strip()}")
        _, (descriptor,), _, _ = socket.recv_fds(ours, 1, 1)
        return socket.socket(fileno=descriptor)


@contextlib.contextmanager
def _drain(*ends: _Ends) -> Iterator[subprocess.Popen[str]]:
    descriptors = [end.server.fileno() for end in ends]
    process = subprocess.Popen(
        [sys.executable, str(ENDS), "drain", str(BURST), *map(str, descriptors)],
        pass_fds=descriptors,
        stdin=subprocess.PIPE,
        text=True,
    )
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


def _must_be_alike(*ways: Way) -> None:
    """A larger packet, or more of them at once, is another measure."""
    devices = {
        (device["mtu"], device["gso_max_size"], device["gro_max_size"])
        for way in ways
        for end in (way.server, way.client)
        for device in _eth0(end)
    }
    if len(devices) != 1:
        raise BenchError(f"MTU, GSO and GRO of the pods differ: {sorted(devices)}")


def _eth0(end: Sequence[str]) -> list[dict[str, Any]]:
    command = [*end, "ip", "-details", "-json", "link", "show", "dev", "eth0"]
    done = subprocess.run(command, capture_output=True, check=True, timeout=10)
    found: list[dict[str, Any]] = json.loads(done.stdout)
    return found
