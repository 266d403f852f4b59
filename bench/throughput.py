"""TCP between pods beside what a kernel does that is set up by hand, round by round in turn."""

from __future__ import annotations

import json
import statistics
import subprocess
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from bench.figures import Row
from bench.plugin import BenchError

GOAL = 0.95
PORT = "5201"
# A round is measured after the slow start of the connection.
ROUND_S = 2
OMIT_S = 1


@dataclass(frozen=True, slots=True)
class Way:
    """A connection to measure: commands that lead into both ends, and the server's address."""

    name: str
    server: Sequence[str]
    client: Sequence[str]
    address: str


def rate(way: Way) -> float:
    """Gbit/s of payload that arrive over one connection. Raises BenchError."""
    server = subprocess.Popen(
        [*way.server, "iperf3", "--server", "--one-off", "--port", PORT, "--forceflush"],
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        assert server.stdout
        for line in server.stdout:
            if "listening" in line:
                break
        options = ["--time", str(ROUND_S), "--omit", str(OMIT_S), "--port", PORT, "--json"]
        done = subprocess.run(
            [*way.client, "iperf3", "--client", way.address, *options],
            capture_output=True,
            text=True,
            timeout=30,
            check=False,
        )
    finally:
        server.kill()
        server.communicate()
    report = json.loads(done.stdout or "{}")
    if done.returncode or "error" in report:
        raise BenchError(f"{way.name}: {report.get('error') or done.stderr.strip()}")
    return float(report["end"]["sum_received"]["bits_per_second"]) / 1e9


def compare(
    measure: str, ours: Way, reference: Way, rounds: int, tell: Callable[[str], None]
) -> list[Row]:
    """Medians of the rounds. The ratio is the median of the rounds' own: what else the machine does
    changes from minute to minute, and meets both ways of a round alike.

    Raises BenchError, also when the pods' devices are not alike.
    """
    _must_be_alike(ours, reference)
    rates: dict[str, list[float]] = {ours.name: [], reference.name: []}
    for number in range(rounds):
        for way in (ours, reference) if number % 2 else (reference, ours):
            rates[way.name].append(rate(way))
        tell(f"  {number + 1} of {rounds}")
    mine, theirs = (statistics.median(rates[way.name]) for way in (ours, reference))
    ratios = [a / b for a, b in zip(rates[ours.name], rates[reference.name], strict=True)]
    return [
        Row(
            f"{measure} against {reference.name}",
            f"{mine:.2f} Gbit/s",
            f"{theirs:.2f} Gbit/s",
            statistics.median(ratios),
            GOAL,
            is_at_least=True,
        )
    ]


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
