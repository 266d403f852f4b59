"""A cluster of allocators in virtual time. Everything follows from the arguments: a seed
replays."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable

from tests.sim.scheduler import Scheduler
from tests.sim_ipam.coordination import Coordination
from tests.sim_ipam.mesh import Links, Mesh
from tests.sim_ipam.peer import Call, Outcome, Peer, Speed
from weave_ipam.core.options import FamilyOptions, InitMode, Options
from weave_ipam.core.results import Allocated, InUse
from weave_ipam.core.view import View
from weave_model.attachment import AttachmentKey, ContainerId, Workload
from weave_model.peer import PeerName
from weave_model.prefix import Family, Prefix, format_address


def peer_name(number: int) -> PeerName:
    """The name of the n-th peer; they sort by number."""
    return PeerName(bytes([2, 0, 0, 0, number // 256, number % 256]))


def peer_number(name: PeerName) -> int:
    """The n of `peer_name`."""
    return int.from_bytes(name[-2:], "big")


def pod(name: str) -> AttachmentKey:
    return AttachmentKey("weave", ContainerId(name), "eth0")


class World:
    """Peers, links, Coordination, and the questions that tests ask of them."""

    def __init__(
        self,
        universe: str | Iterable[str] = "10.32.0.0/24",
        *,
        seed: int = 0,
        links: Links | None = None,
        speed: Speed | None = None,
        quarantine_s: float = 60.0,
    ) -> None:
        self.rng = random.Random(seed)
        self.scheduler = Scheduler()
        self.links = links or Links()
        self.mesh = Mesh(self.scheduler, self._fork(), self.links)
        self.coordination = Coordination()
        self.peers: dict[int, Peer] = {}
        self.speed = speed or Speed()
        self.quarantine_s = quarantine_s
        texts = [universe] if isinstance(universe, str) else list(universe)
        self.universes = tuple(Prefix.parse(text) for text in texts)

    @property
    def now(self) -> float:
        return self.scheduler.now

    def add(self, number: int, init: InitMode, universe: str | None = None) -> Peer:
        """A node more; its service is started at once."""
        universes = self.universes if universe is None else (Prefix.parse(universe),)
        options = Options(
            peer_name(number),
            tuple(FamilyOptions(one, one) for one in universes),
            init,
            f"node-{number}",
            self.quarantine_s,
        )
        peer = Peer(options, self.scheduler, self.mesh, self.coordination, self._fork(), self.speed)
        self.peers[number] = peer
        peer.start()
        return peer

    def run(self, seconds: float = 0.0) -> None:
        """Lets virtual time pass; with none, everything that is due now happens."""
        self.scheduler.run_until(self.now + seconds)

    def settle(self, condition: Callable[[], bool], seconds: float = 120.0) -> bool:
        """Runs until the condition holds, or says that it does not within the time."""
        return condition() or self.scheduler.run_until(self.now + seconds, until=condition)

    # Callers

    def allocate(
        self, number: int, name: str, *, subnet: str | None = None, address: str | None = None
    ) -> Call:
        """A container starts once it has its address."""
        peer, key = self.peers[number], pod(name)
        subnets = (Prefix.parse(subnet),) if subnet else ()
        requested = (Prefix.parse(address),) if address else ()
        return peer.call(
            lambda a, r: a.allocate(r, key, Workload(), subnets, requested, peer.now),
            lambda outcome: self.started(peer, key, outcome),
        )

    def started(self, peer: Peer, key: AttachmentKey, outcome: Outcome) -> None:
        """A container runs with the address it was given."""
        if isinstance(outcome, Allocated):
            peer.containers[key] = InUse(
                key, tuple(issued.address for issued in outcome.addresses), Workload()
            )

    def claim(self, number: int, name: str, *addresses: str) -> Call:
        peer, hosts = self.peers[number], tuple(Prefix.parse(address) for address in addresses)
        return peer.call(lambda a, r: a.claim(r, pod(name), Workload(), hosts, peer.now))

    def release(self, number: int, name: str) -> Call:
        """The container is gone before its address is given back."""
        peer = self.peers[number]
        peer.containers.pop(pod(name), None)
        return peer.call(lambda a, r: a.release(r, pod(name), 0, peer.now))

    def reclaim(self, number: int, victim: int) -> Call:
        peer = self.peers[number]
        return peer.call(lambda a, r: a.reclaim(r, peer_name(victim), peer.now))

    def leave(self, number: int) -> Call:
        peer = self.peers[number]
        return peer.call(lambda a, r: a.leave(r, peer.now))

    def prime(self, number: int) -> Call:
        peer = self.peers[number]
        return peer.call(lambda a, r: a.prime(r, peer.now))

    # Faults

    def partition(self, *groups: Iterable[int]) -> None:
        """Peers of different groups do not reach each other; those not named form one group."""
        self.links.group = {
            peer_name(number): index + 1 for index, group in enumerate(groups) for number in group
        }
        self.mesh.links_changed()

    def heal(self) -> None:
        self.links.group = {}
        self.mesh.links_changed()

    def kill_node(self, number: int) -> None:
        """The machine is gone, with all that ran on it."""
        peer = self.peers[number]
        if peer.allocator is not None:
            peer.crash()
        peer.containers.clear()
        self.mesh.stop(peer.replica)

    def start_node(self, number: int) -> None:
        """The machine comes up again with its disk."""
        self.mesh.start(self.peers[number].replica)
        self.peers[number].start()

    # Questions

    def owners(self, number: int, family: Family = Family.IPV4) -> dict[str, int]:
        """The ring as one peer sees it: block -> number of the owner."""
        allocator = self.peers[number].allocator
        view = allocator.ring(family) if allocator is not None else None
        if view is None:
            return {}
        return {str(block.prefix): peer_number(block.owner) for block in view.blocks}

    def view(self, number: int, family: Family) -> View | None:
        """The ring as one peer sees it, with generations."""
        allocator = self.peers[number].allocator
        return allocator._pools[family].ring.view if allocator is not None else None

    def status(self, number: int, family: Family = Family.IPV4) -> str:
        allocator = self.peers[number].allocator
        assert allocator is not None
        return next(f.status for f in allocator.status().families if f.universe.family is family)

    def _fork(self) -> random.Random:
        return random.Random(self.rng.getrandbits(64))


def addresses_of(call: Call) -> list[str]:
    """What an allocation was given, as text; fails with the error it got instead."""
    assert isinstance(call.outcome, Allocated), call.outcome
    return [
        format_address(issued.address.family, issued.address.address)
        for issued in call.outcome.addresses
    ]


def address_of(call: Call) -> str:
    """The one address that an allocation was given."""
    (address,) = addresses_of(call)
    return address
