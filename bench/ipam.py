"""`make bench-ipam`: allocations per second of the core alone and, durable, through gRPC; memory
and cold start of ipam."""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import os
import random
import sys
import tempfile
import time
from pathlib import Path

from bench.figures import Row, markdown, ms, percentile
from bench.processes import pss_mb
from weave.ipam.v1 import ipam_pb2, ipam_pb2_grpc
from weave.types.v1 import types_pb2
from weave_ipam.core.allocator import Allocator
from weave_ipam.core.documents import TOPICS_NEEDED
from weave_ipam.core.effects import RequestId
from weave_ipam.core.options import FamilyOptions, Options, Seeded
from weave_ipam.core.records import State
from weave_ipam.testing.process import IpamProcess
from weave_model.attachment import AttachmentKey, ContainerId, Workload
from weave_model.peer import PeerName
from weave_model.prefix import Prefix
from weave_model.ring import Genesis
from weave_runtime.testing import RedisServer

CALLERS = 64
RATE_GOAL = 1000.0
CORE_GOAL = 10_000.0
# Callers that a turn of the owner meets at a time: from one alone to all of them.
CORE_BATCHES = (1, CALLERS)
# The share of ipam in the 160 MB that a node's processes may have together.
MEMORY_GOAL_MB = 40.0


def core_rate(count: int, batch: int) -> float:
    """Allocations per second of processor time of the core without any I/O, so many between two
    looks at what it wants done."""
    me, universe = PeerName(b"\x02\0\0\0\0\x01"), Prefix.parse("10.32.0.0/12")
    family = FamilyOptions(universe, universe)
    options = Options(name=me, families=(family,), init=Seeded(Genesis((me,))))
    core = Allocator(options, State(), random.Random(1), 0.0)
    for topic in TOPICS_NEEDED:
        core.documents_synced(topic, 0.0)
    core.adopt([], 0.0)
    core.fence_read(me, 0, None, 0.0)
    core.take_effects()
    keys = [AttachmentKey("weave", ContainerId(f"bench-{n}"), "eth0") for n in range(count)]
    begun = time.process_time()
    for number, key in enumerate(keys, 1):
        core.allocate(RequestId(number), key, Workload(), (), (), number / count)
        if number % batch == 0:
            core.take_effects()
            core.next_deadline()
    elapsed = time.process_time() - begun
    addresses = {address for one in core.allocations() for address in one.addresses}
    if len(addresses) != count:
        raise RuntimeError(f"{count} allocations, {len(addresses)} addresses")
    return count / elapsed


def core_rows(count: int) -> list[Row]:
    """The core alone, the slower of its ways to be driven against the goal."""
    rows = []
    for batch in CORE_BATCHES:
        figure = core_rate(count, batch)
        name = f"allocations/s, core alone, {batch} at a time"
        rows.append(Row(name, "", "", figure, CORE_GOAL, is_at_least=True, unit="/s"))
    return rows


async def rate(ipam: IpamProcess, count: int) -> tuple[float, list[float]]:
    """Allocations per second of all callers together, and the seconds of each."""
    latencies: list[float] = []
    numbers = iter(range(count))
    async with ipam.connect() as channel:
        stub = ipam_pb2_grpc.IpamStub(channel)

        async def caller() -> None:
            for number in numbers:
                key = types_pb2.AttachmentKey(
                    network="weave", container_id=f"bench-{number}", interface="eth0"
                )
                begun = time.perf_counter()
                await stub.Allocate(ipam_pb2.AllocateRequest(key=key), timeout=30.0)
                latencies.append(time.perf_counter() - begun)

        begun = time.perf_counter()
        await asyncio.gather(*(caller() for _ in range(CALLERS)))
        elapsed = time.perf_counter() - begun
        listed = await stub.List(ipam_pb2.ListRequest(), timeout=30.0)
    addresses = {allocation.addresses[0].address for allocation in listed.allocations}
    if len(addresses) != count:
        raise RuntimeError(f"{count} allocations, {len(addresses)} addresses")
    return count / elapsed, latencies


def cpu_s(pid: int) -> float:
    """Processor time a process has used, user and system (man 5 proc: stat, fields 14 and 15)."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


async def measure(store: str, directory: Path, count: int, *options: str) -> list[Row]:
    """All figures with one store; the goal is for the embedded one."""
    async with IpamProcess(directory, *options) as ipam:
        await ipam.start()
        cold_s = await ipam.ready()
        idle_mb, idle_s = pss_mb(ipam.pid), cpu_s(ipam.pid)
        per_second, latencies = await rate(ipam, count)
        busy_mb, busy_s = pss_mb(ipam.pid), cpu_s(ipam.pid)
        await ipam.stop()
        await ipam.start()
        warm_s = await ipam.ready()
    middle, high = percentile(latencies, 50), percentile(latencies, 95)
    return [
        Row(
            f"allocations/s, {CALLERS} callers, {store}",
            f"p50 {ms(middle)}, p95 {ms(high)}",
            "",
            per_second,
            None if options else RATE_GOAL,
            is_at_least=True,
            unit="/s",
        ),
        Row(
            f"CPU time of ipam per allocation, {store}",
            ms((busy_s - idle_s) / count),
            "",
            (busy_s - idle_s) / count * 1000,
            unit=" ms",
        ),
        Row(f"memory (PSS) at rest, {store}", f"{idle_mb:.1f} MB", "", idle_mb, MEMORY_GOAL_MB),
        Row(f"memory with {count} allocations, {store}", f"{busy_mb:.1f} MB", "", busy_mb),
        Row(f"start to ready without state, {store}", ms(cold_s), "", cold_s, unit=" s"),
        Row(f"start to ready with {count} allocations", ms(warm_s), "", warm_s, unit=" s"),
    ]


async def run(count: int, *, with_redis: bool) -> list[Row]:
    """SQLite, and Redis where it is wanted."""
    with contextlib.ExitStack() as stack:

        def directory() -> Path:
            made = tempfile.TemporaryDirectory(prefix="wipam-", dir="/var/tmp")
            return Path(stack.enter_context(made))

        rows = core_rows(count)
        rows += await measure("SQLite", directory(), count)
        if with_redis:
            redis = RedisServer(directory())
            redis.start()
            stack.callback(redis.kill)
            rows += await measure("Redis", directory(), count, f"--store-url={redis.url}")
        return rows


def main() -> int:
    """Exit status 1 when a goal is missed."""
    parser = argparse.ArgumentParser(prog="bench-ipam", description=__doc__)
    parser.add_argument("--count", type=int, default=5000, help="allocations (default 5000)")
    parser.add_argument("--redis", action="store_true", help="measure with Redis as well")
    arguments = parser.parse_args()
    rows = asyncio.run(run(arguments.count, with_redis=arguments.redis))
    sys.stdout.write(markdown(rows) + "\n")
    return 0 if all(row.is_met for row in rows) else 1


if __name__ == "__main__":
    sys.exit(main())
