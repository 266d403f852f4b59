"""Random operations on a random cluster, and what must hold whatever happens.

Nobody does here what no ring can survive: a peer is only removed when its node is dead, and by one
who has heard what others have heard of it, and no process ends that alone knows what such a peer
owned. So the rule is the strictest there is: no address is ever held by two live containers.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

from tests.sim_ipam.mesh import Links
from tests.sim_ipam.peer import Outcome, Speed
from tests.sim_ipam.world import World, peer_name, peer_number, pod
from weave_ipam.core.documents import TOPIC_RING
from weave_ipam.core.options import Agreed, Consensus, InitMode, Observer, Seeded
from weave_ipam.core.results import Allocated, Claimed, InUse, Reclaimed, Released
from weave_ipam.core.view import Segment, View
from weave_model.attachment import AttachmentKey, Workload
from weave_model.errors import Absent
from weave_model.prefix import Prefix, format_address
from weave_model.ring import Genesis

# A caller's patience, as a container runtime has it.
DEADLINE_S = 30.0
# What the whole cluster needs at most to agree again after the last fault.
CALM_S = 240.0


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


class Chaos:
    """One seed's run."""

    def __init__(self, seed: int, operations: int) -> None:
        self.seed = seed
        self.operations = operations
        self.log: list[str] = []
        self.counts: dict[str, int] = {}
        self._names = 0
        # Address -> (when it was released, by whom).
        self._released: dict[Prefix, tuple[float, int]] = {}
        links = Links()
        speed = Speed()
        self.world = World(seed=seed, links=links, speed=speed)
        self.rng = self.world.rng
        self.fates: dict[int, Fate] = {}
        self._set_up(links, speed)

    def _set_up(self, links: Links, speed: Speed) -> None:
        rng = self.rng
        links.delay_s = rng.choice((0.0, 0.01, 0.2))
        links.loss = rng.choice((0.0, 0.05, 0.3))
        links.duplication = rng.choice((0.0, 0.2))
        # A peer that comes back is noticed before a takeover that has begun is carried out.
        links.notice_s = rng.choice((0.1, 1.5))
        speed.commit_s = rng.choice((0.0, 0.001, 0.05))
        speed.coordination_s = rng.choice((0.0, 0.05))
        speed.start_s = rng.choice((0.0, 0.3))
        universes = [f"10.32.0.0/{rng.randint(25, 28)}"]
        if rng.random() < 0.3:
            universes.append(f"fd00::/{rng.randint(120, 124)}")
        self.world.universes = tuple(Prefix.parse(text) for text in universes)
        self.world.quarantine_s = rng.choice((0.0, 5.0, 60.0))
        peers = rng.randint(1, 5)
        voters = rng.randint(1, peers)
        mode = rng.choice(("consensus", "seed", "agreed"))
        genesis = Genesis(tuple(peer_name(number + 1) for number in range(voters)))
        modes: dict[str, InitMode] = {
            "consensus": Consensus(voters),
            "seed": Seeded(genesis),
            "agreed": Agreed(),
        }
        self.late = Observer() if mode == "consensus" else modes[mode]
        for number in range(1, peers + 1):
            self._join(modes[mode] if number <= voters else self.late)
        self._note("setup", f"{mode} {voters}/{peers} {universes} {links} {speed}")

    # Running

    def run(self) -> None:
        """All operations, then calm, then the books are balanced."""
        operations: list[tuple[int, Callable[[], None]]] = [
            (40, self.allocate),
            (30, self.release),
            (4, self.allocate_static),
            (2, self.claim),
            (2, self.give_up),
            (4, self.restart),
            (2, self.restart_without_state),
            (2, self.partition),
            (3, self.heal),
            (1, self.kill),
            (2, self.remove),
            (1, self.revive),
            (1, self.jump),
            (1, self.join),
            (0.2, self.leave),  # type: ignore[list-item]
            (1, self.cut_coordination),
        ]
        weights = [weight for weight, _ in operations]
        for _ in range(self.operations):
            (_, operation) = self.rng.choices(operations, weights)[0]
            operation()
            self.world.run(self.rng.choice((0.0, 0.001, 0.05, 0.5, 2.0)))
            self._retry_releases()
        self.calm()
        self.check_agreement()
        self.check_conservation()

    # Operations

    def allocate(self) -> None:
        number = self._any_up()
        if number is None:
            return
        name = self._new_name()
        self._note("allocate", f"{number} {name}")
        self._allocate(number, name, None)

    def allocate_static(self) -> None:
        number = self._any_up()
        if number is None:
            return
        universe = self.world.universes[0]
        address = universe.address + self.rng.randrange(1, universe.size - 1)
        name = self._new_name()
        self._note("static", f"{number} {name} {format_address(universe.family, address)}")
        self._allocate(number, name, Prefix.host(universe.family, address))

    def claim(self) -> None:
        """A container that got its address elsewhere, as a runtime's IPAM or a user gave it."""
        number = self._any_up()
        if number is None:
            return
        universe = self.world.universes[0]
        offset = self.rng.randrange(1, universe.size - 1)
        address = Prefix.host(universe.family, universe.address + offset)
        peer, key = self.world.peers[number], pod(self._new_name())
        self._note("claim", f"{number} {key.container_id} {address}")

        def done(outcome: Outcome) -> None:
            if isinstance(outcome, Claimed) and not self.fates[number].left:
                self._check_unique(number, key, address)
                peer.containers[key] = InUse(key, (address,), Workload())
            elif isinstance(outcome, Claimed):
                self.fates[number].gone.add(key)

        call = peer.call(lambda a, r: a.claim(r, key, Workload(), (address,), peer.now), done)
        self.world.scheduler.after(DEADLINE_S, peer.give_up, call)

    def _allocate(self, number: int, name: str, address: Prefix | None) -> None:
        peer, key = self.world.peers[number], pod(name)
        requested = (address,) if address is not None else ()
        call = peer.call(
            lambda a, r: a.allocate(r, key, Workload(), (), requested, peer.now),
            lambda outcome: self._started(number, key, outcome),
        )
        self.world.scheduler.after(DEADLINE_S, peer.give_up, call)

    def release(self) -> None:
        running = [
            (number, key) for number in self._up() for key in self.world.peers[number].containers
        ]
        if running:
            number, key = self.rng.choice(running)
            self._note("release", f"{number} {key.container_id}")
            self._stop(number, key)

    def give_up(self) -> None:
        waiting = [
            (number, call)
            for number in self._up()
            for call in self.world.peers[number].calls.values()
            if call.done is not None
        ]
        if waiting:
            number, call = self.rng.choice(waiting)
            self._note("give up", f"{number}")
            self.world.peers[number].give_up(call)

    def restart(self, *, lose_state: bool = False) -> None:
        number = self._any_up()
        if number is None:
            return
        if self._is_last_witness(number):
            return
        self._note("restart", f"{number} lose_state={lose_state}")
        peer = self.world.peers[number]
        self._crash(number)
        if lose_state:
            peer.lose_state()
            self.fates[number].forgot_at = self.world.now
        self.world.run(self.rng.choice((0.0, 0.1, 3.0)))
        peer.start()
        if not lose_state:
            self.check_durability(number)

    def restart_without_state(self) -> None:
        self.restart(lose_state=True)

    def _is_last_witness(self, number: int) -> bool:
        """Does it alone know who owns a part of the ring, of peers that cannot say so themselves?

        A peer keeps no documents of others on its disk, and gossip none of removed peers.
        """
        up = self._up()
        for universe in self.world.universes:
            here = self.world.view(number, universe.family)
            views = [self.world.view(each, universe.family) for each in up if each != number]
            elsewhere = [view for view in views if view is not None]
            for segment in here.segments if here is not None and elsewhere else ():
                if peer_number(segment.owner) not in up and not _is_known(segment, elsewhere):
                    return True
        return False

    def partition(self) -> None:
        if any(fate.dead and not fate.removable for fate in self.fates.values()):
            return
        groups: list[list[int]] = [[], []]
        for number in self.world.peers:
            self.rng.choice(groups).append(number)
        self._note("partition", f"{groups}")
        self.world.partition(*groups)

    def heal(self) -> None:
        self._note("heal", "")
        self.world.heal()

    def kill(self) -> None:
        """A node dies while all others hear it: what it said spreads before anything else."""
        number = self._any_up()
        if number is None or len(self._staying()) < 2 or self._is_last_witness(number):
            return
        self.heal()
        self._note("kill", f"{number}")
        self._crash(number)
        self.world.kill_node(number)
        fate = self.fates[number]
        fate.dead = True
        fate.gone.clear()
        self.world.run(20.0)
        fate.removable = True

    def remove(self) -> None:
        """One or two peers remove a dead one at the same time."""
        dead = [number for number, fate in self.fates.items() if fate.removable]
        alive = self._up()
        if not dead or not alive:
            return
        victim = self.rng.choice(dead)
        alive = [number for number in alive if self._has_heard(number, victim)]
        for number in self.rng.sample(alive, min(len(alive), self.rng.randint(1, 2))):
            self._note("remove", f"{victim} by {number}")
            self.world.reclaim(number, victim)

    def _has_heard(self, number: int, victim: int) -> bool:
        """Does it know what the victim gave to whom? Another may live on with it, out of sight."""
        replica = self.world.peers[number].replica
        return self.world.mesh.has_heard(replica, TOPIC_RING, peer_name(victim))

    def revive(self) -> None:
        """A dead node comes back with its disk, removed or not."""
        dead = [number for number, fate in self.fates.items() if fate.removable]
        if not dead:
            return
        number = self.rng.choice(dead)
        self._note("revive", f"{number}")
        fate = self.fates[number]
        fate.dead = fate.removable = False
        # Its pods did not survive; the runtime gives all their addresses back.
        fate.gone = set(self.world.peers[number].state.allocations)
        self.world.start_node(number)
        self.check_durability(number)

    def jump(self) -> None:
        number = self._any_up()
        if number is None:
            return
        peer = self.world.peers[number]
        jump = self.rng.choice((-3600.0, -10.0, 10.0, 3600.0))
        self._note("clock", f"{number} {jump}")
        peer.clock_offset += jump
        if jump > 0:
            self.fates[number].forgot_at = self.world.now
        peer.tick()

    def join(self) -> None:
        """A new node hears all that was said before anything else: it may remove others."""
        if len(self.world.peers) < 8:
            self.heal()
            self._note("join", f"{len(self.world.peers) + 1}")
            self._join(self.late)
            self.world.run(20.0)

    def leave(self) -> None:
        number = self._any_up()
        if number is None or len(self._staying()) < 2:
            return
        self._note("leave", f"{number}")
        peer = self.world.peers[number]
        self.fates[number].left = True
        for key in list(peer.containers):
            self._stop(number, key)
        self.world.leave(number)

    def cut_coordination(self) -> None:
        number = self._any_up()
        if number is None:
            return
        self._note("coordination", f"{number}")
        name, coordination = peer_name(number), self.world.coordination
        (coordination.join if name in coordination.cut_off else coordination.cut)(name)

    # Books

    def _started(self, number: int, key: AttachmentKey, outcome: Outcome) -> None:
        self.counts[type(outcome).__name__] = self.counts.get(type(outcome).__name__, 0) + 1
        if not isinstance(outcome, Allocated):
            return
        if self.fates[number].left:
            # It answered before it left: the pod comes too late to be part of the network.
            self.fates[number].gone.add(key)
            return
        peer = self.world.peers[number]
        for issued in outcome.addresses:
            self._check_unique(number, key, issued.address)
            self._check_rested(number, issued.address)
        self.world.started(peer, key, outcome)

    def _check_unique(self, number: int, key: AttachmentKey, address: Prefix) -> None:
        for other, peer in self.world.peers.items():
            for held, in_use in peer.containers.items():
                if address in in_use.addresses and (other, held) != (number, key):
                    raise Broken(
                        f"{address} was given to {key} at {number}, runs in {held} at {other}"
                    )

    def _check_rested(self, number: int, address: Prefix) -> None:
        when, by = self._released.get(address, (-1e9, number))
        reliable = by == number and self.fates[by].forgot_at < when
        if reliable and self.world.now < when + self.world.quarantine_s - 0.001:
            raise Broken(f"{address} was released at {when} and given at {self.world.now}")

    def _stop(self, number: int, key: AttachmentKey) -> None:
        self.world.peers[number].containers.pop(key, None)
        self.fates[number].gone.add(key)
        self._retry_release(number, key)

    def _retry_releases(self) -> None:
        for number in self._up():
            for key in sorted(self.fates[number].gone):
                if self.rng.random() < 0.2:
                    self._retry_release(number, key)

    def _retry_release(self, number: int, key: AttachmentKey) -> None:
        peer = self.world.peers[number]
        if peer.allocator is None:
            return

        asked = self.world.now

        def done(outcome: Outcome) -> None:
            if isinstance(outcome, Released):
                self.fates[number].gone.discard(key)
                for address in outcome.addresses:
                    self._released[address] = asked, number

        peer.call(lambda a, r: a.release(r, key, 0, peer.now), done)

    def _crash(self, number: int) -> None:
        """Whoever waits gets an error, and undoes what it may have been given."""
        peer = self.world.peers[number]
        peer.crash()
        for key in peer.state.allocations:
            if key not in peer.containers:
                self.fates[number].gone.add(key)

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

    def calm(self) -> None:
        """No faults any more: everything must come to rest."""
        self._note("calm", "")
        self.world.links.loss = self.world.links.duplication = 0.0
        self.world.heal()
        for name in list(self.world.coordination.cut_off):
            self.world.coordination.join(name)
        for number in self._up():
            for key in list(self.world.peers[number].containers):
                if self.rng.random() < 0.5:
                    self._stop(number, key)
        self.world.run(20.0)
        for number, fate in self.fates.items():
            if fate.left and not fate.dead:
                self._crash(number)
                self.world.kill_node(number)
                fate.dead = True
        self.world.run(20.0)
        self._remove_the_dead()
        for number in self._up():
            for key in sorted(self.fates[number].gone):
                self._retry_release(number, key)
        self.world.run(CALM_S)

    def _remove_the_dead(self) -> None:
        """Some live peer can: the heir of an earlier fence, or whoever removed that heir before."""
        dead = [number for number, fate in self.fates.items() if fate.dead]
        for _ in range(len(dead)):
            for victim in list(dead):
                for number in self._up():
                    call = self.world.reclaim(number, victim)
                    self.world.run(5.0)
                    if isinstance(call.outcome, Reclaimed | Absent):
                        dead.remove(victim)
                        break
        if dead and self._up():
            raise Broken(f"nobody can remove {dead}")

    def check_agreement(self) -> None:
        """All peers see one ring, and nobody's address belongs to another."""
        up = self._up()
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
        up = self._up()
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

    # Small things

    def _join(self, init: InitMode) -> None:
        number = len(self.world.peers) + 1
        self.fates[number] = Fate()
        self.world.add(number, init)

    def _up(self) -> list[int]:
        return [number for number, fate in self.fates.items() if not fate.dead]

    def _any_up(self) -> int | None:
        staying = self._staying()
        return self.rng.choice(staying) if staying else None

    def _staying(self) -> list[int]:
        return [number for number in self._up() if not self.fates[number].left]

    def _new_name(self) -> str:
        self._names += 1
        return f"c{self._names}"

    def _note(self, what: str, details: str) -> None:
        self.counts[what] = self.counts.get(what, 0) + 1
        self.log.append(f"{self.world.now:10.3f} {what} {details}")


def _is_known(segment: Segment, views: Iterable[View]) -> bool:
    """Do others know all of it, or newer?"""
    known = sorted(
        (other.start, other.end)
        for view in views
        for other in view.segments
        if other.generation >= segment.generation
    )
    position = segment.start
    for start, end in known:
        if start > position:
            break
        position = max(position, end)
    return position >= segment.end
