"""The order of an attach, and that every way it can end badly leaves nothing behind."""

from __future__ import annotations

import asyncio
import contextlib
from dataclasses import dataclass, field, replace
from random import Random
from typing import Any

import pytest

from weave_cni_shim.addresses import OwnAddresses
from weave_cni_shim.attach import Attacher, Wanted
from weave_cni_shim.backends import NoNpc
from weave_cni_shim.core.call import removal
from weave_cni_shim.core.frame import Request
from weave_cni_shim.core.port import Port, PreparedPort
from weave_cni_shim.core.result import Attached
from weave_cni_shim.errors import AlreadyAttached, Superseded
from weave_cni_shim.testing.services import FakeIpam, FakeNpc, FakeRouter, Stage
from weave_model.attachment import AttachmentKey, ContainerId
from weave_model.errors import Aborted, Absent, DomainError, NotReady, TimedOut
from weave_model.prefix import Prefix

KEY = AttachmentKey("weave", ContainerId("c1"), "eth0")

STEPS = ("ipam.allocate", "router.prepare", "npc.admit", "router.activate")
UNDO = ["router.detach", "npc.retire", "ipam.release"]
POINTS = [f"{step}:{moment}" for step in STEPS for moment in ("before", "after")]


@dataclass
class World:
    """An attacher between fakes."""

    timeout_s: float = 30.0
    stage: Stage = field(default_factory=Stage)
    owed: list[Request] = field(default_factory=list)
    disk_full: bool = False
    has_npc: bool = True

    def __post_init__(self) -> None:
        self.ipam, self.router = FakeIpam(self.stage), FakeRouter(self.stage)
        self.npc = FakeNpc(self.stage)
        self.own = OwnAddresses(self.ipam)
        npc = self.npc if self.has_npc else NoNpc()
        self.attacher = Attacher(self.router, npc, timeout_s=self.timeout_s, owe=self._owe)

    async def _owe(self, request: Request) -> None:
        if self.disk_full:
            raise OSError(28, "No space left on device")
        self.owed.append(request)

    def wanted(self, key: AttachmentKey = KEY, **more: Any) -> Wanted:
        netns = f"/run/netns/{key.container_id}"
        return Wanted(
            **{"source": self.own, **more}, key=key, netns=netns, removal=removal(key, netns)
        )

    def start(self, key: AttachmentKey = KEY, **more: Any) -> asyncio.Task[Attached]:
        return asyncio.create_task(self.attacher.attach(self.wanted(key, **more)))

    async def detach(self, key: AttachmentKey = KEY, netns: str = "") -> None:
        await self.attacher.detach(key, netns, self.own)

    async def held_at(self, point: str) -> asyncio.Task[Attached]:
        """An ADD that waits at a point."""
        arrived = self.stage.hold(point)
        add = self.start()
        await arrived.wait()
        return add

    def assert_empty(self) -> None:
        assert self.ipam.held == {}
        assert self.router.ports == {}
        assert self.npc.admitted == set()
        assert not self.attacher.is_busy(KEY)

    def assert_attached(self) -> None:
        assert KEY in self.ipam.held
        assert self.router.ports[KEY].is_open
        assert KEY in self.npc.admitted


@pytest.fixture
def world() -> World:
    return World()


async def test_attach_goes_through_all_steps_in_order(world: World) -> None:
    attached = await world.start()

    assert tuple(world.stage.calls) == STEPS
    assert str(attached.addresses[0]) == "10.32.0.1/32"
    world.assert_attached()


async def test_the_port_carries_what_was_wanted_and_the_generation(world: World) -> None:
    await world.start(mtu=1400, mac=b"\x02\0\0\0\0\1")

    port = world.router.ports[KEY].port
    assert (port.netns, port.mtu, port.mac) == ("/run/netns/c1", 1400, b"\x02\0\0\0\0\1")
    assert port.generation == world.ipam.held[KEY].generation


async def test_where_nobody_has_a_say_the_port_opens_with_its_interface() -> None:
    world = World(has_npc=False)

    await world.start()

    assert world.stage.calls == ["ipam.allocate", "router.prepare"]
    assert world.router.ports[KEY].is_open


