"""ipam, router and npc in memory, for tests of everything that calls them.

They keep the contracts of their protos and no more: a call that is cancelled after its effect
leaves the effect behind, as an RPC does whose answer is lost. Every operation passes two points,
`<name>:before` and `<name>:after` its effect, where a test may hold it or make it fail.
"""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Sequence
from dataclasses import dataclass, field

from weave_cni_shim.core.address import InterfaceAddress
from weave_cni_shim.core.port import Allocated, LiveAttachment, Port, PreparedPort
from weave_model.attachment import AttachmentKey, Route, Workload
from weave_model.errors import Aborted, Absent, Conflict, DomainError, Invalid
from weave_model.prefix import Family, Prefix

UNIVERSE = Prefix.parse("10.32.0.0/12")
GATEWAY = Prefix.parse("169.254.1.1")
HOST_MAC = bytes.fromhex("0a00a9fe0101")


class Stage:
    """What the fakes of one test share: the points they pass, and what happens there."""

    def __init__(self) -> None:
        # Every operation in the order of its beginning: "router.prepare".
        self.calls: list[str] = []
        self.errors: dict[str, DomainError] = {}
        self._held: dict[str, tuple[asyncio.Event, asyncio.Event]] = {}

    def hold(self, point: str) -> asyncio.Event:
        """Operations wait at the point until `release`; the event tells that one has arrived."""
        arrived = asyncio.Event()
        self._held[point] = arrived, asyncio.Event()
        return arrived

    def release(self, point: str) -> None:
        """Lets those go on that wait at the point, and all that come."""
        self._held.pop(point)[1].set()

    async def pass_point(self, name: str, moment: str) -> None:
        """Called by the fakes."""
        if moment == "before":
            self.calls.append(name)
        point = f"{name}:{moment}"
        if held := self._held.get(point):
            held[0].set()
            await held[1].wait()
        # A turn of the loop, as any call to another process takes.
        await asyncio.sleep(0)
        if error := self.errors.get(point):
            raise error


@dataclass
class FakeIpam:
    """Allocations of one node."""

    stage: Stage
    held: dict[AttachmentKey, Allocated] = field(default_factory=dict)
    not_ready: str = ""
    _numbers: itertools.count[int] = field(default_factory=lambda: itertools.count(1))

    async def allocate(
        self,
        key: AttachmentKey,
        workload: Workload,  # noqa: ARG002 - recorded by the real one
        subnets: Sequence[Prefix],
        requested: Sequence[Prefix],
        timeout_s: float,  # noqa: ARG002 - the test decides how long it takes
    ) -> Allocated:
        await self.stage.pass_point("ipam.allocate", "before")
        if known := self.held.get(key):
            given = Allocated(known.addresses, known.generation, existed=True)
        else:
            number = next(self._numbers)
            subnet = subnets[0] if subnets else UNIVERSE
            address = requested[0].address if requested else subnet.address + number
            if any(address == other.addresses[0].address for other in self.held.values()):
                raise Conflict(f"{requested[0]} is held by another attachment")
            addresses = (InterfaceAddress(Family.IPV4, address, subnet.length),)
            given = self.held[key] = Allocated(addresses, number)
        await self.stage.pass_point("ipam.allocate", "after")
        return given

    async def claim(
        self,
        key: AttachmentKey,
        workload: Workload,  # noqa: ARG002
        addresses: Sequence[Prefix],
        timeout_s: float,  # noqa: ARG002
    ) -> int:
        await self.stage.pass_point("ipam.claim", "before")
        for address in addresses:
            if not UNIVERSE.contains(address):
                raise Invalid(f"{address} is outside {UNIVERSE}")
        number = next(self._numbers)
        given = tuple(map(InterfaceAddress.alone, addresses))
        number = self.held.setdefault(key, Allocated(given, number)).generation
        await self.stage.pass_point("ipam.claim", "after")
        return number

    async def lookup(self, key: AttachmentKey) -> Allocated:
        await self.stage.pass_point("ipam.lookup", "before")
        return self.held.get(key, Allocated((), 0))

    async def release(self, key: AttachmentKey, generation: int = 0) -> tuple[Prefix, ...]:
        await self.stage.pass_point("ipam.release", "before")
        held = self.held.get(key)
        released: tuple[Prefix, ...] = ()
        if held and generation in (0, held.generation):
            del self.held[key]
            released = tuple(address.host for address in held.addresses)
        await self.stage.pass_point("ipam.release", "after")
        return released

    async def keys(self, network: str) -> list[AttachmentKey]:
        await self.stage.pass_point("ipam.keys", "before")
        return [key for key in self.held if network in ("", key.network)]

    async def why_not_ready(self) -> str:
        await self.stage.pass_point("ipam.why_not_ready", "before")
        return self.not_ready


