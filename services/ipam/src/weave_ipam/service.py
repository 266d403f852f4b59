"""The gRPC face: weave.ipam.v1.Ipam by the contracts of its proto. protobuf goes no further."""

from __future__ import annotations

import contextlib
import time
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any, Protocol

from weave.ipam.v1 import ipam_pb2, ipam_pb2_grpc
from weave.types.v1 import types_pb2
from weave_ipam import codec, report
from weave_ipam.audit import Finding
from weave_ipam.core.results import Claimed, Left, Reclaimed, Released, Status
from weave_ipam.loop import Owner
from weave_model.attachment import AttachmentKey
from weave_model.errors import Absent, Invalid
from weave_model.peer import PeerName
from weave_model.prefix import Family
from weave_model.ring import RingView
from weave_runtime.client import time_left
from weave_runtime.watch import Removed, SnapshotStart, Synced, Table, Upsert

# For callers without a deadline of their own: longer than any container runtime waits for an ADD.
LIMIT_S = 300.0
# What only reads or frees waits for nothing but the disk.
SHORT_LIMIT_S = 30.0


class Node(Protocol):
    """What the service needs of the process around it."""

    ring: Table[Family, RingView]
    store_name: str

    @property
    def name(self) -> PeerName | None:
        """This peer; None while gossip has not said it."""

    def reason(self) -> str:
        """Why an Allocate would not succeed; empty when it would, if there is an address left."""

    async def owner(self, timeout_s: float) -> Owner:
        """The owner of the allocator, as soon as there is one. Raises Starting."""

    def status(self) -> Status | None:
        """None while nothing is known."""

    async def check(self, *, repair: bool) -> list[tuple[Finding, bool]]:
        """Findings, and whether each was repaired. Raises DomainError."""

    def observe_allocation(self, seconds: float) -> None:
        """Counts an allocation that took this long."""


