"""What callers are told: outcomes of requests and the status."""

from __future__ import annotations

from dataclasses import dataclass

from weave_model.attachment import AttachmentKey, Workload
from weave_model.peer import PeerName
from weave_model.prefix import Prefix
from weave_model.ring import RingView


@dataclass(frozen=True, slots=True)
class PeerInfo:
    """What gossip knows of a peer."""

    name: PeerName
    nickname: str = ""
    reachable: bool = True
    incarnation: int = 0
    node_uid: str = ""


@dataclass(frozen=True, slots=True)
class InUse:
    """An attachment that the router found in the kernel; `addresses` are host prefixes."""

    key: AttachmentKey
    addresses: tuple[Prefix, ...]
    workload: Workload


@dataclass(frozen=True, slots=True)
class IssuedAddress:
    """A host prefix and the subnet it was given in (its length goes into the CNI result)."""

    address: Prefix
    subnet: Prefix


@dataclass(frozen=True, slots=True)
class Allocated:
    """One address per family, IPv4 first."""

    addresses: tuple[IssuedAddress, ...]
    generation: int


@dataclass(frozen=True, slots=True)
class Claimed:
    """The addresses are recorded as the attachment's."""

    generation: int


@dataclass(frozen=True, slots=True)
class Released:
    """What was freed; nothing when the attachment held nothing (of that generation)."""

    addresses: tuple[Prefix, ...]


@dataclass(frozen=True, slots=True)
class Primed:
    """Every family has a ring."""


@dataclass(frozen=True, slots=True)
class Reclaimed:
    """How many addresses of `peer` are ours now."""

    peer: PeerName
    addresses: int


@dataclass(frozen=True, slots=True)
class Left:
    """How many addresses other peers have taken from us."""

    addresses: int


Result = Allocated | Claimed | Released | Primed | Reclaimed | Left


@dataclass(frozen=True, slots=True)
class Share:
    """One peer's part of the universe."""

    peer: PeerName
    nickname: str
    reachable: bool
    self_: bool
    addresses: int
    fraction: float


@dataclass(frozen=True, slots=True)
class AddressConflict:
    """An address in use here that belongs to another peer (None: to nobody)."""

    address: Prefix
    key: AttachmentKey
    owner: PeerName | None
    # Unix seconds.
    since: float


@dataclass(frozen=True, slots=True)
class FamilyStatus:
    """One family, in Weave Net's words."""

    universe: Prefix
    default_subnet: Prefix
    # One of Weave Net's texts: idle, priming, ready, awaiting consensus (quorum: 2, known: 1) ...
    status: str
    ready: bool
    # Self first, then by name.
    shares: tuple[Share, ...]
    # None while there is no ring.
    ring: RingView | None
    active: int
    quarantined: int
    free: int
    # What waits and for what, one text each.
    pending: tuple[str, ...]
    pending_allocates: int
    pending_claims: int
    conflicting: tuple[AddressConflict, ...]
    # Documents of other peers that do not fit, and other trouble, one text each.
    troubles: tuple[str, ...]
    # Why no address of the default subnet can be had now; empty while one can, or may.
    exhausted: str


@dataclass(frozen=True, slots=True)
class Status:
    """The whole; `reason` says why it is not ready.

    A range that is used up is no reason: everything works, there is only nothing left to give.
    """

    families: tuple[FamilyStatus, ...]
    ready: bool
    reason: str

    @property
    def exhausted(self) -> str:
        """Why no address can be given although everything works; empty when one can."""
        return "; ".join(family.exhausted for family in self.families if family.exhausted)
