"""Prepare, Activate, Detach, Check: the two-phase attach of docs/adr/0003 carried out.

Work on one attachment is serialised by its lock; different ones run side by side. Work once begun
runs to its end even if the caller vanishes, so that kernel and records never disagree.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Coroutine
from concurrent.futures import Executor
from dataclasses import replace
from functools import partial
from typing import Any, TypeVar

from weave_model.attachment import AttachmentKey, Route
from weave_model.errors import Aborted, Absent, Conflict, DomainError
from weave_router.core import naming, ports, sandbox
from weave_router.core.attachments import Attachment, Phase, Record, check_addresses
from weave_router.core.diff import Operation
from weave_router.core.sandbox import Difference
from weave_router.errors import KernelRefused, NoDataPlane
from weave_router.kernel.api import Failed, Kernel, PodLink
from weave_router.locks import NamedLocks
from weave_router.node import Node
from weave_router.records import Records
from weave_router.sweeper import Sweeper

T = TypeVar("T")

# A change of the ring is here within milliseconds; a node that is very busy has two seconds.
RING_RETRY_S = 0.1
RING_TRIES = 20

log = logging.getLogger(__name__)


class Attacher:
    """Carries attaches out. Belongs to one event loop; the kernel's work is done in `executor`."""

    def __init__(
        self,
        node: Node,
        kernel: Kernel,
        executor: Executor,
        locks: NamedLocks,
        records: Records,
        sweeper: Sweeper,
    ) -> None:
        self._node = node
        self._kernel = kernel
        self._executor = executor
        self._locks = locks
        self._records = records
        self._sweeper = sweeper
        self._tasks: set[asyncio.Task[Any]] = set()
        # Work whose caller has left.
        self._unheard: set[asyncio.Task[Any]] = set()
        self.on_attached: Callable[[Record], Coroutine[Any, Any, None]] | None = None
        self.on_detached: Callable[[AttachmentKey], None] = lambda _: None

    async def prepare(self, wanted: Attachment, *, opens: bool = False) -> Record:
        """Makes the interface; `opens`: and opens its port. Errors: see Router.Prepare."""
        if reason := self._node.not_ready():
            raise NoDataPlane(reason)
        check_addresses(wanted, self._node.universes)
        return await self._to_its_end(self._attach(wanted) if opens else self._prepare(wanted))

    async def activate(self, key: AttachmentKey, generation: int) -> Record:
        """Opens the port. Errors: see Router.Activate."""
        return await self._to_its_end(self._activate(key, generation))

    async def detach(self, key: AttachmentKey) -> bool:
        """Closes the port and removes the interface; False: nothing was there."""
        return await self._to_its_end(self._detach(key))

    async def check(self, key: AttachmentKey, netns_path: str) -> list[Difference]:
        """All differences of a sandbox from what it should be; changes nothing. Raises Absent."""
        record = self._node.attachments.get(key)
        if record is None:
            raise Absent(f"{key} is not attached")
        path = netns_path or record.attachment.netns_path
        wanted = sandbox.sandbox(record.attachment, record.mtu, record.routes)
        found = await self._in_thread(lambda: self._kernel.inspect(path, key.interface))
        return sandbox.differences(wanted, found)

    async def repair(self, record: Record) -> bool:
        """Puts right what is inside a sandbox; an interface that is gone is made anew.

        False: the attachment changed meanwhile. Raises DomainError when it cannot be done.
        """
        return await self._to_its_end(self._repair(record))

    async def close(self) -> None:
        """Waits for the work under way."""
        if self._tasks:
            await asyncio.wait(self._tasks)

    async def _prepare(self, wanted: Attachment) -> Record:
        async with self._locks.holding(naming.pod_link(wanted.key)):
            record = await self._prepared(wanted)
            self._records.put(record)
            return record

    async def _attach(self, wanted: Attachment) -> Record:
        async with self._locks.holding(naming.pod_link(wanted.key)):
            record = await self._prepared(wanted)
            if record.phase is Phase.ACTIVE:
                return record
            try:
                if asyncio.current_task() in self._unheard:
                    raise Aborted(f"whoever asked for {wanted.key} has left")
                return await self._opened(record)
            except BaseException:
                # Whatever of it is open already.
                await self._remove(replace(record, phase=Phase.ACTIVE))
                raise

    async def _prepared(self, wanted: Attachment) -> Record:
        record = self._node.attachments.existing(wanted)
        if record is not None:
            if await self._still_stands(record, wanted):
                record = self._node.attachments.renew(record, wanted)
                self._records.put(record)
                return record
            await self._remove(record)
        await self._give_up_dead_holders(wanted)
        return await self._make(wanted)

    async def _make(self, wanted: Attachment) -> Record:
        node = self._node
        link = node.attachments.free_link_name(wanted.key)
        record = node.attachments.begin_prepare(wanted, link, node.mtu)
        pod = _pod_link(record, *self._wanted_routes(record))
        try:
            routes = await self._in_thread(lambda: self._kernel.attach(pod, wanted.netns_path))
        except BaseException:
            node.attachments.forget(wanted.key)
            raise
        return node.attachments.prepared(wanted.key, routes)

    async def _activate(self, key: AttachmentKey, generation: int) -> Record:
        async with self._locks.holding(naming.pod_link(key)):
            return await self._opened(self._node.attachments.to_activate(key, generation))

    async def _opened(self, record: Record) -> Record:
        if record.phase is Phase.ACTIVE:
            return record
        # An address that is given again at once: nothing of its new connections may go.
        await self._sweeper.settled(record.attachment.addresses)
        opened = replace(record, phase=Phase.ACTIVE)
        operations = ports.opening(ports.port(record), self._node.overlay or ())
        # Side by side: the disk takes about as long as the kernel.
        failed, _ = await asyncio.gather(self._open(operations), self._records.keep(opened))
        if failed:
            self._records.put(record)
            closing = ports.closing(ports.port(record))
            await self._in_thread(lambda: self._kernel.apply_to_pod(closing))
            raise KernelRefused(f"cannot open the port of {record.key}: {failed[0].reason}")
        record = self._node.attachments.activated(record)
        if self.on_attached is not None:
            self._spawn(self.on_attached(record))
        return record

    async def _open(self, operations: list[Operation]) -> list[Failed]:
        """Carries out what opens a port; gives what is refused to the end.

        ipam may give an address from a block it has just obtained. Where that block is this one
        address, the route to its former owner stands in the way until the ring comes here too.
        """
        failed = await self._in_thread(lambda: self._kernel.apply_to_pod(operations))
        for _ in range(RING_TRIES):
            if not failed:
                break
            await asyncio.sleep(RING_RETRY_S)
            again = [each.operation for each in failed]
            failed = await self._in_thread(partial(self._kernel.apply_to_pod, again))
        return failed

    async def _detach(self, key: AttachmentKey) -> bool:
        async with self._locks.holding(naming.pod_link(key)):
            record = self._node.attachments.get(key)
            if record is None:
                return False
            await self._remove(record)
            return True

    async def _repair(self, record: Record) -> bool:
        async with self._locks.holding(naming.pod_link(record.key)):
            if self._node.attachments.get(record.key) != record:
                return False
            path = record.attachment.netns_path
            pod = _pod_link(record, record.routes)
            if await self._in_thread(partial(self._kernel.has_link, record.link)):
                await self._in_thread(partial(self._kernel.repair, pod, path))
                return True
            await self._in_thread(partial(self._kernel.attach, pod, path))
            if record.phase is Phase.ACTIVE:
                operations = ports.opening(ports.port(record), self._node.overlay or ())
                await self._in_thread(partial(self._kernel.apply_to_pod, operations))
            return True

    async def _remove(self, record: Record) -> None:
        # First of all: whoever watches the sandbox keeps it alive.
        self.on_detached(record.key)
        closing = ports.closing(ports.port(record))

        def work() -> None:
            if record.phase is not Phase.PREPARED:
                # What is gone already cannot be closed; the link takes the rest with it.
                for failed in self._kernel.apply_to_pod(closing):
                    log.debug(
                        "not closed",
                        extra={"what": str(failed.operation), "reason": failed.reason},
                    )
            self._kernel.detach(record.link)

        await self._in_thread(work)
        # Not before the link is gone: the pod could make connections anew.
        self._sweeper.release(record.attachment.addresses)
        self._node.attachments.forget(record.key)
        self._records.drop(record.key)

    async def _still_stands(self, record: Record, wanted: Attachment) -> bool:
        """Is a repeated request fulfilled by what is in this very sandbox?"""
        expected = sandbox.sandbox(
            replace(wanted, mac=wanted.mac or record.attachment.mac), record.mtu, record.routes
        )
        found = await self._in_thread(
            lambda: self._kernel.inspect(wanted.netns_path, wanted.key.interface)
        )
        return not sandbox.differences(expected, found) and await self._in_thread(
            lambda: self._kernel.has_link(record.link)
        )

    async def _give_up_dead_holders(self, wanted: Attachment) -> None:
        """An address of a dead sandbox, whose DEL never came, may be given anew."""
        for address in wanted.addresses:
            holder = self._node.attachments.holder_of(address, wanted.key)
            if holder is None or holder.phase is Phase.PREPARING:
                continue
            if await self._in_thread(partial(self._kernel.has_link, holder.link)):
                raise Conflict(f"address {address} is attached to {holder.key}")
            log.info("forgot a dead attachment", extra={"key": str(holder.key)})
            await self._remove(holder)

    def _wanted_routes(self, record: Record) -> tuple[tuple[Route, ...], tuple[Route, ...]]:
        """Routes of a new sandbox end, and those in their place where default routes are taken."""
        attachment = record.attachment
        if attachment.no_routes:
            return (), ()
        universe = sandbox.universe_routes(attachment, self._node.universes)
        if attachment.routes:
            return sandbox.with_gateways(attachment.routes), ()
        if self._node.attachments.has_sibling(record.key):
            return universe, ()
        return sandbox.default_routes(attachment), universe

    async def _to_its_end(self, work: Coroutine[Any, Any, T]) -> T:
        task = self._spawn(work)
        try:
            return await asyncio.shield(task)
        except asyncio.CancelledError:
            self._unheard.add(task)
            task.add_done_callback(self._unheard.discard)
            task.add_done_callback(_tell_unheard)
            raise

    def _spawn(self, work: Coroutine[Any, Any, T]) -> asyncio.Task[T]:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    async def _in_thread(self, work: Callable[[], T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._executor, work)


def _tell_unheard(work: asyncio.Task[Any]) -> None:
    """An error that no caller waits for any more."""
    error = None if work.cancelled() else work.exception()
    if isinstance(error, DomainError):
        log.info("failed after its caller left: %s", error)
    elif error is not None:
        log.error("failed after its caller left", exc_info=error)


def _pod_link(
    record: Record, routes: tuple[Route, ...], fallback: tuple[Route, ...] = ()
) -> PodLink:
    port = ports.port(record)
    return PodLink(
        host=ports.link(port),
        neighbours=tuple(ports.neighbours(port)),
        sandbox=sandbox.sandbox(record.attachment, record.mtu, routes),
        fallback_routes=fallback,
    )