async def test_a_router_that_did_not_open_the_port_is_asked_to(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    world = World(has_npc=False)
    prepare = world.router.prepare
    monkeypatch.setattr(world.router, "prepare", lambda port, **_: prepare(port))

    await world.start()

    assert world.stage.calls == ["ipam.allocate", "router.prepare", "router.activate"]
    assert world.router.ports[KEY].is_open


@pytest.mark.parametrize("point", ["router.prepare:before", "router.prepare:after"])
async def test_an_attach_in_one_step_that_fails_is_undone(point: str) -> None:
    world = World(has_npc=False)
    world.stage.errors[point] = NotReady("away")

    with pytest.raises(NotReady, match="away"):
        await world.start()

    world.assert_empty()


@pytest.mark.parametrize("point", POINTS)
async def test_a_failed_step_undoes_all_before_it(world: World, point: str) -> None:
    """S22; after its effect too, since the answer of a step that was done may be lost."""
    world.stage.errors[point] = NotReady("away")

    with pytest.raises(NotReady, match="away"):
        await world.start()

    world.assert_empty()
    assert [call for call in world.stage.calls if call in UNDO] == UNDO
    assert world.owed == []


@pytest.mark.parametrize("point", POINTS)
async def test_a_cancelled_attach_undoes_what_it_did(world: World, point: str) -> None:
    add = await world.held_at(point)

    add.cancel()

    with pytest.raises(asyncio.CancelledError):
        await add
    world.assert_empty()
    assert world.owed == []


@pytest.mark.parametrize("point", POINTS)
async def test_an_attach_out_of_time_undoes_what_it_did(point: str) -> None:
    world = World(timeout_s=0.02)

    add = await world.held_at(point)

    with pytest.raises(TimedOut, match=r"not done within 0\.02 s"):
        await add
    world.assert_empty()


@pytest.mark.parametrize("point", POINTS)
async def test_del_during_add_ends_it_and_leaves_nothing(world: World, point: str) -> None:
    """S28: the client timed out and cleans up while its ADD is still running here."""
    add = await world.held_at(point)

    await world.detach()

    with pytest.raises(Superseded):
        await add
    world.assert_empty()


@pytest.mark.parametrize("undo_point", [f"{s}:{m}" for s in UNDO for m in ("before", "after")])
async def test_nothing_cuts_an_undo_short(world: World, undo_point: str) -> None:
    """Neither a second cancellation nor a DEL runs beside the undo."""
    world.stage.errors["router.activate:before"] = NotReady("away")
    undoing = world.stage.hold(undo_point)
    add = world.start()
    await undoing.wait()

    add.cancel()
    delete = asyncio.create_task(world.detach())
    for _ in range(5):
        await asyncio.sleep(0)
        add.cancel()
    assert not add.done()
    assert not delete.done()
    world.stage.release(undo_point)

    with pytest.raises(asyncio.CancelledError):
        await add
    await delete
    world.assert_empty()
    # The undo, whole, and then the DEL, whole.
    assert world.stage.calls[len(STEPS) :] == UNDO + UNDO


@pytest.mark.parametrize("failing", UNDO)
async def test_an_undo_that_fails_is_owed(world: World, failing: str) -> None:
    world.stage.errors["router.activate:before"] = NotReady("away")
    world.stage.errors[f"{failing}:before"] = NotReady("gone")

    with pytest.raises(NotReady, match="activation: away"):
        await world.start()

    assert world.owed == [removal(KEY, "/run/netns/c1")]


async def test_an_address_is_not_released_while_its_interface_may_live(world: World) -> None:
    await world.start()
    world.stage.errors["router.detach:before"] = NotReady("away")

    with pytest.raises(NotReady, match="interface: away"):
        await world.detach()

    assert KEY in world.ipam.held
    assert KEY in world.npc.admitted


async def test_an_undo_that_cannot_be_kept_is_logged(
    world: World, caplog: pytest.LogCaptureFixture
) -> None:
    world.disk_full = True
    world.stage.errors["router.activate:before"] = NotReady("away")
    world.stage.errors["router.detach:before"] = NotReady("gone")

    with pytest.raises(NotReady):
        await world.start()

    assert "No space left on device" in caplog.text


async def test_a_second_add_of_a_living_attachment_fails_and_does_no_harm(world: World) -> None:
    """S18."""
    await world.start()

    with pytest.raises(AlreadyAttached, match="weave/c1/eth0 is attached already"):
        await world.start()

    world.assert_attached()


@pytest.mark.parametrize("point", ["ipam.allocate:before", "ipam.allocate:after"])
async def test_a_second_add_that_fails_early_does_no_harm_either(world: World, point: str) -> None:
    await world.start()
    world.stage.errors[point] = NotReady("away")

    with pytest.raises(NotReady):
        await world.start()

    world.assert_attached()


async def test_a_second_add_does_no_harm_while_the_router_is_away(world: World) -> None:
    await world.start()
    world.stage.errors["router.attachments:before"] = NotReady("away")

    with pytest.raises(NotReady):
        await world.start()

    world.assert_attached()
    assert world.owed == []


async def test_an_add_takes_over_what_a_dead_one_left(world: World) -> None:
    """The daemon died between Prepare and Activate, and the runtime tries again."""
    await world.start()
    world.router.ports[KEY].is_open = False
    world.stage.calls.clear()

    await world.start()

    assert world.stage.calls == [
        *("ipam.allocate", "router.attachments", "router.detach"),
        *STEPS[1:],
    ]
    world.assert_attached()


async def test_an_add_takes_over_from_a_sandbox_that_is_gone(world: World) -> None:
    await world.start()
    world.router.ports[KEY].sandbox_exists = False

    await world.start()

    assert world.router.ports[KEY].sandbox_exists


async def test_detach_is_idempotent(world: World) -> None:
    await world.start()

    await world.detach(netns="/run/netns/c1")
    await world.detach()

    world.assert_empty()


async def test_detach_does_not_touch_another_holder_of_the_address(world: World) -> None:
    """S27."""
    await world.start()
    await world.detach()
    other = AttachmentKey("weave", ContainerId("c2"), "eth0")
    same = OwnAddresses(world.ipam, requested=[Prefix.parse("10.32.0.1")])
    await world.start(other, source=same)

    await world.detach()

    assert other in world.ipam.held
    assert world.router.ports[other].is_open


async def test_activation_of_a_port_that_vanished_is_worth_a_retry(world: World) -> None:
    world.stage.errors["router.activate:before"] = Absent("not prepared")

    with pytest.raises(Aborted):
        await world.start()


async def test_attachments_of_different_keys_run_side_by_side(world: World) -> None:
    first = await world.held_at("router.prepare:before")
    other = AttachmentKey("weave", ContainerId("c2"), "eth0")
    second = world.start(other)
    for _ in range(5):
        await asyncio.sleep(0)
    assert len(world.ipam.held) == 2

    world.stage.release("router.prepare:before")

    await asyncio.gather(first, second)
    assert len(world.router.ports) == 2


async def test_adds_of_one_key_never_run_side_by_side(world: World) -> None:
    first = await world.held_at("router.prepare:before")
    second = world.start()
    for _ in range(5):
        await asyncio.sleep(0)
    assert world.stage.calls.count("ipam.allocate") == 1

    world.stage.release("router.prepare:before")

    await first
    with pytest.raises(AlreadyAttached):
        await second


async def test_an_answer_that_makes_no_sense_is_undone(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    prepare = world.router.prepare

    async def without_gateways(port: Port, *, opens: bool) -> PreparedPort:
        return replace(await prepare(port, opens=opens), gateways=())

    monkeypatch.setattr(world.router, "prepare", without_gateways)

    with pytest.raises(DomainError, match="0 gateways"):
        await world.start()

    world.assert_empty()


@pytest.mark.parametrize("seed", range(5))
async def test_attaches_and_detaches_at_random_moments(seed: int) -> None:
    """Whatever the interleaving, in the end a key is wholly attached or wholly gone."""
    world = World(has_npc=bool(seed % 2))
    random = Random(seed)
    keys = [AttachmentKey("weave", ContainerId(f"c{n}"), "eth0") for n in range(20)]

    async def life(key: AttachmentKey) -> None:
        add = world.start(key)
        for _ in range(random.randrange(14)):
            await asyncio.sleep(0)
        if random.randrange(2):
            add.cancel()
        delete = asyncio.create_task(world.detach(key))
        with contextlib.suppress(asyncio.CancelledError, DomainError):
            await add
        await delete

    await asyncio.gather(*(life(random.choice(keys)) for _ in range(100)))

    world.assert_empty()
    assert world.stage.calls.count("ipam.allocate") > 50
