"""What goes wrong on a random cluster, and what operators do about it."""

from __future__ import annotations

from collections.abc import Iterable

from tests.sim_ipam.callers import Callers
from tests.sim_ipam.stage import Stage
from tests.sim_ipam.world import peer_name, peer_number
from weave_ipam.core.documents import TOPIC_RING
from weave_ipam.core.view import Segment, View


class Faults:
    """Each operation chooses its victims by chance."""

    def __init__(self, stage: Stage, callers: Callers) -> None:
        self._stage = stage
        self._world = stage.world
        self._books = stage.books
        self._callers = callers

    def restart(self, *, lose_state: bool = False) -> None:
        number = self._stage.any_staying()
        if number is None:
            return
        if self._is_last_witness(number):
            return
        self._stage.note("restart", f"{number} lose_state={lose_state}")
        peer = self._world.peers[number]
        self.crash(number)
        if lose_state:
            peer.lose_state()
            self._books.fates[number].forgot_at = self._world.now
        self._world.run(self._world.rng.choice((0.0, 0.1, 3.0)))
        peer.start()
        if not lose_state:
            self._books.check_durability(number)

    def restart_without_state(self) -> None:
        self.restart(lose_state=True)

    def _is_last_witness(self, number: int) -> bool:
        """Does it alone know who owns a part of the ring, of peers that cannot say so themselves?

        A peer keeps no documents of others on its disk, and gossip none of removed peers.
        """
        up = self._books.up()
        for universe in self._world.universes:
            here = self._world.view(number, universe.family)
            views = [self._world.view(each, universe.family) for each in up if each != number]
            elsewhere = [view for view in views if view is not None]
            for segment in here.segments if here is not None and elsewhere else ():
                if peer_number(segment.owner) not in up and not _is_known(segment, elsewhere):
                    return True
        return False

    def partition(self) -> None:
        if any(fate.dead and not fate.removable for fate in self._books.fates.values()):
            return
        groups: list[list[int]] = [[], []]
        for number in self._world.peers:
            self._world.rng.choice(groups).append(number)
        self._stage.note("partition", f"{groups}")
        self._world.partition(*groups)

    def heal(self) -> None:
        self._stage.note("heal")
        self._world.heal()

    def kill(self) -> None:
        """A node dies: all others hear it, or its side alone, if anybody is there."""
        number = self._stage.any_staying()
        if number is None or len(self._stage.staying()) < 2 or self._is_last_witness(number):
            return
        if self._world.rng.random() < 0.5:
            self.heal()
        self._stage.note("kill", f"{number}")
        self.crash(number)
        self._world.kill_node(number)
        fate = self._books.fates[number]
        fate.dead = True
        fate.gone.clear()
        self._world.run(20.0)
        fate.removable = True

    def remove(self) -> None:
        """One or two peers remove a dead one at the same time."""
        dead = [number for number, fate in self._books.fates.items() if fate.removable]
        alive = self._books.up()
        if not dead or not alive:
            return
        victim = self._world.rng.choice(dead)
        alive = [number for number in alive if self._has_heard(number, victim)]
        for number in self._world.rng.sample(alive, min(len(alive), self._world.rng.randint(1, 2))):
            self._stage.note("remove", f"{victim} by {number}")
            self._world.reclaim(number, victim)

    def _has_heard(self, number: int, victim: int) -> bool:
        """Does it know what the victim gave to whom? Another may live on with it, out of sight."""
        replica = self._world.peers[number].replica
        return self._world.mesh.has_heard(replica, TOPIC_RING, peer_name(victim))

    def revive(self) -> None:
        """A dead node comes back with its disk, removed or not."""
        dead = [number for number, fate in self._books.fates.items() if fate.removable]
        if not dead:
            return
        number = self._world.rng.choice(dead)
        self._stage.note("revive", f"{number}")
        fate = self._books.fates[number]
        fate.dead = fate.removable = False
        # Its pods did not survive; the runtime gives all their addresses back.
        fate.gone = set(self._world.peers[number].state.allocations)
        self._world.start_node(number)
        self._books.check_durability(number)

    def jump(self) -> None:
        number = self._stage.any_staying()
        if number is None:
            return
        peer = self._world.peers[number]
        jump = self._world.rng.choice((-3600.0, -10.0, 10.0, 3600.0))
        self._stage.note("clock", f"{number} {jump}")
        peer.clock_offset += jump
        if jump > 0:
            self._books.fates[number].forgot_at = self._world.now
        peer.tick()

    def join(self) -> None:
        """A new node hears all that was said before anything else: it may remove others."""
        if len(self._world.peers) < 8:
            self.heal()
            self._stage.note("join", f"{len(self._world.peers) + 1}")
            self._stage.join(self._stage.late)
            self._world.run(20.0)

    def leave(self) -> None:
        number = self._stage.any_staying()
        if number is None or len(self._stage.staying()) < 2:
            return
        self._stage.note("leave", f"{number}")
        peer = self._world.peers[number]
        self._books.fates[number].left = True
        for key in list(peer.containers):
            self._callers.stop(number, key)
        self._world.leave(number)

    def cut_coordination(self) -> None:
        number = self._stage.any_staying()
        if number is None:
            return
        self._stage.note("coordination", f"{number}")
        name, coordination = peer_name(number), self._world.coordination
        (coordination.join if name in coordination.cut_off else coordination.cut)(name)

    def crash(self, number: int) -> None:
        """Whoever waits gets an error, and undoes what it may have been given."""
        peer = self._world.peers[number]
        peer.crash()
        for key in peer.state.allocations:
            if key not in peer.containers:
                self._books.fates[number].gone.add(key)


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
