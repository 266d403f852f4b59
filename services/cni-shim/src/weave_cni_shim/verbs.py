"""The CNI verbs: a request of the host executable becomes an answer."""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from weave_cni_shim.addresses import (
    AddressSource,
    IpamPlugin,
    OwnAddresses,
    PluginAddresses,
    ipam_plugin,
)
from weave_cni_shim.attach import Attacher, Wanted
from weave_cni_shim.backends import Ipam, Router
from weave_cni_shim.collector import Collector
from weave_cni_shim.core.call import Call, Command, parse_call, removal_of
from weave_cni_shim.core.config import version_in
from weave_cni_shim.core.failure import CniError, Code, failure_of
from weave_cni_shim.core.frame import ANSWER_LIMIT, Answer, Request
from weave_cni_shim.core.result import Attached, add_result, addresses_in, ipam_result
from weave_cni_shim.core.versions import SUPPORTED
from weave_cni_shim.core.wishes import Wishes
from weave_cni_shim.delegations import Delegations
from weave_cni_shim.errors import AlreadyAttached
from weave_cni_shim.lending import Lender
from weave_cni_shim.readiness import Readiness
from weave_cni_shim.spool import Spool
from weave_model.errors import Absent, DomainError
from weave_model.prefix import Prefix
from weave_runtime import telemetry

_STATUS_CODES = (Code.NOT_AVAILABLE, Code.LIMITED_CONNECTIVITY)
_OWN_NETNS = Path("/proc/self/ns/net")

log = logging.getLogger(__name__)
tracer = telemetry.tracer(__name__)


@dataclass(slots=True)
class Counters:
    """What happened since the start, for status and metrics."""

    adds: int = 0
    dels: int = 0
    failures: int = 0