class IpamService(ipam_pb2_grpc.IpamServicer):
    """Decodes, hands over to the owner, encodes."""

    def __init__(self, node: Node, clock: Callable[[], float] = time.monotonic) -> None:
        self._node = node
        self._clock = clock

    async def Allocate(
        self, request: ipam_pb2.AllocateRequest, context: Any
    ) -> ipam_pb2.AllocateResponse:
        with _invalid():
            key = codec.key_from_proto(request.key)
            workload = codec.workload_from_proto(request.workload)
            subnets = codec.one_per_family(map(codec.subnet_from_proto, request.subnets), "subnets")
            requested = codec.one_per_family(
                map(codec.host_from_proto, request.requested), "requested addresses"
            )
        started = self._clock()
        limit_s = time_left(context, LIMIT_S)
        owner = await self._node.owner(limit_s)
        outcome, existed = await owner.allocate(
            lambda id_, now: owner.allocator.allocate(id_, key, workload, subnets, requested, now),
            key,
            timeout_s=limit_s - (self._clock() - started),
        )
        self._node.observe_allocation(self._clock() - started)
        return ipam_pb2.AllocateResponse(
            addresses=[
                codec.address_to_proto(issued.address, issued.subnet.length)
                for issued in outcome.addresses
            ],
            generation=outcome.generation,
            existed=existed,
        )

    async def Claim(self, request: ipam_pb2.ClaimRequest, context: Any) -> ipam_pb2.ClaimResponse:
        with _invalid():
            key = codec.key_from_proto(request.key)
            workload = codec.workload_from_proto(request.workload)
            addresses = tuple(map(codec.host_from_proto, request.addresses))
            if not addresses:
                raise ValueError("no address to claim")
        limit_s = time_left(context, LIMIT_S)
        owner = await self._node.owner(limit_s)
        outcome = await owner.call(
            lambda id_, now: owner.allocator.claim(id_, key, workload, addresses, now),
            timeout_s=limit_s,
            key=key,
        )
        assert isinstance(outcome, Claimed)
        return ipam_pb2.ClaimResponse(generation=outcome.generation)

    async def Release(
        self, request: ipam_pb2.ReleaseRequest, context: Any
    ) -> ipam_pb2.ReleaseResponse:
        key = _key(request.key)
        limit_s = time_left(context, SHORT_LIMIT_S)
        owner = await self._node.owner(limit_s)
        outcome = await owner.call(
            lambda id_, now: owner.allocator.release(id_, key, request.generation, now),
            timeout_s=limit_s,
            key=key,
        )
        assert isinstance(outcome, Released)
        return ipam_pb2.ReleaseResponse(released=codec.prefixes_to_proto(outcome.addresses))

    async def Lookup(
        self, request: ipam_pb2.LookupRequest, context: Any
    ) -> ipam_pb2.LookupResponse:
        key = _key(request.key)
        owner = await self._node.owner(time_left(context, SHORT_LIMIT_S))
        allocation = await owner.read(lambda: owner.allocator.lookup(key))
        if allocation is None:
            return ipam_pb2.LookupResponse()
        return ipam_pb2.LookupResponse(
            addresses=codec.prefixes_to_proto(allocation.addresses),
            generation=allocation.generation,
        )

    async def List(self, request: ipam_pb2.ListRequest, context: Any) -> ipam_pb2.ListResponse:
        owner = await self._node.owner(time_left(context, SHORT_LIMIT_S))
        allocations = await owner.read(owner.allocator.allocations)
        return ipam_pb2.ListResponse(
            allocations=[
                report.allocation_to_proto(allocation)
                for allocation in allocations
                if request.network in ("", allocation.key.network)
            ]
        )

    async def Reclaim(
        self, request: ipam_pb2.ReclaimRequest, context: Any
    ) -> ipam_pb2.ReclaimResponse:
        limit_s = time_left(context, LIMIT_S)
        owner = await self._node.owner(limit_s)
        peer = owner.allocator.resolve_peer(request.peer)
        if peer is None:
            raise Absent(f"no peer is called {request.peer!r}")
        outcome = await owner.call(
            lambda id_, now: owner.allocator.reclaim(id_, peer, now), timeout_s=limit_s
        )
        assert isinstance(outcome, Reclaimed)
        return ipam_pb2.ReclaimResponse(peer=str(outcome.peer), addresses=str(outcome.addresses))

    async def Leave(self, _request: ipam_pb2.LeaveRequest, context: Any) -> ipam_pb2.LeaveResponse:
        limit_s = time_left(context, LIMIT_S)
        owner = await self._node.owner(limit_s)
        outcome = await owner.call(owner.allocator.leave, timeout_s=limit_s)
        assert isinstance(outcome, Left)
        return ipam_pb2.LeaveResponse(addresses=str(outcome.addresses))

    async def Prime(self, _request: ipam_pb2.PrimeRequest, context: Any) -> ipam_pb2.PrimeResponse:
        limit_s = time_left(context, LIMIT_S)
        owner = await self._node.owner(limit_s)
        await owner.call(owner.allocator.prime, timeout_s=limit_s)
        return ipam_pb2.PrimeResponse()

    async def WatchRing(
        self, request: ipam_pb2.WatchRingRequest, _context: Any
    ) -> AsyncIterator[ipam_pb2.WatchRingResponse]:
        async for event in self._node.ring.subscribe(request.resume_token):
            match event:
                case SnapshotStart():
                    yield ipam_pb2.WatchRingResponse(snapshot_start=types_pb2.SnapshotStart())
                case Upsert(_, view):
                    yield ipam_pb2.WatchRingResponse(ring=codec.view_to_proto(view))
                case Synced(token):
                    synced = types_pb2.Synced(resume_token=token)
                    yield ipam_pb2.WatchRingResponse(synced=synced)
                case Removed():
                    pass  # a family's ring is replaced, never taken away

    async def Check(self, request: ipam_pb2.CheckRequest, _context: Any) -> ipam_pb2.CheckResponse:
        findings = await self._node.check(repair=request.repair)
        return ipam_pb2.CheckResponse(
            findings=[
                report.finding_to_proto(finding, repaired=repaired)
                for finding, repaired in findings
            ]
        )

    async def GetStatus(
        self, _request: ipam_pb2.GetStatusRequest, _context: Any
    ) -> ipam_pb2.GetStatusResponse:
        status = self._node.status()
        exhausted = status.exhausted if status else ""
        reason = self._node.reason() or exhausted
        return ipam_pb2.GetStatusResponse(
            name=str(self._node.name or ""),
            families=map(report.family_to_proto, status.families if status else ()),
            ready=not reason,
            reason=reason,
            store=self._node.store_name,
            exhausted=exhausted,
        )


def _key(message: types_pb2.AttachmentKey) -> AttachmentKey:
    with _invalid():
        return codec.key_from_proto(message)


@contextlib.contextmanager
def _invalid() -> Iterator[None]:
    """What cannot be decoded is the caller's fault."""
    try:
        yield
    except ValueError as error:
        raise Invalid(str(error)) from error
