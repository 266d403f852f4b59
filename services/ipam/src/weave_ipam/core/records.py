"""What must survive the process: typed records, and the state they add up to.

The shell chooses the store's keys; it may read and write the records in any form, since only this
process uses them.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from weave_ipam.core.documents import AcceptorState
from weave_model.attachment import AttachmentKey, Workload
from weave_model.peer import PeerName
from weave_model.prefix import Family, Prefix
from weave_model.ring import RingDocument


@dataclass(frozen=True, slots=True)
class Allocation:
    """Addresses that an attachment holds: host prefixes, IPv4 first, one per family at most
    unless claimed."""

    key: AttachmentKey
    addresses: tuple[Prefix, ...]
    workload: Workload
    # Orders ADD against DEL of one key; grows with each new allocation of this peer.
    generation: int
    # Unix seconds.
    since: float
    # Found in use or claimed, not chosen by this allocator.
    adopted: bool = False


@dataclass(frozen=True, slots=True)
class NameRecord:
    """Whose state this is."""

    name: PeerName


@dataclass(frozen=True, slots=True)
class DocumentRecord:
    """This peer's own ring document of one family."""

    document: RingDocument

    @property
    def family(self) -> Family:
        """One record exists per family."""
        return self.document.universe.family


@dataclass(frozen=True, slots=True)
class DocumentGone:
    """The own document of a family is of no use any more."""

    family: Family


@dataclass(frozen=True, slots=True)
class DepartedRecord:
    """The last document of a removed peer whose space nobody has listed yet: gossip has it no more,
    and the heir may never have seen it."""

    writer: PeerName
    document: RingDocument

    @property
    def place(self) -> tuple[Family, PeerName]:
        """One record exists per family and peer."""
        return self.document.universe.family, self.writer


@dataclass(frozen=True, slots=True)
class DepartedGone:
    """That space is listed by others, or the peer is back."""

    writer: PeerName
    family: Family


@dataclass(frozen=True, slots=True)
class AllocationRecord:
    """Replaces what was stored under the same key."""

    allocation: Allocation


@dataclass(frozen=True, slots=True)
class AllocationGone:
    """The attachment holds no address."""

    key: AttachmentKey


@dataclass(frozen=True, slots=True)
class QuarantineRecord:
    """The address (a host prefix) must not be given before `until`, Unix seconds."""

    address: Prefix
    until: float


@dataclass(frozen=True, slots=True)
class QuarantineGone:
    """The address has rested, or is in use."""

    address: Prefix


@dataclass(frozen=True, slots=True)
class AcceptorRecord:
    """This voter's side of a family's election."""

    family: Family
    state: AcceptorState


@dataclass(frozen=True, slots=True)
class CounterRecord:
    """Generations below this may have been used."""

    generation: int


@dataclass(frozen=True, slots=True)
class FenceRecord:
    """Fences of this peer up to this revision in Coordination have been obeyed."""

    revision: int


@dataclass(frozen=True, slots=True)
class Owed:
    """Host prefixes that `heir` gets as soon as nothing uses them here; see `Obedience.obey`."""

    heir: PeerName
    addresses: frozenset[Prefix]


@dataclass(frozen=True, slots=True)
class OwedRecord:
    """Replaces what was owed before; None: nothing is."""

    owed: Owed | None


Record = (
    NameRecord
    | DocumentRecord
    | DocumentGone
    | DepartedRecord
    | DepartedGone
    | AllocationRecord
    | AllocationGone
    | QuarantineRecord
    | QuarantineGone
    | AcceptorRecord
    | CounterRecord
    | FenceRecord
    | OwedRecord
)


@dataclass(frozen=True, slots=True)
class State:
    """What the store holds at start. No name: a first start, or the state was lost."""

    name: PeerName | None = None
    documents: Mapping[Family, RingDocument] = field(default_factory=dict)
    departed: Mapping[tuple[Family, PeerName], RingDocument] = field(default_factory=dict)
    allocations: Mapping[AttachmentKey, Allocation] = field(default_factory=dict)
    # Host prefix -> Unix seconds.
    quarantine: Mapping[Prefix, float] = field(default_factory=dict)
    acceptors: Mapping[Family, AcceptorState] = field(default_factory=dict)
    generation: int = 1
    fence_revision: int = 0
    owed: Owed | None = None

    def with_records(self, records: Iterable[Record]) -> State:
        """The state after a batch, as a store would read it back."""
        scalars: dict[str, Any] = {}
        documents, allocations = dict(self.documents), dict(self.allocations)
        quarantine, acceptors = dict(self.quarantine), dict(self.acceptors)
        departed = dict(self.departed)
        for record in records:
            match record:
                case DocumentRecord():
                    documents[record.family] = record.document
                case DocumentGone():
                    documents.pop(record.family, None)
                case DepartedRecord():
                    departed[record.place] = record.document
                case DepartedGone():
                    departed.pop((record.family, record.writer), None)
                case AllocationRecord():
                    allocations[record.allocation.key] = record.allocation
                case AllocationGone():
                    allocations.pop(record.key, None)
                case QuarantineRecord():
                    quarantine[record.address] = record.until
                case QuarantineGone():
                    quarantine.pop(record.address, None)
                case AcceptorRecord():
                    acceptors[record.family] = record.state
                case _:
                    scalars |= _scalar(record)
        return replace(
            self,
            documents=documents,
            departed=departed,
            allocations=allocations,
            quarantine=quarantine,
            acceptors=acceptors,
            **scalars,
        )


def _scalar(record: NameRecord | CounterRecord | FenceRecord | OwedRecord) -> dict[str, Any]:
    match record:
        case NameRecord(name):
            return {"name": name}
        case CounterRecord(generation):
            return {"generation": generation}
        case FenceRecord(revision):
            return {"fence_revision": revision}
        case OwedRecord(owed):
            return {"owed": owed}
