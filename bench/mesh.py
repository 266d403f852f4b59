"""`make bench-mesh`: many real gossip processes in a network namespace of their own.

Prints how long they take to find each other, and what one of them costs when nothing happens:
processor, memory, bytes on the wire with all headers. Needs root, for the namespace.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import fcntl
import os
import socket
import statistics
import struct
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench.figures import Row, markdown
from bench.processes import pss_mb
from weave.gossip.v1 import gossip_pb2, gossip_pb2_grpc
from weave_runtime.client import connect

PORT = 6783
# Enough that the loss of one does not matter, as with the nodes listed to a DaemonSet's pod.
TARGETS = 3
PATIENCE_S = 120
# Goals of the mesh: bytes a peer sends when nothing happens, megabytes a process may weigh.
WIRE_GOAL_BYTES_S = 3000
MEMORY_GOAL_MB = 32
UPDATES = 20
# The FULL_MESH_PEERS of the overlay, and its LOW_DEGREE, which is reached at once.
FULL_MESH = 32
SPARSE_LINKS = 6
# From linux/sockios.h and linux/if.h.
SIOCSIFFLAGS = 0x8914
IFF_UP = 0x1


@dataclass
class Peer:
    """One gossip process."""

    process: subprocess.Popen[bytes]
    socket_path: Path

    def processor_s(self) -> float:
        """Processor time used so far, user and system (proc(5), fields 14 and 15)."""
        fields = Path(f"/proc/{self.process.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def launch(folder: Path, number: int, secret: str) -> Peer:
    """Starts peer `number`, which listens on 127.0.0.<number>."""
    address = f"127.0.0.{number}"
    command = [sys.executable, "-m", "weave_gossip", "--host", address, "--http-addr", ""]
    command += ["--underlay-address", address, "--nickname", f"peer{number}"]
    command += ["--state-dir", str(folder / f"state{number}")]
    command += [
        "--socket-path",
        str(folder / f"{number}.sock"),
        "--log-level",
        "warning",
    ]
    command += [f"127.0.0.{target}" for target in range(1, TARGETS + 1) if target != number]
    environment = os.environ | {"WEAVE_PASSWORD": secret}
    with (folder / f"log{number}").open("wb") as log:
        process = subprocess.Popen(command, stderr=log, env=environment)
    return Peer(process, folder / f"{number}.sock")


@contextlib.contextmanager
def launched(folder: Path, count: int, secret: str) -> Iterator[list[Peer]]:
    peers: list[Peer] = []
    try:
        for number in range(count):
            peers.append(launch(folder, number + 1, secret))  # noqa: PERF401 - a list even if cut short
        yield peers
    finally:
        for peer in peers:
            peer.process.terminate()
        for peer in peers:
            peer.process.wait(timeout=30)


@contextlib.asynccontextmanager
async def stub(peer: Peer) -> AsyncIterator[Any]:
    async with connect(peer.socket_path) as channel:
        yield gossip_pb2_grpc.GossipStub(channel)


async def until_converged(peer: Peer, count: int, links: int = 0) -> int:
    """Waits until a peer knows a way to all, over so many links; returns how many it has."""
    async with stub(peer) as gossip, asyncio.timeout(PATIENCE_S):
        while True:
            status = await gossip.GetStatus(
                gossip_pb2.GetStatusRequest(), timeout=PATIENCE_S, wait_for_ready=True
            )
            held: int = sum(
                each.state == gossip_pb2.CONNECTION_STATE_ESTABLISHED for each in status.connections
            )
            if sum(each.reachable for each in status.peers) == count and held >= links:
                return held
            await asyncio.sleep(0.1)


async def update_latency_s(peers: list[Peer]) -> list[float]:
    """From the call of Publish at the first peer until the last peer shows it; several times."""
    async with contextlib.AsyncExitStack() as stack:
        stubs = [await stack.enter_async_context(stub(peer)) for peer in peers]
        request = gossip_pb2.WatchDocumentsRequest(topic="bench")
        watches = [
            aiter(each.WatchDocuments(request, timeout=PATIENCE_S, wait_for_ready=True))
            for each in stubs
        ]
        latencies = []
        for number in range(UPDATES):
            payload = str(number).encode()

            async def shown(watch: AsyncIterator[gossip_pb2.WatchDocumentsResponse]) -> None:
                async for event in watch:
                    if event.document.payload == payload:  # noqa: B023 - ends within the round
                        return

            begin = time.perf_counter()
            await stubs[0].Publish(
                gossip_pb2.PublishRequest(topic="bench", key="", payload=payload)
            )
            await asyncio.gather(*map(shown, watches))
            latencies.append(time.perf_counter() - begin)
        return latencies


def wire_bytes() -> int:
    """Bytes that went over this namespace's loopback device."""
    for line in Path("/proc/net/dev").read_text().splitlines():
        name, _, fields = line.partition(":")
        if name.strip() == "lo":
            return int(fields.split()[0])
    return 0


