"""The router as one object: start with what the kernel holds, then follow the facts."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor

from weave_model.attachment import AttachmentKey
from weave_model.prefix import Prefix
from weave_router.attacher import Attacher
from weave_router.config import Config, Drift
from weave_router.core import ports, sandbox, switches
from weave_router.core.adoption import Witness, confirmed, rebuild
from weave_router.core.overlap import overlaps
from weave_router.core.path_adoption import adopt
from weave_router.core.sandbox import Difference
from weave_router.core.state import KernelState, Link, Route
from weave_router.drift import DriftNotes
from weave_router.errors import RangeOverlap
from weave_router.kernel.api import Concern, Kernel, PodFound
from weave_router.locks import NamedLocks
from weave_router.node import Node
from weave_router.reconciler import Reconciler
from weave_router.records import NodeFacts, Records
from weave_router.sandbox_guard import SandboxGuard
from weave_router.settled import Settled
from weave_router.sweeper import Sweeper

# Attaches side by side: the kernel works on links one by one anyway.
_ATTACH_THREADS = 4
# What the kernel tells of one change comes within less.
EVENTS_SETTLE_S = 0.05
# Many attaches one after the other cost one comparison in this time, not one each.
PORT_SETTLE_S = 0.5

log = logging.getLogger(__name__)


class Router:
    """Wires node, reconciler and attacher together. Belongs to one event loop."""

    def __init__(self, config: Config, kernel: Kernel, records: Records) -> None:
        self.node = Node(
            ranges=config.ipalloc_range,
            mtu_option=config.mtu,
            no_masq_local=config.no_masq_local,
            direct=config.direct,
            on_change=self._on_change,
        )
        self._kernel = kernel
        self._records = records
        self._facts = NodeFacts()
        # What stood in the kernel at the start; empty as soon as the paths in it are adopted.
        self._found_routes: frozenset[Route] = frozenset()
        self.on_facts: Callable[[], None] = lambda: None
        # One for reconciling, so that a long round never holds up an attach.
        self._reconcile_thread = ThreadPoolExecutor(1, thread_name_prefix="reconcile")
        self._attach_threads = ThreadPoolExecutor(_ATTACH_THREADS, thread_name_prefix="attach")
        locks = NamedLocks()
        self.notes = DriftNotes()
        repairs_drift = config.drift is Drift.REPAIR
        resync_interval_s = config.resync_interval.total_seconds()
        self.reconciler = Reconciler(
            self.node,
            kernel,
            self._reconcile_thread,
            locks,
            self.notes,
            repairs_drift=repairs_drift,
            resync_interval_s=resync_interval_s,
        )
        self.sweeper = Sweeper(kernel)
        self.attacher = Attacher(
            self.node, kernel, self._attach_threads, locks, records, self.sweeper
        )
        self.sandboxes = SandboxGuard(
            self.node,
            kernel,
            self._attach_threads,
            self.attacher,
            self.notes,
            repairs_drift=repairs_drift,
            resync_interval_s=resync_interval_s,
        )
        self.attacher.on_attached = self.sandboxes.watch
        self.attacher.on_detached = self.sandboxes.release
        self._sources: list[Settled] = []
        self._later: asyncio.TimerHandle | None = None
        self._uplinks_wanted = asyncio.Event()

    async def start(self) -> None:
        """Checks the range, takes over what store and kernel hold. Changes nothing in the kernel.

        Raises RangeOverlap.
        """
        await self._check_overlap()
        records, facts = await self._records.load()
        loop = asyncio.get_running_loop()
        found = await loop.run_in_executor(self._reconcile_thread, self._kernel.found, ())
        for record in records:
            self.node.attachments.adopt(confirmed(record, found))
        known = {record.link for record in records}
        pods = await loop.run_in_executor(self._reconcile_thread, self._kernel.pods)
        self._adopt_from_kernel([pod for pod in pods if pod.link.name not in known], found)
        self._facts = facts
        self._found_routes = found.routes
        self.node.inherits = bool(found.routes)
        self.node.name, self.node.underlay = facts.name, facts.underlay
        self.node.overlay = facts.overlay or None
        self.node.exposed = not facts.hidden
        await self.find_uplinks()

    async def watch_kernel(self) -> None:
        """Begins to listen to what happens in the kernel; from now on drift is noticed at once."""
        self._sources = [
            Settled(source, EVENTS_SETTLE_S, self._on_event, reads_on=True)
            for source in self._kernel.events(self._expected_link)
        ]
        for record in self.node.attachments:
            await self.sandboxes.watch(record)

    async def close(self) -> None:
        """Ends the work under way; the kernel keeps everything."""
        await self.attacher.close()
        self._stop_watching()
        await self._records.written()
        await self.sweeper.close()
        self._attach_threads.shutdown()
        self._reconcile_thread.shutdown()

    async def follow_uplinks(self) -> None:
        """Looks again at the underlay's devices whenever the underlay's addresses may have
        changed."""
        while True:
            await self._uplinks_wanted.wait()
            self._uplinks_wanted.clear()
            if await self.find_uplinks():
                self.on_facts()
                self.reconciler.request()

    async def find_uplinks(self) -> bool:
        """Finds the devices of the underlay addresses; True: others than before, or another MTU."""
        addresses = self.node.underlay
        uplinks = await asyncio.get_running_loop().run_in_executor(
            self._reconcile_thread, self._kernel.uplinks, addresses
        )
        changed = tuple(uplinks) != self.node.uplinks
        self.node.uplinks = tuple(uplinks)
        return changed

    async def expose(self, *, exposed: bool) -> Sequence[Prefix]:
        """Gives or takes host access; returns the node's overlay addresses."""
        self.node.exposed = exposed
        self._keep_facts()
        await self.reconciler.settled()
        return self.node.overlay or ()

    async def reset(self) -> list[str]:
        """Removes all from the kernel and goes idle; the host's switches that stay are returned."""
        left: list[str] = []
        loop = asyncio.get_running_loop()
        if not self.node.lacks():
            options = self.node.options()
            paths = switches.paths(options)
            found = await loop.run_in_executor(self._reconcile_thread, self._kernel.found, paths)
            left = switches.left_behind(options, found)
        self.node.idle = True
        self.on_facts()
        await self.attacher.close()
        self._stop_watching()
        left += await loop.run_in_executor(self._reconcile_thread, self._kernel.reset)
        keys = []
        for record in self.node.attachments:
            keys.append(record.key)
            self.sweeper.release(record.attachment.addresses)
        for key in keys:
            self.node.attachments.forget(key)
        self._records.drop_all(keys)
        return left

    async def check(self, key: AttachmentKey, netns_path: str) -> list[Difference]:
        """Compares one attachment with what it should be. Raises Absent."""
        inside = await self.attacher.check(key, netns_path)
        record = self.node.attachments.get(key)
        return inside + (await self.reconciler.host_differences(record) if record else [])

    async def existing_links(self, links: Iterable[str]) -> set[str]:
        """Which of these devices exist."""
        names = list(links)
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(
            self._attach_threads, lambda: {n for n in names if self._kernel.has_link(n)}
        )

    def not_ready(self) -> str:
        """Why Prepare would fail; empty when it would succeed."""
        return self.node.not_ready()

    async def _check_overlap(self) -> None:
        loop = asyncio.get_running_loop()
        found = await loop.run_in_executor(self._reconcile_thread, self._kernel.foreign_routes)
        pairs = overlaps(self.node.ranges, (route.destination for route in found))
        if pairs:
            universe, route = pairs[0]
            raise RangeOverlap(f"Network {universe} overlaps with existing route {route} on host")

    def _adopt_from_kernel(self, pods: Iterable[PodFound], found: KernelState) -> None:
        for pod in pods:
            witness = Witness(
                pod.link, pod.netns_path, pod.found.mtu, sandbox.by_gateway(pod.found.routes)
            )
            record = rebuild(witness, found)
            if record is not None:
                log.info("adopted from the kernel", extra={"key": str(record.key)})
                self.node.attachments.adopt(record)
                self._records.put(record)

    def _expected_link(self, name: str) -> Link | None:
        record = self.node.attachments.of_link(name)
        if record is not None:
            return ports.link(ports.port(record))
        return self.reconciler.desired_link(name)

    def _on_event(self, concern: Concern) -> None:
        if Concern.UPLINKS in concern:
            self._uplinks_wanted.set()
        if Concern.STATE in concern:
            self.reconciler.request()
        if Concern.PORT in concern and self._later is None:
            loop = asyncio.get_running_loop()
            self._later = loop.call_later(PORT_SETTLE_S, self._look_again)

    def _look_again(self) -> None:
        self._later = None
        # All are asked: each forgets what it has told of.
        doubts = [source.is_in_doubt() for source in self._sources]
        if any(doubts):
            self.reconciler.request()

    def _stop_watching(self) -> None:
        for source in self._sources:
            source.close()
        self._sources = []
        if self._later is not None:
            self._later.cancel()
        self.sandboxes.close()

    def _on_change(self) -> None:
        self._adopt_paths()
        self.on_facts()
        self._uplinks_wanted.set()
        self._keep_facts()
        self.reconciler.request()

    def _adopt_paths(self) -> None:
        """A relay in use stays in use until probes say otherwise."""
        node = self.node
        if self._found_routes and node.name and node.peers is not None and node.rings is not None:
            found, self._found_routes = self._found_routes, frozenset()
            node.paths = adopt(node.name, found, node.peers, node.rings) | dict(node.paths)

    def _keep_facts(self) -> None:
        node = self.node
        facts = NodeFacts(node.name, node.underlay, node.overlay or (), not node.exposed)
        if facts != self._facts:
            self._facts = facts
            self._records.put_facts(facts)
