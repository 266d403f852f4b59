"""What must hold on a random cluster whatever happens, and the books that tell.

The rule is the strictest there is: no address is ever held by two live containers.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from tests.sim_ipam.world import World
from weave_model.attachment import AttachmentKey
from weave_model.prefix import Prefix


@dataclass(slots=True)
class Fate:
    """What has become of a node."""

    dead: bool = False
    # Dead, and all it said has spread: it may be removed.
    removable: bool = False
    left: bool = False
    # When something last made its quarantines unreliable: loss of state, a jump of the clock.
    forgot_at: float = -1e9
    # Containers whose addresses must be given back: their callers try until they are told so.
    gone: set[AttachmentKey] = field(default_factory=set)


class Broken(AssertionError):
    """An invariant does not hold."""


class Books:
    """Who is alive, what was released when; every check raises Broken."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.fates: dict[int, Fate] = {}
        # Address -> (when it was released, by whom).
        self.released: dict[Prefix, tuple[float, int]] = {}

    def up(self) -> list[int]:
        """The numbers of all nodes that are not dead."""
        return [number for number, fate in self.fates.items() if not fate.dead]

    def owns(self, number: int) -> bool:
        """Does somebody see space of this node?"""
        return any(
            number in self.world.owners(each, universe.family).values()
            for each in self.up()
            for universe in self.world.universes
        )

    def check_unique(self, number: int, key: AttachmentKey, address: Prefix) -> None:
        """Nobody else holds what was just given to `key` on a node."""
        for other, peer in self.world.peers.items():
            for held, in_use in peer.containers.items():
                if address in in_use.addresses and (other, held) != (number, key):
                    raise Broken(
                        f"{address} was given to {key} at {number}, runs in {held} at {other}"
                    )

    def check_rested(self, number: int, address: Prefix) -> None:
        """What was just given there has been in quarantine for as long as it should."""
        when, by = self.released.get(address, (-1e9, number))
        reliable = by == number and self.fates[by].forgot_at < when
        if reliable and self.world.now < when + self.world.quarantine_s - 0.001:
            raise Broken(f"{address} was released at {when} and given at {self.world.now}")

    def check_durability(self, number: int) -> None:
        """What runs is known after a restart with state."""
        peer = self.world.peers[number]
        assert peer.allocator is not None
        if peer.allocator.needs_adoption:
            # The state was lost, and the kernel has not been asked yet.
            return
        known = {a.key: a.addresses for a in peer.allocator.allocations()}
        for key, in_use in peer.containers.items():
            if known.get(key) != in_use.addresses:
                raise Broken(f"{number} forgot {in_use}: it knows {known.get(key)}")

    def check_agreement(self) -> None:
        """All peers see one ring, and nobody's address belongs to another."""
        up = self.up()
        for family in {universe.family for universe in self.world.universes}:
            views = {number: self.world.owners(number, family) for number in up}
            if len({tuple(view.items()) for view in views.values()}) > 1:
                raise Broken(f"views differ: {views}")
        for number in up:
            allocator = self.world.peers[number].allocator
            assert allocator is not None
            for status in allocator.status().families:
                if status.conflicting:
                    raise Broken(f"{number} has conflicts: {status.conflicting}")

    def check_conservation(self) -> None:
        """Every address is owned, and at its owner it is free, used or resting."""
        up = self.up()
        for universe in self.world.universes:
            free = used = resting = 0
            for number in up:
                allocator = self.world.peers[number].allocator
                assert allocator is not None
                status = next(s for s in allocator.status().families if s.universe == universe)
                free += status.free
                used += status.active
                resting += status.quarantined
            running = sum(
                address.family is universe.family
                for number in up
                for in_use in self.world.peers[number].containers.values()
                for address in in_use.addresses
            )
            if not self.world.owners(up[0], universe.family) and not running:
                continue
            if used != running:
                raise Broken(f"{used} addresses are recorded as used, {running} run")
            if free + used + resting != universe.size:
                raise Broken(
                    f"{free} free + {used} used + {resting} resting are not {universe.size}:"
                    f" {self.world.owners(up[0], universe.family)}"
                )
