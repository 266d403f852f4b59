"""SIGKILL at random moments: what was answered is remembered, and no address is given twice.

WEAVE_IPAM_KILLS=200 makes it that many.
"""

from __future__ import annotations

import asyncio
import os
import random
from dataclasses import dataclass, field

import grpc
import pytest

from weave.ipam.v1 import ipam_pb2, ipam_pb2_grpc
from weave_ipam.codec import key_to_proto
from weave_ipam.testing.cluster import pod_key, text_of
from weave_ipam.testing.process import IpamProcess, ipam_process
from weave_runtime.testing import RedisServer

KILLS = int(os.environ.get("WEAVE_IPAM_KILLS", "20"))
CALLERS = 8
# Long enough for some dozens of commits, short enough for many kills.
LONGEST_LIFE_S = 0.3
TIMEOUT_S = 20.0
# Nothing may keep an address from being given again but that it is in use.
OPTIONS = ("--ipalloc-range=10.32.0.0/20", "--quarantine=0s")


@dataclass
class Truth:
    """What callers were told. Of what was under way at a kill nothing is known."""

    held: dict[str, str] = field(default_factory=dict)
    unsure: set[str] = field(default_factory=set)
    told: int = 0
    numbers: int = 0

    def check(self, listed: dict[str, str]) -> None:
        """Raises AssertionError where the process forgot or gave twice."""
        for pod, address in self.held.items():
            if pod not in self.unsure:
                assert listed.get(pod) == address, f"{pod} was told {address}"
        assert set(listed) <= set(self.held) | self.unsure
        assert len(set(listed.values())) == len(listed)

    def settle(self, listed: dict[str, str]) -> None:
        """What was not known is what the process says now."""
        self.held, self.unsure = dict(listed), set()


async def call(stub: ipam_pb2_grpc.IpamAsyncStub, truth: Truth, rng: random.Random) -> None:
    """Allocates for a new pod or releases an old one."""
    certain = sorted(set(truth.held) - truth.unsure)
    if certain and rng.random() < 0.4:
        pod = rng.choice(certain)
        truth.unsure.add(pod)
        await stub.Release(ipam_pb2.ReleaseRequest(key=key_to_proto(pod_key(pod))))
        truth.held.pop(pod, None)
    else:
        truth.numbers += 1
        pod = f"pod-{truth.numbers}"
        truth.unsure.add(pod)
        answer = await stub.Allocate(ipam_pb2.AllocateRequest(key=key_to_proto(pod_key(pod))))
        address = text_of(answer.addresses[0].address)
        assert address not in {a for p, a in truth.held.items() if p not in truth.unsure}
        truth.held[pod] = address
    truth.unsure.discard(pod)
    truth.told += 1


async def load(stub: ipam_pb2_grpc.IpamAsyncStub, truth: Truth, rng: random.Random) -> None:
    """Calls until the process is gone."""
    while True:
        try:
            await call(stub, truth, rng)
        except grpc.aio.AioRpcError:
            return


async def listed_by(ipam: IpamProcess) -> dict[str, str]:
    async with ipam.connect() as channel:
        stub = ipam_pb2_grpc.IpamStub(channel)
        answer = await stub.List(ipam_pb2.ListRequest(), timeout=TIMEOUT_S, wait_for_ready=True)
    return {a.key.container_id: text_of(a.addresses[0].address) for a in answer.allocations}


async def kill_again_and_again(ipam: IpamProcess, kills: int, rng: random.Random) -> Truth:
    truth = Truth()
    for _ in range(kills):
        await ipam.start()
        await ipam.ready()
        listed = await listed_by(ipam)
        truth.check(listed)
        truth.settle(listed)
        async with ipam.connect() as channel:
            stub = ipam_pb2_grpc.IpamStub(channel)
            tasks = [asyncio.create_task(load(stub, truth, rng)) for _ in range(CALLERS)]
            await asyncio.sleep(rng.uniform(0, LONGEST_LIFE_S))
            await ipam.kill()
            await asyncio.gather(*tasks)
    await ipam.start()
    await ipam.ready()
    truth.check(await listed_by(ipam))
    return truth


@pytest.mark.slow
@pytest.mark.timeout(60 + 10 * KILLS)
async def test_kills_lose_nothing_that_was_answered() -> None:
    async with ipam_process(*OPTIONS) as ipam:
        truth = await kill_again_and_again(ipam, KILLS, random.Random(20))

    assert truth.told > KILLS


@pytest.mark.slow
@pytest.mark.timeout(60 + 10 * KILLS)
async def test_kills_lose_nothing_in_redis_either(redis_server: RedisServer) -> None:
    async with ipam_process(*OPTIONS, f"--store-url={redis_server.url}") as ipam:
        truth = await kill_again_and_again(ipam, max(KILLS // 4, 1), random.Random(21))

    assert truth.told > KILLS // 4
