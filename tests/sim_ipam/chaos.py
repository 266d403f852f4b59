"""Random operations on a random cluster, and what must hold whatever happens.

Nobody does here what no ring can survive: a peer is only removed when its node is dead, and by one
who has heard what others have heard of it, and no process ends that alone knows what such a peer
owned. What must hold is in `invariants`.
"""

from __future__ import annotations

from collections.abc import Callable

from tests.sim_ipam.callers import Callers
from tests.sim_ipam.faults import Faults
from tests.sim_ipam.invariants import Books, Broken
from tests.sim_ipam.mesh import Links
from tests.sim_ipam.peer import Speed
from tests.sim_ipam.stage import Stage
from tests.sim_ipam.world import World, peer_name
from weave_ipam.core.options import Agreed, Consensus, InitMode, Observer, Seeded
from weave_ipam.core.results import Reclaimed
from weave_model.errors import Absent
from weave_model.prefix import Prefix
from weave_model.ring import Genesis

# What the whole cluster needs at most to agree again after the last fault.
CALM_S = 240.0
# Of the addresses that must be given back, how many are tried again between two operations.
RETRIED = 0.2


class Chaos:
    """One seed's run."""

    def __init__(self, seed: int, operations: int) -> None:
        self.seed = seed
        self.operations = operations
        links = Links()
        speed = Speed()
        self.world = World(seed=seed, links=links, speed=speed)
        self.rng = self.world.rng
        self.books = Books(self.world)
        self.stage = Stage(self.world, self.books)
        self.callers = Callers(self.stage)
        self.faults = Faults(self.stage, self.callers)
        self._set_up(links, speed)

    @property
    def log(self) -> list[str]:
        """What was done and when, a line each."""
        return self.stage.log

    @property
    def counts(self) -> dict[str, int]:
        """How often what was done, and with what outcome."""
        return self.stage.counts

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
        self.stage.late = Observer() if mode == "consensus" else modes[mode]
        for number in range(1, peers + 1):
            self.stage.join(modes[mode] if number <= voters else self.stage.late)
        self.stage.note("setup", f"{mode} {voters}/{peers} {universes} {links} {speed}")

    def run(self) -> None:
        """All operations, then calm, then the books are balanced."""
        operations: list[tuple[int, Callable[[], None]]] = [
            (40, self.callers.allocate),
            (30, self.callers.release),
            (4, self.callers.allocate_static),
            (2, self.callers.claim),
            (2, self.callers.give_up),
            (4, self.faults.restart),
            (2, self.faults.restart_without_state),
            (2, self.faults.partition),
            (3, self.faults.heal),
            (1, self.faults.kill),
            (2, self.faults.remove),
            (1, self.faults.revive),
            (1, self.faults.jump),
            (1, self.faults.join),
            (0.2, self.faults.leave),  # type: ignore[list-item]
            (1, self.faults.cut_coordination),
        ]
        weights = [weight for weight, _ in operations]
        for _ in range(self.operations):
            (_, operation) = self.rng.choices(operations, weights)[0]
            operation()
            self.world.run(self.rng.choice((0.0, 0.001, 0.05, 0.5, 2.0)))
            self.callers.retry_releases(RETRIED)
        self.calm()
        self.books.check_agreement()
        self.books.check_conservation()

    def calm(self) -> None:
        """No faults any more: everything must come to rest."""
        self.stage.note("calm")
        self.world.links.loss = self.world.links.duplication = 0.0
        self.world.heal()
        for name in list(self.world.coordination.cut_off):
            self.world.coordination.join(name)
        for number in self.books.up():
            for key in list(self.world.peers[number].containers):
                if self.rng.random() < 0.5:
                    self.callers.stop(number, key)
        self.world.run(20.0)
        for number, fate in self.books.fates.items():
            if fate.left and not fate.dead:
                self.faults.crash(number)
                self.world.kill_node(number)
                fate.dead = True
        self.world.run(20.0)
        dead = [number for number, fate in self.books.fates.items() if fate.dead]
        self._remove(list(dead))
        self.world.run(20.0)
        # What was granted to them later is shown as theirs: an operator removes them once more.
        self._remove([number for number in dead if self.books.owns(number)])
        self.callers.retry_releases()
        self.world.run(CALM_S)

    def _remove(self, dead: list[int]) -> None:
        """Some live peer can: the heir of an earlier fence, or whoever removed that heir before."""
        for _ in range(len(dead)):
            for victim in list(dead):
                for number in self.books.up():
                    call = self.world.reclaim(number, victim)
                    self.world.run(5.0)
                    if isinstance(call.outcome, Reclaimed | Absent):
                        dead.remove(victim)
                        break
        if dead and self.books.up():
            raise Broken(f"nobody can remove {dead}")
