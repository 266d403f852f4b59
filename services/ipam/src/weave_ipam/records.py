"""The core's durable records <-> entries of the store. Keys and values as state.proto says."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from weave.ipam.v1 import state_pb2
from weave_ipam.codec import (
    key_from_proto,
    key_to_proto,
    prefix_from_proto,
    prefixes_to_proto,
    workload_from_proto,
    workload_to_proto,
)
from weave_ipam.core import records
from weave_ipam.core.documents import AcceptorState, family_key, family_of_key
from weave_ipam.core.records import Allocation, Owed, Record, State
from weave_ipam.errors import StateDamaged
from weave_ipam.wire import decode_acceptor, decode_ring, encode_acceptor, encode_ring, parse
from weave_model.attachment import AttachmentKey
from weave_model.peer import PeerName
from weave_model.prefix import Family, Prefix, address_from_bytes
from weave_model.ring import RingDocument
from weave_runtime.store import Format

# Grows when an older ipam could no longer read what this one writes.
STATE_FORMAT = Format(version=1, oldest_reader=1)

NAME = "name"
GENERATION = "generation"
FENCE = "fence"
OWED = "owed"


def entries_of(batch: Iterable[Record]) -> dict[str, bytes | None]:
    """What to write for some records, in order; None removes an entry."""
    return dict(_entry_of(record) for record in batch)


def state_of(entries: Mapping[str, bytes], store: str) -> State:
    """What a store's entries say. Entries of unknown kinds are another version's and left alone.

    Raises StateDamaged, naming `store` and the entry.
    """
    draft = _Draft()
    for key, value in entries.items():
        try:
            draft.read(key, value)
        except ValueError as error:
            raise StateDamaged(
                f"{store} is damaged: entry {key!r} cannot be read ({error}): "
                "move it away to start without its state"
            ) from error
    return draft.state()


def for_ranges(
    entries: Mapping[str, bytes], universes: Mapping[Family, Prefix]
) -> tuple[dict[str, bytes], dict[str, bytes]]:
    """The entries as these ranges want them, and what is to be set aside for others.

    A range given by mistake must not cost the space that this peer owns of the right one: the
    document of a range that is left is kept under a key of its own, and comes back with its range.
    The entries must be readable (see `state_of`).
    """
    chosen, aside = dict(entries), dict[str, bytes]()
    for family in Family:
        key, universe = f"ring/{family_key(family)}", universes.get(family)
        stored = decode_ring(entries[key]).universe if key in entries else None
        if stored == universe:
            continue
        if stored is not None:
            aside[_aside_key(stored)] = entries[key]
        if universe is not None and _aside_key(universe) in entries:
            chosen[key] = entries[_aside_key(universe)]
    return chosen, aside


def allocation_key(key: AttachmentKey) -> str:
    """The store's key of an allocation."""
    return f"allocation/{key.network}/{key.container_id}/{key.interface}"


def _departed_key(family: Family, writer: PeerName) -> str:
    return f"departed/{family_key(family)}/{bytes(writer).hex()}"


def _aside_key(universe: Prefix) -> str:
    return f"aside/{family_key(universe.family)}/{universe}"


def _entry_of(record: Record) -> tuple[str, bytes | None]:
    match record:
        case records.NameRecord(name):
            return NAME, bytes(name)
        case records.DocumentRecord(document):
            return f"ring/{family_key(record.family)}", encode_ring(document)
        case records.DocumentGone(family):
            return f"ring/{family_key(family)}", None
        case records.DepartedRecord(_, document):
            return _departed_key(*record.place), encode_ring(document)
        case records.DepartedGone(writer, family):
            return _departed_key(family, writer), None
        case records.AllocationRecord(allocation):
            return allocation_key(allocation.key), _encode_allocation(allocation)
        case records.AllocationGone(key):
            return allocation_key(key), None
        case records.QuarantineRecord(address, until):
            message = state_pb2.QuarantineRecord(address=address.to_bytes(), until_unix_s=until)
            return f"quarantine/{address.to_bytes().hex()}", message.SerializeToString()
        case records.QuarantineGone(address):
            return f"quarantine/{address.to_bytes().hex()}", None
        case records.AcceptorRecord(family, state):
            return f"paxos/{family_key(family)}", encode_acceptor(state)
        case _:
            return _single_entry_of(record)