@dataclass
class FakePort:
    """One interface in a sandbox."""

    port: Port
    is_open: bool = False
    sandbox_exists: bool = True
    differences: list[str] = field(default_factory=list)


@dataclass
class FakeRouter:
    """Interfaces of one node."""

    stage: Stage
    ports: dict[AttachmentKey, FakePort] = field(default_factory=dict)
    not_ready: str = ""
    is_impaired: bool = False

    async def prepare(self, port: Port, *, opens: bool = False) -> PreparedPort:
        await self.stage.pass_point("router.prepare", "before")
        known = self.ports.get(port.key)
        if known and known.port.addresses != port.addresses:
            raise Conflict(f"{port.key} is attached with other addresses")
        self.ports.setdefault(port.key, FakePort(port))
        self.ports[port.key].is_open |= opens
        await self.stage.pass_point("router.prepare", "after")
        return PreparedPort(
            host_interface=f"vethwepl{port.key.container_id[:7]}",
            host_mac=HOST_MAC,
            mac=port.mac or bytes.fromhex("0a580a200001"),
            mtu=port.mtu or 1450,
            routes=port.routes or (Route(Prefix.parse("0.0.0.0/0"), GATEWAY),),
            gateways=(GATEWAY,) * len(port.addresses),
            is_open=opens,
        )

    async def activate(self, key: AttachmentKey, generation: int) -> None:
        await self.stage.pass_point("router.activate", "before")
        if key not in self.ports:
            raise Absent(f"{key} is not prepared")
        if self.ports[key].port.generation != generation:
            raise Aborted(f"{key} was prepared anew")
        self.ports[key].is_open = True
        await self.stage.pass_point("router.activate", "after")

    async def detach(self, key: AttachmentKey, netns: str) -> None:  # noqa: ARG002
        await self.stage.pass_point("router.detach", "before")
        self.ports.pop(key, None)
        await self.stage.pass_point("router.detach", "after")

    async def check(self, key: AttachmentKey, netns: str) -> list[str]:  # noqa: ARG002
        await self.stage.pass_point("router.check", "before")
        if key not in self.ports:
            raise Absent(f"{key} is not attached")
        return self.ports[key].differences

    async def attachments(self, network: str) -> list[LiveAttachment]:
        await self.stage.pass_point("router.attachments", "before")
        return [
            LiveAttachment(key, sandbox_exists=item.sandbox_exists, is_open=item.is_open)
            for key, item in self.ports.items()
            if network in ("", key.network)
        ]

    async def why_not_ready(self) -> str:
        await self.stage.pass_point("router.why_not_ready", "before")
        return self.not_ready


@dataclass
class FakeNpc:
    """Attachments whose policy is in force."""

    stage: Stage
    admitted: set[AttachmentKey] = field(default_factory=set)
    has_a_say: bool = True

    async def admit(self, port: Port, host_interface: str) -> None:  # noqa: ARG002
        await self.stage.pass_point("npc.admit", "before")
        self.admitted.add(port.key)
        await self.stage.pass_point("npc.admit", "after")

    async def retire(self, key: AttachmentKey) -> None:
        await self.stage.pass_point("npc.retire", "before")
        self.admitted.discard(key)
        await self.stage.pass_point("npc.retire", "after")

    async def why_not_ready(self) -> str:
        await self.stage.pass_point("npc.why_not_ready", "before")
        return ""
