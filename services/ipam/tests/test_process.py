"""ipam as a process: how it ends, what it says over HTTP, what a full disk does to it."""

from __future__ import annotations

import asyncio
import http.client
import os
import resource
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import grpc
import pytest

from weave.ipam.v1 import ipam_pb2, ipam_pb2_grpc
from weave_ipam.codec import key_to_proto
from weave_ipam.testing.cluster import TIMEOUT_S, cluster, pod_key
from weave_ipam.testing.process import IpamProcess, ipam_process


@pytest.fixture
async def ipam() -> AsyncIterator[IpamProcess]:
    async with ipam_process() as made:
        yield made


async def allocate(ipam: IpamProcess, pod: str) -> ipam_pb2.AllocateResponse:
    async with ipam.connect() as channel:
        stub = ipam_pb2_grpc.IpamStub(channel)
        request = ipam_pb2.AllocateRequest(key=key_to_proto(pod_key(pod)))
        return await stub.Allocate(request, timeout=TIMEOUT_S, wait_for_ready=True)


async def run(*options: str) -> tuple[int, str]:
    """Exit status and what was said."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "weave_ipam", *options, stderr=asyncio.subprocess.PIPE
    )
    _, said = await process.communicate()
    assert process.returncode is not None
    return process.returncode, said.decode()


async def test_a_bad_option_ends_it_with_status_2_and_one_line() -> None:
    status, said = await run("--ipalloc-range=10.32.0.0/31")

    assert status == 2
    assert said.count("\n") == 1
    assert "10.32.0.0/31" in said


async def test_sigterm_ends_it_with_status_0(ipam: IpamProcess) -> None:
    await ipam.start()
    await ipam.ready()

    assert await ipam.stop() == 0


async def test_foreign_state_ends_it_with_status_1_and_stays(tmp_path: Path) -> None:
    database = tmp_path / "state" / "state.db"
    database.parent.mkdir()
    database.write_bytes(b"somebody else's")

    status, said = await run(
        f"--state-dir={database.parent}", f"--socket-path={tmp_path}/api.sock", "--http-addr="
    )

    assert status == 1
    assert str(database) in said
    assert "Traceback" not in said
    assert database.read_bytes() == b"somebody else's"


async def test_a_full_disk_is_told_and_loses_nothing(ipam: IpamProcess) -> None:
    # Not a file: that could not be written either.
    log, theirs = os.pipe()
    await ipam.start(theirs)
    os.close(theirs)
    await ipam.ready()
    before = await allocate(ipam, "before")
    _, hard = resource.prlimit(ipam.pid, resource.RLIMIT_FSIZE)
    resource.prlimit(ipam.pid, resource.RLIMIT_FSIZE, (0, hard))

    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await allocate(ipam, "a")
    async with ipam.connect() as channel:
        stub = ipam_pb2_grpc.IpamStub(channel)
        status = await stub.GetStatus(ipam_pb2.GetStatusRequest(), timeout=TIMEOUT_S)

    assert caught.value.code() is grpc.StatusCode.UNAVAILABLE
    assert "state.db" in (caught.value.details() or "")
    assert not status.ready
    assert "state.db" in status.reason
    resource.prlimit(ipam.pid, resource.RLIMIT_FSIZE, (hard, hard))
    await ipam.ready()
    assert (await allocate(ipam, "before")).addresses == before.addresses
    assert (await allocate(ipam, "a")).addresses != before.addresses
    await ipam.stop()
    with os.fdopen(log) as lines:
        logged = [line for line in lines if "state cannot be written" in line]
    assert len(logged) == 1
    assert "state.db" in logged[0]


async def test_a_second_process_on_the_same_state_is_refused(ipam: IpamProcess) -> None:
    await ipam.start()
    await ipam.ready()

    status, said = await run(
        f"--state-dir={ipam.directory}/state",
        f"--socket-path={ipam.directory}/other.sock",
        "--http-addr=",
    )

    assert status == 1
    assert "in use" in said


async def get(port: int, path: str) -> tuple[int, str]:
    def ask() -> tuple[int, str]:
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=TIMEOUT_S)
        try:
            connection.request("GET", path)
            answer = connection.getresponse()
            return answer.status, answer.read().decode()
        finally:
            connection.close()

    return await asyncio.to_thread(ask)


async def test_health_readiness_and_metrics(unused_tcp_port: int) -> None:
    async with cluster(0) as made:
        node = made.add(1, http_addr=f"127.0.0.1:{unused_tcp_port}")
        await node.start()
        await node.status_when(lambda status: "gossip" in status.reason)

        assert (await get(unused_tcp_port, "/healthz"))[0] == 200
        status, reason = await get(unused_tcp_port, "/readyz")
        assert status == 503
        assert "gossip" in reason
        assert (await get(unused_tcp_port, "/metrics"))[0] == 200

        await node.start_gossip()
        await node.start_router()
        await node.address("a")
        await node.release("a")
        await node.address("b")
        assert (await get(unused_tcp_port, "/readyz"))[0] == 200
        _, metrics = await get(unused_tcp_port, "/metrics")

    values = dict(line.rsplit(" ", 1) for line in metrics.splitlines() if line[0] != "#")
    assert float(values['weave_ips{state="local-used"}']) == 1
    assert float(values['weave_ips{state="local-quarantined"}']) == 1
    assert float(values["weave_max_ips"]) == 1 << 20
    assert float(values["weave_ipam_unreachable_count"]) == 0
    assert float(values["weave_ipam_pending_allocates"]) == 0
    assert float(values["weave_ipam_allocation_seconds_count"]) == 2
    assert float(values['weave_ipam_allocation_seconds_bucket{le="+Inf"}']) == 2