def _single_entry_of(
    record: records.CounterRecord | records.FenceRecord | records.OwedRecord,
) -> tuple[str, bytes | None]:
    match record:
        case records.CounterRecord(generation):
            return GENERATION, str(generation).encode()
        case records.FenceRecord(revision):
            return FENCE, str(revision).encode()
        case records.OwedRecord(owed):
            return OWED, _encode_owed(owed) if owed is not None else None


class _Draft:
    """A state that is being read."""

    def __init__(self) -> None:
        self._name: PeerName | None = None
        self._documents: dict[Family, RingDocument] = {}
        self._departed: dict[tuple[Family, PeerName], RingDocument] = {}
        self._allocations: dict[AttachmentKey, Allocation] = {}
        self._quarantine: dict[Prefix, float] = {}
        self._acceptors: dict[Family, AcceptorState] = {}
        self._owed: Owed | None = None
        self._numbers = {GENERATION: 1, FENCE: 0}

    def read(self, key: str, value: bytes) -> None:
        """Takes one entry in. Raises ValueError."""
        kind, _, rest = key.partition("/")
        match kind:
            case "name":
                self._name = PeerName(value)
            case "generation" | "fence":
                self._numbers[kind] = int(value)
            case "allocation":
                allocation = _decode_allocation(value)
                if allocation_key(allocation.key) != key:
                    raise ValueError(f"it is the allocation of {allocation.key}")
                self._allocations[allocation.key] = allocation
            case "quarantine":
                message = state_pb2.QuarantineRecord()
                parse(message, value)
                address = Prefix.host(*address_from_bytes(message.address))
                self._quarantine[address] = message.until_unix_s
            case "owed":
                self._owed = _decode_owed(value)
            case "ring":
                self._documents[_family(rest)] = decode_ring(value)
            case "departed":
                family, _, writer = rest.partition("/")
                place = _family(family), PeerName(bytes.fromhex(writer))
                self._departed[place] = decode_ring(value)
            case "paxos":
                self._acceptors[_family(rest)] = decode_acceptor(value)
            case _:
                pass

    def state(self) -> State:
        """All that was read."""
        return State(
            name=self._name,
            documents=self._documents,
            departed=self._departed,
            allocations=self._allocations,
            quarantine=self._quarantine,
            acceptors=self._acceptors,
            generation=self._numbers[GENERATION],
            fence_revision=self._numbers[FENCE],
            owed=self._owed,
        )


def _encode_allocation(allocation: Allocation) -> bytes:
    return state_pb2.AllocationRecord(
        key=key_to_proto(allocation.key),
        addresses=prefixes_to_proto(allocation.addresses),
        workload=workload_to_proto(allocation.workload),
        generation=allocation.generation,
        since_unix_s=allocation.since,
        adopted=allocation.adopted,
    ).SerializeToString()


def _decode_allocation(value: bytes) -> Allocation:
    message = state_pb2.AllocationRecord()
    parse(message, value)
    return Allocation(
        key=key_from_proto(message.key),
        addresses=tuple(prefix_from_proto(address) for address in message.addresses),
        workload=workload_from_proto(message.workload),
        generation=message.generation,
        since=message.since_unix_s,
        adopted=message.adopted,
    )


def _encode_owed(owed: Owed) -> bytes:
    addresses = [address.to_bytes() for address in sorted(owed.addresses)]
    return state_pb2.OwedRecord(heir=owed.heir, addresses=addresses).SerializeToString()


def _decode_owed(value: bytes) -> Owed:
    message = state_pb2.OwedRecord()
    parse(message, value)
    addresses = (Prefix.host(*address_from_bytes(address)) for address in message.addresses)
    return Owed(PeerName(message.heir), frozenset(addresses))


def _family(text: str) -> Family:
    family = family_of_key(text)
    if family is None:
        raise ValueError(f"{text!r} is no address family")
    return family
