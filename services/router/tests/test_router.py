"""The router as one object over a played kernel: attach, reconcile, drift, restart, reset."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import logging
import queue
import threading
from collections.abc import AsyncIterator, Collection, Sequence
from dataclasses import dataclass, field, replace

import pytest

from services.router.tests.worlds import NAMES, SELF, V4
from weave_model.attachment import AttachmentKey, ContainerId
from weave_model.errors import Absent, Conflict, NotReady
from weave_model.prefix import Family, Prefix
from weave_model.ring import OwnedBlock, RingView
from weave_router import sandbox_guard
from weave_router.config import Config, Drift
from weave_router.core.attachments import Attachment, Phase
from weave_router.core.connections import Connection
from weave_router.core.diff import Add, Operation
from weave_router.core.inputs import Peer
from weave_router.core.sandbox import SandboxFound
from weave_router.core.state import Binding, Link, Route
from weave_router.errors import KernelRefused, RangeOverlap
from weave_router.kernel.api import Concern, Failed, HostRoute, Uplink
from weave_router.kernel.fake import FakeEvents, FakeKernel
from weave_router.path_status import path_statuses
from weave_router.records import Records
from weave_router.router import Router
from weave_runtime.store import Store
from weave_runtime.store.memory import MemoryBackend
from weave_runtime.store.protocol import Format

UNDERLAY = Prefix.parse("10.99.0.1")
OVERLAY = Prefix.parse("10.32.0.1")
POD = Prefix.parse("10.32.0.2")
SANDBOX = "/run/netns/a"
KEY = AttachmentKey("weave", ContainerId("c1"), "eth0")
WANTED = Attachment(KEY, (POD,), generation=7, netns_path=SANDBOX)


@dataclass
class World:
    """A kernel and a store that outlive routers."""

    kernel: FakeKernel
    backend: MemoryBackend

    @contextlib.asynccontextmanager
    async def router(
        self, *, drift: Drift = Drift.REPAIR, knows: bool = True
    ) -> AsyncIterator[Router]:
        """A router that runs; with `knows`, ipam and gossip have told it everything."""
        store = await Store.open(self.backend, Format())
        records = Records(store)
        router = Router(Config(ipalloc_range=(V4,), drift=drift), self.kernel, records)
        await router.start()
        await router.watch_kernel()
        work = [records.run(), router.reconciler.run(), router.follow_uplinks()]
        work += [router.sandboxes.run(), router.sweeper.run()]
        tasks = [asyncio.create_task(each) for each in work]
        if knows:
            await self.tell(router)
        try:
            yield router
        finally:
            await router.close()
            for task in tasks:
                task.cancel()
            await asyncio.wait(tasks)

    async def tell(self, router: Router) -> None:
        """What ipam and gossip tell."""
        lower, upper = V4.halves()
        node = router.node
        node.name, node.underlay = SELF, (UNDERLAY,)
        node.overlay = (OVERLAY,)
        node.peers = (Peer(SELF, (UNDERLAY,)), Peer(NAMES[1], (Prefix.parse("10.99.0.2"),)))
        blocks = (OwnedBlock(lower, SELF), OwnedBlock(upper, NAMES[1]))
        node.rings = {Family.IPV4: RingView(V4, blocks)}
        await router.find_uplinks()
        node.on_change()
        await router.reconciler.settled()

    def routes(self) -> set[str]:
        """Destinations in the main table."""
        return {str(r.destination) for r in self.kernel.found(()).routes if r.table == 254}

    def bindings(self) -> list[Binding]:
        """All open ports."""
        elements = self.kernel.sets.get("bindings4", frozenset())
        return [element for element in elements if isinstance(element, Binding)]


@dataclass
class SlowTracking(FakeKernel):
    """Connection tracking is read until a test lets it end."""

    is_reading: threading.Event = field(default_factory=threading.Event)
    may_end: threading.Event = field(default_factory=threading.Event)

    def remove_connections(self, addresses: Collection[Prefix]) -> int:
        self.is_reading.set()
        assert self.may_end.wait(5)
        return super().remove_connections(addresses)


@pytest.fixture
def world() -> World:
    kernel = FakeKernel(sandboxes={SANDBOX: {}}, host_uplinks=[Uplink(UNDERLAY, "eth0", 1500)])
    return World(kernel, MemoryBackend())


async def attach(router: Router, wanted: Attachment = WANTED) -> None:
    await router.attacher.prepare(wanted)
    await router.attacher.activate(wanted.key, wanted.generation)


async def sandbox_source(world: World) -> FakeEvents:
    """What lets something happen in the sandbox, once the router listens to it."""
    while SANDBOX not in world.kernel.sandbox_sources:  # noqa: ASYNC110 - opened in a thread
        await asyncio.sleep(0.01)
    await asyncio.sleep(0)
    return world.kernel.sandbox_sources[SANDBOX]


async def test_nothing_is_attached_before_the_data_plane_stands(world: World) -> None:
    async with world.router(knows=False) as router:
        with pytest.raises(NotReady, match="name of this peer"):
            await router.attacher.prepare(WANTED)
        assert world.kernel.applied == []

        router.node.name = SELF
        assert "no underlay address" in router.not_ready()
        router.node.underlay = (Prefix.parse("10.99.0.7"),)
        assert "no device has an underlay address" in router.not_ready()
        await world.tell(router)
        assert router.not_ready() == ""


async def test_ready_means_that_the_routes_to_the_others_are_in_the_kernel(world: World) -> None:
    lower, upper = V4.halves()
    async with world.router(knows=False) as router:
        node = router.node
        node.name, node.underlay = SELF, (UNDERLAY,)
        await router.find_uplinks()
        await router.reconciler.settled()
        assert "overlay address" in router.not_ready()

        node.overlay = (OVERLAY,)
        await router.reconciler.settled()
        assert "peers" in router.not_ready()

        node.learn_peers([Peer(SELF, (UNDERLAY,)), Peer(NAMES[1], (Prefix.parse("10.99.0.2"),))])
        await router.reconciler.settled()
        assert "ring" in router.not_ready()

        blocks = (OwnedBlock(lower, SELF), OwnedBlock(upper, NAMES[1]))
        node.learn_rings({Family.IPV4: RingView(V4, blocks)})
        assert "being set up" in router.not_ready()
        await router.reconciler.settled()
        assert router.not_ready() == ""
        assert str(upper) in world.routes()


async def test_a_port_opens_by_activate_and_closes_by_detach(world: World) -> None:
    async with world.router() as router:
        await router.attacher.prepare(WANTED)
        assert world.bindings() == []
        assert str(POD) not in world.routes()

        await router.attacher.activate(KEY, 7)
        assert [b.address for b in world.bindings()] == [POD]
        assert str(POD) in world.routes()

        assert await router.attacher.detach(KEY) is True
        assert await router.attacher.detach(KEY) is False
        assert world.bindings() == []
        assert str(POD) not in world.routes()
        assert world.kernel.sandboxes[SANDBOX] == {}


async def test_a_port_opens_with_its_interface_where_that_is_asked_for(world: World) -> None:
    async with world.router() as router:
        record = await router.attacher.prepare(WANTED, opens=True)

        assert record.phase is Phase.ACTIVE
        assert [b.address for b in world.bindings()] == [POD]
        assert str(POD) in world.routes()
        assert (await router.attacher.prepare(WANTED, opens=True)).phase is Phase.ACTIVE

    async with world.router() as restarted:
        kept = restarted.node.attachments.get(KEY)
        assert kept is not None
        assert kept.phase is Phase.ACTIVE


async def test_a_prepared_port_may_be_opened_by_an_equal_prepare(world: World) -> None:
    async with world.router() as router:
        await router.attacher.prepare(WANTED)

        assert (await router.attacher.prepare(WANTED, opens=True)).phase is Phase.ACTIVE
        assert [b.address for b in world.bindings()] == [POD]


async def test_an_interface_whose_port_cannot_open_does_not_stay(world: World) -> None:
    async with world.router() as router:
        before = dict(world.kernel.objects)
        world.kernel.refuses = _refuse_pod_route
        with pytest.raises(KernelRefused, match="cannot open the port"):
            await router.attacher.prepare(WANTED, opens=True)

        assert world.kernel.objects == before
        assert world.kernel.sandboxes[SANDBOX] == {}
        assert len(router.node.attachments) == 0


async def test_an_opening_that_breaks_off_leaves_nothing(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    apply_to_pod = world.kernel.apply_to_pod

    def breaks_off(operations: Sequence[Operation]) -> list[Failed]:
        apply_to_pod(operations)
        monkeypatch.setattr(world.kernel, "apply_to_pod", apply_to_pod)
        raise OSError(105, "No buffer space available")

    async with world.router() as router:
        before = dict(world.kernel.objects)
        monkeypatch.setattr(world.kernel, "apply_to_pod", breaks_off)
        with pytest.raises(OSError, match="No buffer space"):
            await router.attacher.prepare(WANTED, opens=True)

        assert world.bindings() == []
        assert world.kernel.objects == before


async def test_a_port_does_not_open_for_a_caller_who_has_left(world: World) -> None:
    async with world.router() as router:
        before = dict(world.kernel.objects)
        call = asyncio.create_task(router.attacher.prepare(WANTED, opens=True))
        await asyncio.sleep(0)
        call.cancel()
        with pytest.raises(asyncio.CancelledError):
            await call
        await router.attacher.close()

        assert router.node.attachments.get(KEY) is None
        assert world.kernel.objects == before
        assert world.kernel.sandboxes[SANDBOX] == {}


async def test_who_asks_again_and_leaves_takes_nothing_from_a_pod_that_lives(world: World) -> None:
    async with world.router() as router:
        await attach(router)
        before = dict(world.kernel.objects)
        call = asyncio.create_task(router.attacher.prepare(WANTED, opens=True))
        await asyncio.sleep(0)
        call.cancel()
        with pytest.raises(asyncio.CancelledError):
            await call
        await router.attacher.close()

        assert world.kernel.objects == before
        assert [binding.address for binding in world.bindings()] == [POD]


async def test_a_detach_waits_for_an_attach_in_one_call(world: World) -> None:
    async with world.router() as router:
        call = asyncio.create_task(router.attacher.prepare(WANTED, opens=True))
        await asyncio.sleep(0)

        assert await router.attacher.detach(KEY)

        assert (await call).phase is Phase.ACTIVE
        assert world.bindings() == []
        assert len(router.node.attachments) == 0


async def test_an_equal_prepare_changes_nothing(world: World) -> None:
    async with world.router() as router:
        await attach(router)
        before = dict(world.kernel.objects)

        record = await router.attacher.prepare(replace(WANTED, generation=8))

        assert record.phase is Phase.ACTIVE
        assert world.kernel.objects == before


async def test_a_prepare_into_a_new_sandbox_of_the_same_name_starts_anew(world: World) -> None:
    async with world.router() as router:
        await attach(router)
        world.kernel.remove_sandbox(SANDBOX)
        world.kernel.sandboxes[SANDBOX] = {}

        record = await router.attacher.prepare(replace(WANTED, generation=8))

        assert record.phase is Phase.PREPARED
        assert "eth0" in world.kernel.sandboxes[SANDBOX]
        assert world.bindings() == []


async def test_the_address_of_a_dead_sandbox_may_be_given_anew(world: World) -> None:
    other = replace(WANTED, key=replace(KEY, container_id=ContainerId("c2")), netns_path="/b")
    world.kernel.sandboxes["/b"] = {}
    async with world.router() as router:
        await attach(router)
        with pytest.raises(Conflict, match="is attached to weave/c1/eth0"):
            await router.attacher.prepare(other)

        world.kernel.remove_sandbox(SANDBOX)
        await attach(router, other)

        assert [record.key for record in router.node.attachments] == [other.key]


async def test_a_detach_ends_the_connections_of_its_addresses(world: World) -> None:
    other = Prefix.parse("10.32.0.3")
    outside = Connection(POD, UNDERLAY, UNDERLAY, POD)
    of_another_pod = Connection(other, UNDERLAY, UNDERLAY, other)
    async with world.router() as router:
        await attach(router)
        world.kernel.connections |= {outside, of_another_pod}
        await router.attacher.detach(KEY)
        await router.sweeper.settled([POD])

        assert world.kernel.connections == {of_another_pod}


async def test_connections_that_the_rules_forbid_end(world: World) -> None:
    """Those to a host that becomes a peer, and those from while the rules were away."""
    peer, later = Prefix.parse("10.99.0.2"), Prefix.parse("10.99.0.3")
    to_peer, to_later = (
        Connection(POD, each, each, UNDERLAY, protocol=17, reply_source_port=6785)
        for each in (peer, later)
    )
    world.kernel.connections = {to_peer, to_later}
    async with world.router() as router:
        await router.reconciler.settled()
        assert world.kernel.connections == {to_later}

        router.node.learn_peers(
            [Peer(SELF, (UNDERLAY,)), Peer(NAMES[1], (peer,)), Peer(NAMES[2], (later,))]
        )
        router.reconciler.request()
        await router.reconciler.settled()
        assert world.kernel.connections == set()

        world.kernel.connections = {to_peer}
        world.kernel.ruleset = ""
        router.reconciler.request()
        await router.reconciler.settled()
        assert world.kernel.connections == set()


async def test_a_round_goes_on_where_nothing_is_tracked(
    world: World, caplog: pytest.LogCaptureFixture
) -> None:
    world.kernel.tracking_fails = "no access to connection tracking"
    async with world.router() as router:
        await router.reconciler.settled()

        assert not router.not_ready()
    assert "may stay that began before it was forbidden" in caplog.text


async def test_a_detach_does_not_wait_until_connections_are_ended(world: World) -> None:
    kernel = SlowTracking(sandboxes={SANDBOX: {}}, host_uplinks=world.kernel.host_uplinks)
    world.kernel = kernel
    async with world.router() as router:
        await attach(router)
        assert await router.attacher.detach(KEY)
        again = asyncio.create_task(attach(router))
        assert await asyncio.to_thread(kernel.is_reading.wait, 5)

        assert not again.done()
        assert world.bindings() == []

        kernel.may_end.set()
        await again
        assert [binding.address for binding in world.bindings()] == [POD]


async def test_a_refused_attach_leaves_nothing(world: World) -> None:
    async with world.router() as router:
        before = dict(world.kernel.objects)
        world.kernel.refuses = _refuse_links
        with pytest.raises(KernelRefused):
            await router.attacher.prepare(WANTED)

        assert world.kernel.objects == before
        assert len(router.node.attachments) == 0


async def test_a_refused_activate_closes_the_port_again(world: World) -> None:
    async with world.router() as router:
        await router.attacher.prepare(WANTED)
        world.kernel.refuses = _refuse_pod_route
        with pytest.raises(KernelRefused, match="cannot open the port"):
            await router.attacher.activate(KEY, 7)

        assert world.bindings() == []


async def test_work_goes_on_when_the_caller_vanishes(world: World) -> None:
    async with world.router() as router:
        call = asyncio.create_task(router.attacher.prepare(WANTED))
        await asyncio.sleep(0)
        call.cancel()
        with pytest.raises(asyncio.CancelledError):
            await call
        await router.attacher.close()

        record = router.node.attachments.get(KEY)
        assert record is not None
        assert record.phase is Phase.PREPARED
        assert await router.attacher.detach(KEY)


async def test_what_fails_after_the_caller_vanished_is_told_in_one_line(
    world: World, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    lost: list[dict[str, object]] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: lost.append(context))
    async with world.router() as router:
        world.kernel.refuses = _refuse_links
        call = asyncio.create_task(router.attacher.prepare(WANTED))
        await asyncio.sleep(0)
        call.cancel()
        await asyncio.wait({call})
        await router.attacher.close()
        gc.collect()

        (record,) = [r for r in caplog.records if r.msg.startswith("failed after")]
        assert record.levelno == logging.INFO
        assert record.exc_info is None
    assert lost == []


async def test_drift_of_the_node_is_repaired_and_told(world: World) -> None:
    async with world.router() as router:
        gone = next(o for o in world.kernel.objects.values() if str(o) == "route 10.40.0.0/13")
        del world.kernel.objects[Route, gone.key]

        await router.reconciler.settled()

        assert "10.40.0.0/13" in world.routes()
        assert router.notes.repairs == 1
        assert [entry.what for entry in router.notes.entries] == ["route 10.40.0.0/13 was missing"]


async def test_a_sandbox_that_ends_before_its_del_is_no_drift(world: World) -> None:
    async with world.router() as router:
        await attach(router)

        world.kernel.remove_sandbox(SANDBOX)
        await router.reconciler.settled()

        assert world.bindings() == []
        assert (router.notes.entries, router.notes.repairs) == ([], 0)


async def test_observed_drift_is_left_but_facts_are_followed(world: World) -> None:
    async with world.router(drift=Drift.OBSERVE) as router:
        gone = next(o for o in world.kernel.objects.values() if str(o) == "route 10.40.0.0/13")
        del world.kernel.objects[Route, gone.key]
        await router.reconciler.settled()
        (entry,) = router.notes.entries
        assert (entry.repaired, router.notes.repairs) == (False, 0)

        router.node.rings = {Family.IPV4: RingView(V4, (OwnedBlock(V4, NAMES[1]),))}
        await router.reconciler.settled()

        assert world.routes() == {"10.32.0.0/12"}


async def test_drift_inside_a_sandbox_is_repaired(world: World) -> None:
    async with world.router() as router:
        await attach(router)
        source = await sandbox_source(world)
        sandbox = world.kernel.sandboxes[SANDBOX]
        sandbox["eth0"] = replace(sandbox["eth0"], mtu=1300)
        source.happen()

        async with asyncio.timeout(5):
            while not router.notes.repairs:  # noqa: ASYNC110 - it is the loop's own time
                await asyncio.sleep(0.01)

        assert sandbox["eth0"].mtu == 1450
        expected = "weave/c1/eth0: mtu is 1300 instead of 1450"
        assert [entry.what for entry in router.notes.entries] == [expected]


async def test_a_sandbox_that_keeps_changing_waits_for_one_look(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sandbox_guard, "SETTLE_S", 0.0)
    looks: queue.Queue[threading.Event] = queue.Queue()
    inspect = world.kernel.inspect

    def slow_inspect(path: str, interface: str) -> SandboxFound | None:
        goes_on = threading.Event()
        looks.put(goes_on)
        goes_on.wait(10)
        return inspect(path, interface)

    async with world.router() as router:
        await attach(router)
        source = await sandbox_source(world)
        monkeypatch.setattr(world.kernel, "inspect", slow_inspect)
        source.happen()
        first = await asyncio.to_thread(looks.get, timeout=10)
        for _ in range(5):
            source.happen()
            await asyncio.sleep(0.01)
        first.set()
        (await asyncio.to_thread(looks.get, timeout=10)).set()
        await asyncio.sleep(0.05)

        assert looks.empty()


async def test_a_sandbox_in_which_much_happens_is_read_seldom(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sandbox_guard, "SETTLE_S", 0.05)
    async with world.router() as router:
        await attach(router)
        source = await sandbox_source(world)
        reads = 0
        read = source.read

        def counted() -> Concern:
            nonlocal reads
            reads += 1
            return read()

        monkeypatch.setattr(source, "read", counted)
        begin = asyncio.get_running_loop().time()
        for _ in range(100):
            source.happen()
            await asyncio.sleep(0)
        await asyncio.sleep(0.1)
        elapsed = asyncio.get_running_loop().time() - begin

        assert 1 <= reads <= elapsed / 0.05 + 1


async def test_check_lists_differences_and_changes_nothing(world: World) -> None:
    async with world.router(drift=Drift.OBSERVE) as router:
        with pytest.raises(Absent):
            await router.check(KEY, "")
        await attach(router)
        assert await router.check(KEY, "") == []

        sandbox = world.kernel.sandboxes[SANDBOX]
        sandbox["eth0"] = replace(sandbox["eth0"], up=False)

        assert [d.kind for d in await router.check(KEY, SANDBOX)] == ["link"]
        assert not sandbox["eth0"].up


@pytest.mark.parametrize("loses_state", [False, True])
async def test_a_restart_changes_nothing(world: World, *, loses_state: bool) -> None:
    async with world.router() as router:
        await attach(router)
        await router.reconciler.settled()
    before = dict(world.kernel.objects)
    world.kernel.applied.clear()
    if loses_state:
        world.backend = MemoryBackend()

    async with world.router() as router:
        record = router.node.attachments.get(KEY)
        assert record is not None
        assert (record.phase, record.attachment.netns_path) == (Phase.ACTIVE, SANDBOX)
        assert [str(operation) for operation in world.kernel.applied] == []
    assert world.kernel.objects == before


async def test_a_crash_before_the_record_was_written_closes_no_port(world: World) -> None:
    async with world.router() as router:
        await router.attacher.prepare(WANTED)
        while not any(key.startswith("attachment/") for key in world.backend.entries):  # noqa: ASYNC110
            await asyncio.sleep(0)
        written = dict(world.backend.entries)
        await router.attacher.activate(KEY, 7)
    world.backend = MemoryBackend(written)

    async with world.router() as router:
        record = router.node.attachments.get(KEY)
        assert record is not None
        assert record.phase is Phase.ACTIVE
        assert [b.address for b in world.bindings()] == [POD]
        assert str(POD) in world.routes()


async def test_that_a_port_is_open_is_kept_before_the_answer(world: World) -> None:
    async with world.router() as router:
        await attach(router)
        taken = await Records(await Store.open(world.backend, Format())).load()

    assert [record.phase for record in taken[0]] == [Phase.ACTIVE]


async def test_a_restart_without_ipam_and_gossip_still_attaches(world: World) -> None:
    async with world.router() as router:
        await router.reconciler.settled()
    before = world.routes()

    async with world.router(knows=False) as router:
        await router.reconciler.settled()
        assert world.routes() == before
        assert router.not_ready() == ""

        await attach(router)
        assert world.routes() == before | {str(POD)}


async def test_hiding_survives_a_restart(world: World) -> None:
    async with world.router() as router:
        assert list(await router.expose(exposed=False)) == [OVERLAY]
    async with world.router() as router:
        assert not router.node.exposed
        await router.expose(exposed=True)
        assert router.node.exposed


async def test_reset_leaves_nothing_and_idles(world: World) -> None:
    async with world.router() as router:
        await attach(router)
        world.kernel.connections = {Connection(POD, UNDERLAY, UNDERLAY, POD)}

        left = await router.reset()

        assert left == ["net.ipv4.ip_forward=1"]
        assert world.kernel.found(()).links == frozenset()
        assert "restart the router" in router.not_ready()
        assert path_statuses(router.node) == []
        await router.reconciler.settled()
        assert world.kernel.found(()).links == frozenset()
    assert world.kernel.connections == set()


async def test_what_the_kernel_refuses_is_tried_again(world: World) -> None:
    refused: list[Operation] = []

    def refuse_once(operation: Operation) -> str:
        if isinstance(operation, Add) and isinstance(operation.what, Link) and not refused:
            refused.append(operation)
            return "Operation not permitted"
        return ""

    world.kernel.refuses = refuse_once
    async with world.router() as router:
        async with asyncio.timeout(5):
            while router.not_ready():  # noqa: ASYNC110 - it is the loop's own time
                await asyncio.sleep(0.01)
    assert len(refused) == 1


async def test_paths_name_the_tunnel_end(world: World) -> None:
    async with world.router() as router:
        (status,) = path_statuses(router.node)

        assert (status.peer, status.mtu) == (NAMES[1], 1450)
        assert status.underlay == Prefix.parse("10.99.0.2")


async def test_a_range_that_overlaps_is_refused(world: World) -> None:
    world.kernel.host_routes.append(HostRoute(Prefix.parse("10.40.0.0/16"), "eth0"))
    words = r"Network 10\.32\.0\.0/12 overlaps with existing route 10\.40\.0\.0/16 on host"

    with pytest.raises(RangeOverlap, match=words):
        async with world.router():
            pass


def _refuse_links(operation: Operation) -> str:
    is_pod = isinstance(operation, Add) and isinstance(operation.what, Link)
    return "Operation not permitted" if is_pod else ""


def _refuse_pod_route(operation: Operation) -> str:
    is_route = isinstance(operation, Add) and isinstance(operation.what, Route)
    return "Operation not permitted" if is_route else ""
