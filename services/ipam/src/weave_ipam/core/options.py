"""How an allocator is set up."""

from __future__ import annotations

from dataclasses import dataclass

from weave_model.peer import PeerName
from weave_model.prefix import Family, Prefix
from weave_model.ring import Genesis

# Long enough for conntrack, ARP caches and policy sets of other nodes to forget the address.
DEFAULT_QUARANTINE_S = 60.0
# Weave Net's bound: fewer than 4 leave nothing between the first and the last address.
MIN_UNIVERSE_ADDRESSES = 4


@dataclass(frozen=True, slots=True)
class Consensus:
    """A majority of `peers` voters, this one included, elects the first ring."""

    peers: int

    def __post_init__(self) -> None:
        if self.peers < 1:
            raise ValueError(
                f"consensus={self.peers}: an election needs at least 1 voter, self included"
            )


@dataclass(frozen=True, slots=True)
class Seeded:
    """The first ring is shared by these names; the same list must be given to all peers."""

    genesis: Genesis


@dataclass(frozen=True, slots=True)
class Observer:
    """Never votes, takes the ring that comes."""


@dataclass(frozen=True, slots=True)
class Agreed:
    """The first ring comes from outside (Coordination, first writer wins): see `ProposeGenesis`."""


InitMode = Consensus | Seeded | Observer | Agreed


@dataclass(frozen=True, slots=True)
class FamilyOptions:
    """One family's range. Raises ValueError when it is too small or the subnet lies outside."""

    universe: Prefix
    default_subnet: Prefix

    def __post_init__(self) -> None:
        if self.universe.size < MIN_UNIVERSE_ADDRESSES:
            raise ValueError(
                f"range {self.universe} is too small: it has {self.universe.size} addresses,"
                f" at least {MIN_UNIVERSE_ADDRESSES} are needed"
            )
        if not self.universe.contains(self.default_subnet):
            raise ValueError(
                f"default subnet {self.default_subnet} lies outside the range {self.universe}"
            )

    @property
    def family(self) -> Family:
        """The family of the range."""
        return self.universe.family


@dataclass(frozen=True, slots=True)
class Options:
    """Everything that does not change in a process's life. Raises ValueError naming the value."""

    name: PeerName
    # One per family at most, IPv4 first; at least one.
    families: tuple[FamilyOptions, ...]
    init: InitMode
    nickname: str = ""
    # Seconds a released address rests before it is given again.
    quarantine_s: float = DEFAULT_QUARANTINE_S

    def __post_init__(self) -> None:
        families = [option.family for option in self.families]
        if not families or families != sorted(set(families)):
            raise ValueError("one range per family is needed, IPv4 first")
        if self.quarantine_s < 0:
            raise ValueError(f"quarantine of {self.quarantine_s} s is negative")