def bring_up_loopback() -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as control:
        fcntl.ioctl(control, SIOCSIFFLAGS, struct.pack("16sh14x", b"lo", IFF_UP))


async def measure(count: int, idle_s: float, secret: str) -> list[Row]:
    with tempfile.TemporaryDirectory(prefix="weave-mesh.") as folder:
        begin = time.perf_counter()
        with launched(Path(folder), count, secret) as peers:
            await asyncio.gather(*(until_converged(peer, count) for peer in peers))
            converged_s = time.perf_counter() - begin
            # Up to FULL_MESH peers each links to all; above, it adds links at leisure.
            wanted = count - 1 if count <= FULL_MESH else SPARSE_LINKS
            links = await asyncio.gather(*(until_converged(peer, count, wanted) for peer in peers))
            linked_s = time.perf_counter() - begin
            latencies = await update_latency_s(peers)
            # What the watches and questions left behind dies down.
            await asyncio.sleep(5)
            used = [peer.processor_s() for peer in peers]
            sent = wire_bytes()
            await asyncio.sleep(idle_s)
            sent = wire_bytes() - sent
            load = [
                (peer.processor_s() - before) / idle_s * 100
                for peer, before in zip(peers, used, strict=True)
            ]
            memory = [pss_mb(peer.process.pid) for peer in peers]
    rate = sent / idle_s / count
    update_s = statistics.quantiles(latencies, n=20)[-1]
    return [
        Row("processes", str(count), "", count),
        Row("links per process, mean", f"{statistics.mean(links):.1f}", "", statistics.mean(links)),
        Row("all know all after", f"{converged_s:.1f} s", "", converged_s, unit=" s"),
        Row("all links are up after", f"{linked_s:.1f} s", "", linked_s, unit=" s"),
        Row(
            "an update is everywhere, p95", f"{update_s * 1000:.0f} ms", "", update_s, 2, unit=" s"
        ),
        Row("idle: processor per process", f"{statistics.mean(load):.2f} %", "", max(load)),
        Row(
            "idle: bytes/s a process sends, headers included",
            f"{rate:.0f}",
            "",
            rate,
            WIRE_GOAL_BYTES_S,
        ),
        Row(
            "memory per process (PSS), mean",
            f"{statistics.mean(memory):.1f} MB",
            "",
            statistics.mean(memory),
            MEMORY_GOAL_MB,
            unit=" MB",
        ),
    ]


def main() -> int:
    """Exit status 1 when a goal is missed."""
    parser = argparse.ArgumentParser(prog="bench.mesh", description=__doc__)
    parser.add_argument("--peers", type=int, default=25)
    parser.add_argument("--idle", type=float, default=30, help="seconds to watch the idle mesh")
    parser.add_argument("--secret", action="store_true", help="encrypt the links")
    parser.add_argument("--inside", action="store_true", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if not arguments.inside:
        command = ["unshare", "--net", sys.executable, "-m", "bench.mesh", *sys.argv[1:]]
        return subprocess.run([*command, "--inside"], check=False).returncode
    bring_up_loopback()
    secret = os.urandom(16).hex() if arguments.secret else ""
    rows = asyncio.run(measure(arguments.peers, arguments.idle, secret))
    sys.stdout.write(markdown(rows) + "\n")
    return 0 if all(row.is_met for row in rows) else 1


if __name__ == "__main__":
    sys.exit(main())
