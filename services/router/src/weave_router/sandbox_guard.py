"""Keeps what is inside the sandboxes as it was made.

Each sandbox has a listener of its own, since the kernel tells events of a namespace to nobody
outside it without one more capability. A listener keeps its namespace alive, so whether the
sandbox's path still leads there is looked at often.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from concurrent.futures import Executor
from dataclasses import dataclass
from functools import partial
from typing import TypeVar

from weave_model.attachment import AttachmentKey
from weave_model.errors import DomainError
from weave_router.attacher import Attacher
from weave_router.core import sandbox
from weave_router.core.attachments import Phase, Record
from weave_router.drift import DriftNotes
from weave_router.kernel.api import Kernel
from weave_router.node import Node
from weave_router.settled import Settled
from weave_runtime.pulse import pulse

# A change of several steps is looked at once.
SETTLE_S = 0.2
# How long a sandbox that ended may live on because of our listener: a stat() for each.
PATHS_INTERVAL_S = 2.0

T = TypeVar("T")

log = logging.getLogger(__name__)


@dataclass(slots=True)
class _Watched:
    events: Settled
    path: str
    identity: tuple[int, int]


class SandboxGuard:
    """Watches the sandboxes of all attachments. Belongs to one event loop."""

    def __init__(
        self,
        node: Node,
        kernel: Kernel,
        executor: Executor,
        attacher: Attacher,
        notes: DriftNotes,
        *,
        repairs_drift: bool,
        resync_interval_s: float,
    ) -> None:
        self._node = node
        self._kernel = kernel
        self._executor = executor
        self._attacher = attacher
        self._notes = notes
        self._repairs_drift = repairs_drift
        self._resync_interval_s = resync_interval_s
        self._watched: dict[AttachmentKey, _Watched] = {}
        self._is_closed = False
        # In the order in which they were asked for; each once, however often its sandbox changes.
        self._due: dict[AttachmentKey, None] = {}
        self._has_due = asyncio.Event()

    async def watch(self, record: Record) -> None:
        """Begins to watch an attachment's sandbox. Idempotent; one that is gone is passed over."""
        path = record.attachment.netns_path
        identity = self._kernel.sandbox_identity(path)
        if identity is None or record.key in self._watched:
            return
        try:
            source = await self._in_thread(partial(self._kernel.sandbox_events, path))
        except DomainError:
            return
        is_gone = self._is_closed or self._node.attachments.get(record.key) is None
        if record.key in self._watched or is_gone:
            source.close()
            return
        events = Settled(source, SETTLE_S, lambda _: self._ask(record.key), reads_on=False)
        self._watched[record.key] = _Watched(events, path, identity)

    def release(self, key: AttachmentKey) -> None:
        """Stops watching. Idempotent."""
        watched = self._watched.pop(key, None)
        if watched is None:
            return
        watched.events.close()
        self._notes.forget(str(key))

    def close(self) -> None:
        """Stops watching everything, for good."""
        self._is_closed = True
        for key in list(self._watched):
            self.release(key)

    async def run(self) -> None:
        """Checks what has changed, for ever."""
        while True:
            await self._has_due.wait()
            self._has_due.clear()
            while self._due:
                key = next(iter(self._due))
                del self._due[key]
                record = self._node.attachments.get(key)
                if record is not None:
                    await self._check(record)

    async def follow_paths(self) -> None:
        """Lets go of sandboxes that have ended, checks all of them every now and then, for ever."""
        rounds = 0
        rounds_per_resync = max(1, round(self._resync_interval_s / PATHS_INTERVAL_S))
        while True:
            await pulse(PATHS_INTERVAL_S)
            rounds += 1
            for key, watched in list(self._watched.items()):
                if self._kernel.sandbox_identity(watched.path) != watched.identity:
                    self.release(key)
                elif rounds % rounds_per_resync == 0:
                    self._ask(key)

    def _ask(self, key: AttachmentKey) -> None:
        self._due[key] = None
        self._has_due.set()

    async def _check(self, record: Record) -> None:
        if record.phase is Phase.PREPARING or self._node.lacks():
            return
        wanted = sandbox.sandbox(record.attachment, record.mtu, record.routes)
        inspect = partial(self._kernel.inspect, record.attachment.netns_path, record.key.interface)
        differences = sandbox.differences(wanted, await self._in_thread(inspect))
        is_repaired = False
        if differences and self._repairs_drift:
            is_repaired = await self._repair(record)
        texts = {
            f"{record.key}: {d.kind} is {d.found} instead of {d.expected}": is_repaired
            for d in differences
        }
        if self._node.attachments.get(record.key) is not None:
            self._notes.note(str(record.key), texts)

    async def _repair(self, record: Record) -> bool:
        try:
            return await self._attacher.repair(record)
        except DomainError as error:
            log.warning("not repaired", extra={"key": str(record.key), "reason": str(error)})
            return False

    async def _in_thread(self, work: Callable[[], T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._executor, work)
