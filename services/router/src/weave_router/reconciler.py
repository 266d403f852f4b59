"""The level-triggered loop: found state, plan, difference, one batch.

Changes of the facts only wake it; what it does depends on facts and kernel alone. Objects of a
pod's port are touched under that port's lock, and not at all when an attach worked on it meanwhile.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterable
from concurrent.futures import Executor
from dataclasses import dataclass
from typing import TypeVar

from weave_model.prefix import Prefix
from weave_router.core import host_check, naming, plan, ruleset, sets, switches
from weave_router.core.attachments import Record
from weave_router.core.diff import LoadRuleset, Operation, UpdateSets, diff
from weave_router.core.drift import Baseline
from weave_router.core.inputs import Inputs
from weave_router.core.partition import partition
from weave_router.core.sandbox import Difference
from weave_router.core.state import KernelState, Link
from weave_router.drift import DriftNotes
from weave_router.errors import KernelRefused
from weave_router.kernel.api import Failed, Kernel
from weave_router.locks import NamedLocks
from weave_router.node import Node

# Bursts of changes (peers that arrive, blocks that split) are carried out together.
MIN_INTERVAL_S = 0.05
# After a failure; the kernel may refuse for a cause that lasts.
RETRY_INTERVAL_S = 1.0
# Of drift notes; sandboxes have scopes of their own.
_SCOPE = "node"

T = TypeVar("T")

log = logging.getLogger(__name__)


@dataclass(slots=True)
class Report:
    """What the loop has done."""

    rounds: int = 0
    failures: tuple[str, ...] = ()
    # Foreign chains that stop our traffic and cannot be helped.
    blocked_by: str = ""


class Reconciler:
    """Makes the kernel hold what it should. Belongs to one event loop."""

    def __init__(
        self,
        node: Node,
        kernel: Kernel,
        executor: Executor,
        locks: NamedLocks,
        notes: DriftNotes,
        *,
        repairs_drift: bool,
        resync_interval_s: float,
    ) -> None:
        self.report = Report()
        self._node = node
        self._kernel = kernel
        self._executor = executor
        self._locks = locks
        self._notes = notes
        self._repairs_drift = repairs_drift
        self._resync_interval_s = resync_interval_s
        self._wake = asyncio.Event()
        # Desired state and overlay addresses of the round before; None: this is the first.
        self._before: KernelState | None = None
        self._overlay: tuple[Prefix, ...] | None = None
        self._waiters: list[asyncio.Future[None]] = []

    def request(self) -> None:
        """Asks for a round soon. Idempotent; never blocks."""
        self._wake.set()

    def desired_link(self, name: str) -> Link | None:
        """What a device should be by the last plan."""
        links = self._before.links if self._before is not None else ()
        return next((link for link in links if link.name == name), None)

    async def settled(self) -> None:
        """Returns after a whole round that began after this call."""
        done = asyncio.get_running_loop().create_future()
        self._waiters.append(done)
        self.request()
        await done

    async def run(self) -> None:
        """Reconciles whenever asked and every now and then, for ever."""
        while True:
            failed = await self._round()
            self._report_failures(failed)
            await asyncio.sleep(MIN_INTERVAL_S)
            limit = RETRY_INTERVAL_S if failed else self._resync_interval_s
            try:
                async with asyncio.timeout(limit):
                    await self._wake.wait()
            except TimeoutError:
                pass

    async def _round(self) -> list[Failed]:
        self._wake.clear()
        waiters, self._waiters = self._waiters, []
        try:
            failed = await self._reconcile() if not self._node.lacks() else []
        except Exception as error:
            for waiter in waiters:
                if not waiter.done():
                    waiter.set_exception(error)
            raise
        for waiter in waiters:
            if not waiter.done():
                waiter.set_result(None)
        return failed

    async def _reconcile(self) -> list[Failed]:
        inputs, is_whole = self._node.inputs(), not self._node.awaits()
        moment = self._locks.now
        found, desired, operations, impassable = await self._in_thread(
            lambda: self._compare(inputs)
        )
        self._report_blocked(", ".join(impassable))
        shared, by_port = partition(operations)
        by_port = self._settled_ports(by_port, moment)
        drifted = self._drifted(shared, by_port, inputs, found)
        if not self._repairs_drift:
            seen = set(map(id, drifted))
            shared = [operation for operation in shared if id(operation) not in seen]
            by_port = {link: [o for o in ops if id(o) not in seen] for link, ops in by_port.items()}
        failed = await self._in_thread(lambda: self._kernel.apply(shared))
        if any(map(_forbids_more, shared)):
            await self._in_thread(lambda: self._end_forbidden(inputs, desired))
        for link, of_port in by_port.items():
            if of_port:
                failed += await self._apply_to_port(link, of_port, moment)
        self._before, self._overlay = desired, inputs.overlay
        self._note_drift(drifted, failed)
        self._node.stands = self._node.stands or (is_whole and not failed)
        self._locks.forget_epochs(moment)
        self.report.rounds += 1
        return failed

    async def host_differences(self, record: Record) -> list[Difference]:
        """What others have changed of an attachment outside its sandbox; changes nothing.

        What is shared by all attachments counts. What only follows from facts that have changed
        since the last round does not.
        """
        if self._node.lacks() or self._before is None:
            return []
        inputs, baseline = self._node.inputs(), Baseline(self._before)
        found, _, operations, _ = await self._in_thread(lambda: self._compare(inputs))
        if all(link.name != record.link for link in found.links):
            return [host_check.missing_link(record.link)]
        shared, by_port = partition(operations)
        drifted = [operation for operation in shared if baseline.is_drift(operation)]
        return host_check.differences([*by_port.get(record.link, ()), *drifted])

    def _compare(
        self, inputs: Inputs
    ) -> tuple[KernelState, KernelState, list[Operation], list[str]]:
        """Found and desired state, what leads from one to the other, and what cannot be helped."""
        found = self._kernel.found(switches.paths(inputs.options))
        desired = plan.plan(inputs, found)
        return found, desired, diff(desired, found), plan.impassable(found)

    def _end_forbidden(self, inputs: Inputs, desired: KernelState) -> None:
        """The rules ask the first packet of a connection only, and said something else then."""
        peers = sets.peers(desired.sets)
        try:
            count = self._kernel.remove_forbidden_connections(inputs.options.universes, peers)
        except KernelRefused as error:
            log.warning(
                "connections to ports of the mesh may stay that began before it was forbidden",
                extra={"reason": str(error)},
            )
            return
        if count:
            log.info("ended connections that the rules forbid", extra={"connections": count})

    def _settled_ports(
        self, by_port: dict[str, list[Operation]], moment: int
    ) -> dict[str, list[Operation]]:
        """The ports that no attach has worked on since; what was found of the others is stale."""
        settled = {
            link: operations
            for link, operations in by_port.items()
            if not self._locks.has_changed(self._lock_name(link), moment)
        }
        if len(settled) < len(by_port):
            self.request()
        return settled

    def _drifted(
        self,
        shared: list[Operation],
        by_port: dict[str, list[Operation]],
        inputs: Inputs,
        found: KernelState,
    ) -> list[Operation]:
        if self._before is None:
            return []
        baseline = Baseline(self._before)
        drifted = [operation for operation in shared if baseline.is_drift(operation)]
        if inputs.overlay == self._overlay:
            # Attaches write their kernel objects themselves: nothing else changes a port. But a
            # sandbox may end before its DEL, and the kernel keeps the bindings of its link.
            links = {link.name for link in found.links}
            drifted += [o for link, ops in by_port.items() if link in links for o in ops]
        return drifted

    async def _apply_to_port(
        self, link: str, operations: list[Operation], moment: int
    ) -> list[Failed]:
        name = self._lock_name(link)
        if self._locks.has_changed(name, moment):
            self.request()
            return []
        async with self._locks.holding(name):
            return await self._in_thread(lambda: self._kernel.apply(operations))

    def _lock_name(self, link: str) -> str:
        record = self._node.attachments.of_link(link)
        return naming.pod_link(record.key) if record is not None else link

    def _note_drift(self, drifted: Iterable[Operation], failed: Iterable[Failed]) -> None:
        refused = {id(item.operation) for item in failed}
        self._notes.note(
            _SCOPE,
            {str(o): self._repairs_drift and id(o) not in refused for o in drifted},
        )

    def _report_failures(self, failed: Iterable[Failed]) -> None:
        texts = tuple(f"{item.operation}: {item.reason}" for item in failed)
        if texts != self.report.failures:
            for text in texts:
                log.error("the kernel refused: %s", text)
        self.report.failures = texts

    def _report_blocked(self, chains: str) -> None:
        if chains and chains != self.report.blocked_by:
            log.warning(
                "chain %s drops what pods send; let it accept packets with mark %#x/%#x",
                chains,
                ruleset.MARK,
                ruleset.MARK,
            )
        self.report.blocked_by = chains

    async def _in_thread(self, work: Callable[[], T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._executor, work)


def _forbids_more(operation: Operation) -> bool:
    if isinstance(operation, UpdateSets):
        return bool(sets.peers(operation.added))
    return isinstance(operation, LoadRuleset)