class Verbs:
    """Answers requests. Never raises but for cancellation."""

    def __init__(
        self,
        attacher: Attacher,
        collector: Collector,
        ipam: Ipam,
        router: Router,
        readiness: Readiness,
        spool: Spool,
        delegations: Delegations,
        *,
        mtu: int,
        plugin_dir: Path,
    ) -> None:
        self._attacher = attacher
        self._collector = collector
        self._ipam = ipam
        self._lender = Lender(ipam, owe=spool.keep)
        self._router = router
        self._readiness = readiness
        self._spool = spool
        self._delegations = delegations
        self._mtu = mtu
        self._plugin_dir = plugin_dir
        self.counters = Counters()
        self._verbs: Mapping[
            Command, Callable[[Call, IpamPlugin | None], Awaitable[Mapping[str, Any] | None]]
        ] = {
            Command.ADD: self._add,
            Command.DEL: self._del,
            Command.CHECK: self._check,
            Command.GC: self._gc,
            Command.STATUS: self._status,
            Command.VERSION: self._version,
        }

    async def answer(self, request: Request) -> Answer:
        """Carries a request out."""
        plugin: IpamPlugin | None = None
        try:
            call = parse_call(request)
            plugin = ipam_plugin(call, self._plugin_dir)
            with tracer.span(f"CNI {call.command}", parent=call.traceparent):
                result = await self._verbs[call.command](call, plugin)
            stdout = b"" if result is None else json.dumps(result).encode() + b"\n"
            if len(stdout) > ANSWER_LIMIT:
                await self.undo_unheard(request)
                raise CniError(
                    Code.INVALID_CONFIG, f"result of {len(stdout)} bytes is over {ANSWER_LIMIT}"
                )
            return Answer(0, stdout, plugin.stderr if plugin else b"")
        except CniError as error:
            failure = error
        except DomainError as error:
            failure = failure_of(error)
        except Exception as error:
            log.exception("CNI call failed unexpectedly", extra=_fields(request))
            failure = CniError(Code.INTERNAL, f"{type(error).__name__}: {error}")
        return self._failed(request, failure, plugin.stderr if plugin else b"")

    async def undo_unheard(self, request: Request) -> None:
        """Takes back an ADD that succeeded but whose client was gone before it heard of it."""
        if request.environ.get("CNI_COMMAND") == Command.ADD:
            await self.answer(removal_of(request))

    async def carry_out(self, call: Call) -> None:
        """Carries a kept DEL out. Raises DomainError or CniError when it must wait."""
        await self._remove(call, ipam_plugin(call, self._plugin_dir))

    async def _add(self, call: Call, plugin: IpamPlugin | None) -> Mapping[str, Any]:
        wishes, previous = call.wishes(), call.config.previous()
        await self._spool.settled(call.key)
        if call.is_ipam:
            return await self._add_address(call, wishes)
        _refuse_own_netns(call)
        wanted = Wanted(
            key=call.key,
            netns=call.netns,
            removal=removal_of(call.request),
            source=self._source(call, plugin, wishes.subnets, wishes.requested),
            workload=wishes.workload,
            routes=wishes.routes,
            mtu=wishes.mtu or self._mtu,
            mac=wishes.mac,
        )
        attached = await self._attached(wanted, delegates=plugin is not None)
        self.counters.adds += 1
        log.debug("attached", extra={"attachment": str(call.key)})
        return add_result(
            attached, cni_version=call.config.cni_version, dns=wishes.dns, previous=previous
        )

    async def _attached(self, wanted: Wanted, *, delegates: bool) -> Attached:
        """An attach; what only its DEL can give back is noted before there is anything."""
        if not delegates:
            return await self._attacher.attach(wanted)
        await self._delegations.note(wanted.key, wanted.removal)
        try:
            return await self._attacher.attach(wanted)
        except AlreadyAttached:
            raise
        except BaseException:
            self._delegations.forget(wanted.key)
            raise

    async def _add_address(self, call: Call, wishes: Wishes) -> Mapping[str, Any]:
        allocated = await self._lender.lend(
            call.key, wishes.workload, wishes.subnets, wishes.requested, removal_of(call.request)
        )
        self.counters.adds += 1
        return ipam_result(
            allocated.addresses,
            wishes.gateways,
            wishes.routes or (),
            cni_version=call.config.cni_version,
            dns=wishes.dns,
        )

    async def _del(self, call: Call, plugin: IpamPlugin | None) -> None:
        try:
            await self._remove(call, plugin)
        except DomainError as error:
            # A DEL that fails keeps the pod for ever; what is owed is kept here and done later.
            try:
                await self._spool.keep(call.request)
            except OSError as disk:
                raise CniError(
                    Code.TRY_AGAIN, str(error), f"and the DEL cannot be kept: {disk.strerror}"
                ) from error
            log.warning("DEL kept for later: %s", error, extra={"attachment": str(call.key)})
        self.counters.dels += 1

    async def _remove(self, call: Call, plugin: IpamPlugin | None) -> None:
        if call.is_ipam:
            await self._ipam.release(call.key)
        else:
            await self._attacher.detach(call.key, call.netns, self._source(call, plugin))
            self._delegations.forget(call.key)

    async def _check(self, call: Call, plugin: IpamPlugin | None) -> None:
        previous = call.config.previous()
        if previous is None:
            raise CniError(Code.INVALID_CONFIG, "required prevResult missing")
        recorded = {address.host for address in (await self._ipam.lookup(call.key)).addresses}
        expected = addresses_in(previous)
        problems = []
        # Later plugins of a chain may have added addresses; ours must still be among them (S34).
        if not recorded:
            problems.append("no address is recorded")
        elif not recorded <= expected:
            names = ", ".join(sorted(map(str, recorded - expected)))
            problems.append(f"address: recorded {names}, which prevResult does not have")
        if not call.is_ipam:
            problems += await self._differences(call)
        if problems:
            raise CniError(
                Code.CHECK_FAILED, f"{call.key} is not as it should be", "; ".join(problems)
            )
        if plugin:
            await plugin.run(Command.CHECK)

    async def _differences(self, call: Call) -> list[str]:
        try:
            return await self._router.check(call.key, call.netns)
        except Absent as error:
            return [f"interface: {error}"]

    async def _gc(self, call: Call, plugin: IpamPlugin | None) -> None:
        valid = call.config.valid_attachments()
        if valid is None:
            raise CniError(
                Code.INVALID_CONFIG, "cni.dev/valid-attachments missing: nothing removed"
            )
        failures = await self._collector.collect(call.config.name, valid)
        if plugin:
            try:
                await plugin.run(Command.GC)
            except CniError as error:
                failures.append(error.message)
        if failures:
            raise CniError(Code.GC_INCOMPLETE, "not all was removed", "; ".join(failures))

    async def _status(self, _call: Call, plugin: IpamPlugin | None) -> None:
        reasons = await self._readiness.reasons()
        if reasons:
            self._readiness.doubt()
            code = Code.LIMITED_CONNECTIVITY if self._router.is_impaired else Code.NOT_AVAILABLE
            raise CniError(code, "an ADD would fail now", "; ".join(reasons))
        if plugin:
            await plugin.run(Command.STATUS)

    async def _version(self, call: Call, _plugin: IpamPlugin | None) -> Mapping[str, Any]:
        return {
            "cniVersion": call.config.cni_version,
            "supportedVersions": list(SUPPORTED),
        }

    def _source(
        self,
        call: Call,
        plugin: IpamPlugin | None,
        subnets: Sequence[Prefix] = (),
        requested: Sequence[Prefix] = (),
    ) -> AddressSource:
        if plugin:
            return PluginAddresses(self._ipam, plugin, call.config.ipam_type)
        return OwnAddresses(self._ipam, subnets, requested)

    def _failed(self, request: Request, error: CniError, stderr: bytes) -> Answer:
        self.counters.failures += 1
        if error.code is Code.TRY_AGAIN:
            self._readiness.doubt()
        # A kubelet asks for STATUS every 5 s; Readiness has logged the reason once.
        level = logging.DEBUG if error.code in _STATUS_CODES else logging.WARNING
        log.log(
            level,
            "CNI call failed: %s",
            error.message,
            extra={**_fields(request), "code": int(error.code), "details": error.details},
        )
        return Answer(1, error.to_json(version_in(request.stdin)), stderr)


def _refuse_own_netns(call: Call) -> None:
    try:
        is_own = os.path.samestat(Path(call.netns).stat(), _OWN_NETNS.stat())
    except (OSError, ValueError):
        return  # the router, who can see the namespaces of the host, says what is wrong
    if is_own and not call.may_use_own_netns:
        raise CniError(
            Code.INVALID_NETNS, f"CNI_NETNS {call.netns} is the plugin's own network namespace"
        )


def _fields(request: Request) -> dict[str, str]:
    names = ("CNI_COMMAND", "CNI_CONTAINERID", "CNI_IFNAME")
    return {name.lower(): request.environ[name] for name in names if name in request.environ}
