"""weave.cni.v1.Cni: status, and attaching without a container runtime."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

from weave.cni.v1 import cni_pb2, cni_pb2_grpc
from weave.types.v1 import types_pb2
from weave_cni_shim import codec
from weave_cni_shim.addresses import OwnAddresses
from weave_cni_shim.attach import Attacher, Wanted
from weave_cni_shim.backends import Ipam
from weave_cni_shim.core.call import removal
from weave_cni_shim.core.versions import SUPPORTED
from weave_cni_shim.errors import AlreadyAttached
from weave_cni_shim.install import Conflist, remove_executable
from weave_cni_shim.readiness import Readiness
from weave_cni_shim.spool import Spool
from weave_cni_shim.verbs import Counters
from weave_model.attachment import AttachmentKey
from weave_model.errors import Invalid
from weave_model.prefix import Prefix


class CniService(cni_pb2_grpc.CniServicer):
    """Serves the contracts in proto/weave/cni/v1/cni.proto."""

    def __init__(
        self,
        attacher: Attacher,
        ipam: Ipam,
        readiness: Readiness,
        conflist: Conflist,
        executable: Path,
        counters: Counters,
        spool: Spool,
    ) -> None:
        self._attacher = attacher
        self._ipam = ipam
        self._readiness = readiness
        self._conflist = conflist
        self._executable = executable
        self._counters = counters
        self._spool = spool

    async def GetStatus(
        self, request: cni_pb2.GetStatusRequest, context: Any
    ) -> cni_pb2.GetStatusResponse:
        reasons = await self._readiness.reasons()
        return cni_pb2.GetStatusResponse(
            ready=not reasons,
            reasons=reasons,
            conflist=str(self._conflist.path) if self._conflist.is_present else "",
            executable=str(self._executable),
            cni_versions=SUPPORTED,
            adds=self._counters.adds,
            dels=self._counters.dels,
            failures=self._counters.failures,
            spooled=len(self._spool),
        )

    async def Attach(self, request: cni_pb2.AttachRequest, context: Any) -> cni_pb2.AttachResponse:
        key = _key(request.key)
        if not request.netns_path:
            raise Invalid("netns_path is empty")
        wanted = Wanted(
            key=key,
            netns=request.netns_path,
            removal=removal(key, request.netns_path),
            source=OwnAddresses(self._ipam, requested=[_prefix(i) for i in request.requested]),
            workload=codec.workload_of(request.workload),
        )
        await self._spool.settled(key)
        try:
            addresses = (await self._attacher.attach(wanted)).addresses
        except AlreadyAttached:
            addresses = tuple(a.host for a in (await self._ipam.lookup(key)).addresses)
        return cni_pb2.AttachResponse(addresses=map(codec.prefix_to_proto, addresses))

    async def Detach(self, request: cni_pb2.DetachRequest, context: Any) -> cni_pb2.DetachResponse:
        key = _key(request.key)
        addresses = [a.host for a in (await self._ipam.lookup(key)).addresses]
        await self._attacher.detach(key, request.netns_path, OwnAddresses(self._ipam))
        return cni_pb2.DetachResponse(addresses=map(codec.prefix_to_proto, addresses))

    async def Withdraw(
        self, request: cni_pb2.WithdrawRequest, context: Any
    ) -> cni_pb2.WithdrawResponse:
        conflist = self._conflist.path
        was_shown = self._conflist.is_present
        await self._readiness.end("weave-net is reset on this node")
        removed = await asyncio.to_thread(remove_executable, self._executable.parent)
        return cni_pb2.WithdrawResponse(
            removed=map(str, [*([conflist] if was_shown else []), *removed])
        )


def _key(message: types_pb2.AttachmentKey) -> AttachmentKey:
    try:
        return codec.key_of(message)
    except ValueError as error:
        raise Invalid(str(error)) from error


def _prefix(message: types_pb2.Prefix) -> Prefix:
    try:
        return codec.prefix_of(message)
    except ValueError as error:
        raise Invalid(str(error)) from error
