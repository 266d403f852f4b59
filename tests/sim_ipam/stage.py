"""What the operations of one seed share: the cluster, the books, one source of chance, a log."""

from __future__ import annotations

from dataclasses import dataclass, field

from tests.sim_ipam.invariants import Books, Fate
from tests.sim_ipam.world import World
from weave_ipam.core.options import InitMode, Observer


@dataclass(slots=True)
class Stage:
    """One seed's cluster."""

    world: World
    books: Books
    # How a node that joins later gets its ring.
    late: InitMode = field(default_factory=Observer)
    log: list[str] = field(default_factory=list)
    # How often what was done, and with what outcome.
    counts: dict[str, int] = field(default_factory=dict)

    def join(self, init: InitMode) -> None:
        """A node more."""
        number = len(self.world.peers) + 1
        self.books.fates[number] = Fate()
        self.world.add(number, init)

    def any_staying(self) -> int | None:
        """A node that is up and does not leave; None: there is none."""
        staying = self.staying()
        return self.world.rng.choice(staying) if staying else None

    def staying(self) -> list[int]:
        """All that are up and do not leave."""
        return [number for number in self.books.up() if not self.books.fates[number].left]

    def count(self, what: str) -> None:
        """For the summary of many seeds."""
        self.counts[what] = self.counts.get(what, 0) + 1

    def note(self, what: str, details: str = "") -> None:
        """For who reads what a seed did."""
        self.count(what)
        self.log.append(f"{self.world.now:10.3f} {what} {details}")
