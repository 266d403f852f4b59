"""What callers do: containers that start and stop, with addresses from here and elsewhere."""

from __future__ import annotations

from tests.sim_ipam.peer import Outcome
from tests.sim_ipam.stage import Stage
from tests.sim_ipam.world import pod
from weave_ipam.core.results import Allocated, Claimed, InUse, Released
from weave_model.attachment import AttachmentKey, Workload
from weave_model.prefix import Prefix, format_address

# A caller's patience, as a container runtime has it.
DEADLINE_S = 30.0


class Callers:
    """The container runtimes of all nodes. Operations without arguments choose by chance."""

    def __init__(self, stage: Stage) -> None:
        self._stage = stage
        self._world = stage.world
        self._books = stage.books
        self._names = 0

    def allocate(self) -> None:
        number = self._stage.any_staying()
        if number is None:
            return
        name = self._new_name()
        self._stage.note("allocate", f"{number} {name}")
        self._allocate(number, name, None)

    def allocate_static(self) -> None:
        number = self._stage.any_staying()
        if number is None:
            return
        universe = self._world.universes[0]
        address = universe.address + self._world.rng.randrange(1, universe.size - 1)
        name = self._new_name()
        self._stage.note("static", f"{number} {name} {format_address(universe.family, address)}")
        self._allocate(number, name, Prefix.host(universe.family, address))

    def claim(self) -> None:
        """A container that got its address elsewhere, as a runtime's IPAM or a user gave it."""
        number = self._stage.any_staying()
        if number is None:
            return
        universe = self._world.universes[0]
        offset = self._world.rng.randrange(1, universe.size - 1)
        address = Prefix.host(universe.family, universe.address + offset)
        peer, key = self._world.peers[number], pod(self._new_name())
        self._stage.note("claim", f"{number} {key.container_id} {address}")

        def done(outcome: Outcome) -> None:
            if isinstance(outcome, Claimed) and not self._books.fates[number].left:
                self._books.check_unique(number, key, address)
                peer.containers[key] = InUse(key, (address,), Workload())
            elif isinstance(outcome, Claimed):
                self._books.fates[number].gone.add(key)

        call = peer.call(lambda a, r: a.claim(r, key, Workload(), (address,), peer.now), done)
        self._world.scheduler.after(DEADLINE_S, peer.give_up, call)

    def _allocate(self, number: int, name: str, address: Prefix | None) -> None:
        peer, key = self._world.peers[number], pod(name)
        requested = (address,) if address is not None else ()
        call = peer.call(
            lambda a, r: a.allocate(r, key, Workload(), (), requested, peer.now),
            lambda outcome: self._started(number, key, outcome),
        )
        self._world.scheduler.after(DEADLINE_S, peer.give_up, call)

    def release(self) -> None:
        running = [
            (number, key)
            for number in self._books.up()
            for key in self._world.peers[number].containers
        ]
        if running:
            number, key = self._world.rng.choice(running)
            self._stage.note("release", f"{number} {key.container_id}")
            self.stop(number, key)

    def give_up(self) -> None:
        waiting = [
            (number, call)
            for number in self._books.up()
            for call in self._world.peers[number].calls.values()
            if call.done is not None
        ]
        if waiting:
            number, call = self._world.rng.choice(waiting)
            self._stage.note("give up", f"{number}")
            self._world.peers[number].give_up(call)

    def _started(self, number: int, key: AttachmentKey, outcome: Outcome) -> None:
        self._stage.count(type(outcome).__name__)
        if not isinstance(outcome, Allocated):
            return
        if self._books.fates[number].left:
            # It answered before it left: the pod comes too late to be part of the network.
            self._books.fates[number].gone.add(key)
            return
        peer = self._world.peers[number]
        for issued in outcome.addresses:
            self._books.check_unique(number, key, issued.address)
            self._books.check_rested(number, issued.address)
        self._world.started(peer, key, outcome)

    def stop(self, number: int, key: AttachmentKey) -> None:
        """A container is gone; its address is given back until that is confirmed."""
        self._world.peers[number].containers.pop(key, None)
        self._books.fates[number].gone.add(key)
        self._retry_release(number, key)

    def retry_releases(self, share: float = 1.0) -> None:
        """Of the addresses that must be given back, a share is tried again."""
        for number in self._books.up():
            for key in sorted(self._books.fates[number].gone):
                if share == 1.0 or self._world.rng.random() < share:
                    self._retry_release(number, key)

    def _retry_release(self, number: int, key: AttachmentKey) -> None:
        peer = self._world.peers[number]
        if peer.allocator is None:
            return

        asked = self._world.now

        def done(outcome: Outcome) -> None:
            if isinstance(outcome, Released):
                self._books.fates[number].gone.discard(key)
                for address in outcome.addresses:
                    self._books.released[address] = asked, number

        peer.call(lambda a, r: a.release(r, key, 0, peer.now), done)

    def _new_name(self) -> str:
        self._names += 1
        return f"c{self._names}"
