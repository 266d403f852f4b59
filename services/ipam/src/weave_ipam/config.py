"""The options of ipam, with the environment names of Weave Net."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

from weave_ipam.core.options import (
    DEFAULT_QUARANTINE_S,
    MIN_UNIVERSE_ADDRESSES,
    Agreed,
    Consensus,
    FamilyOptions,
    InitMode,
    Observer,
    Seeded,
)
from weave_model.peer import PeerName
from weave_model.prefix import Family, Prefix
from weave_model.ring import Genesis
from weave_runtime.config import option
from weave_runtime.options import CommonOptions

DEFAULT_RANGE = Prefix.parse("10.32.0.0/12")
# More seeds or voters than a mesh has peers are a slip of the finger.
MAX_VOTERS = 10_000


@dataclass(frozen=True, slots=True)
class GuessedConsensus:
    """As Weave Net does without a mode: an election among the gossip's targets and this peer."""


Init = InitMode | GuessedConsensus


def parse_range(text: str) -> Prefix:
    """Reads an address range. Raises ValueError."""
    prefix = Prefix.parse(text)
    if prefix.size < MIN_UNIVERSE_ADDRESSES:
        raise ValueError(
            f"{prefix} has {prefix.size} addresses, at least {MIN_UNIVERSE_ADDRESSES} are needed"
        )
    return prefix


def parse_init(text: str) -> Init:
    """Reads how the first ring comes about. Raises ValueError."""
    mode, _, value = text.partition("=")
    match mode:
        case "consensus" if value.isascii() and value.isdigit() and int(value) <= MAX_VOTERS:
            return Consensus(int(value)) if int(value) else GuessedConsensus()
        case "seed" if value:
            names = {PeerName.parse(name) for name in value.split(",") if name}
            return Seeded(Genesis(tuple(sorted(names))))
        case "observer" if text == mode:
            return Observer()
        case "coordination" if text == mode:
            return Agreed()
    raise ValueError(
        "expected consensus=<number of peers>, seed=<name>,<name>,..., observer or coordination"
    )


def show_init(init: Init | str) -> str:
    """The same as the user writes it."""
    match init:
        case GuessedConsensus():
            return "consensus=0"
        case Consensus(peers):
            return f"consensus={peers}"
        case Seeded(genesis):
            return f"seed={','.join(map(str, genesis.seeds))}"
        case Observer():
            return "observer"
        case Agreed():
            return "coordination"
        case str():
            return f'"{init}"'


@dataclass(frozen=True, kw_only=True)
class Config(CommonOptions):
    """What ipam can be told."""

    socket_path: Path = option(
        Path("/run/weave/ipam/api.sock"), help="unix socket of the gRPC interface"
    )
    state_dir: Path = option(Path("/var/lib/weave/ipam"), help="directory of the durable state")
    http_addr: str = option(
        "127.0.0.1:6787", help="host:port of health, readiness and metrics; empty: off"
    )
    ipalloc_range: tuple[Prefix, ...] = option(
        (DEFAULT_RANGE,),
        env="IPALLOC_RANGE",
        parse=parse_range,
        help="range that addresses are given from, in CIDR form; one per address family",
    )
    ipalloc_default_subnet: tuple[Prefix, ...] = option(
        (),
        env="IPALLOC_DEFAULT_SUBNET",
        parse=parse_range,
        help="part of the range that is used where no subnet is asked for; default: all of it",
    )
    ipalloc_init: Init = option(
        GuessedConsensus(),
        env="IPALLOC_INIT",
        parse=parse_init,
        show=show_init,
        help="how the first ring comes about: consensus=<number of peers>, seed=<name>,..., "
        "observer or coordination; without it a majority of the gossip's targets and this peer",
    )
    quarantine: timedelta = option(
        timedelta(seconds=DEFAULT_QUARANTINE_S),
        help="how long a released address rests before it is given again",
    )
    gossip_socket: Path | None = option(
        None, help="unix socket of the gossip service; default: gossip/api.sock in --run-dir"
    )
    router_socket: Path | None = option(
        None, help="unix socket of the router service; default: router/api.sock in --run-dir"
    )

    def __post_init__(self) -> None:
        """Raises ValueError when options that are fine alone do not fit together."""
        universes = _one_per_family("ipalloc-range", self.ipalloc_range)
        for subnet in _one_per_family(
            "ipalloc-default-subnet", self.ipalloc_default_subnet
        ).values():
            universe = universes.get(subnet.family)
            if universe is None or not universe.contains(subnet):
                shown = ",".join(map(str, self.ipalloc_range))
                raise ValueError(
                    f"option ipalloc-default-subnet: {subnet} is not within the range {shown}"
                )

    @property
    def gossip_path(self) -> Path:
        """Where the gossip service listens."""
        return self.gossip_socket or self.run_dir / "gossip" / "api.sock"

    @property
    def router_path(self) -> Path:
        """Where the router service listens."""
        return self.router_socket or self.run_dir / "router" / "api.sock"

    @property
    def families(self) -> tuple[FamilyOptions, ...]:
        """Range and default subnet of each configured family, IPv4 first."""
        subnets = {subnet.family: subnet for subnet in self.ipalloc_default_subnet}
        return tuple(
            FamilyOptions(universe, subnets.get(universe.family, universe))
            for universe in sorted(self.ipalloc_range)
        )


def _one_per_family(name: str, prefixes: tuple[Prefix, ...]) -> dict[Family, Prefix]:
    if not prefixes and name == "ipalloc-range":
        raise ValueError(f"option {name} is empty: give a range in CIDR form")
    found: dict[Family, Prefix] = {}
    for prefix in prefixes:
        if prefix.family in found:
            raise ValueError(
                f"option {name}: {found[prefix.family]} and {prefix} are both IPv{prefix.family}: "
                "give one per family"
            )
        found[prefix.family] = prefix
    return found
