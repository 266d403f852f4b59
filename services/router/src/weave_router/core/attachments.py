"""The attachments of this node and the two-phase attach as a state machine (docs/adr/0003).

    begin_prepare -> PREPARING -> prepared -> PREPARED -> activate -> ACTIVE
                         |                        |                      |
                         +------- forget ---------+------ forget --------+

A record exists from the moment work on its kernel objects begins until it has ended, so that the
planner never takes an attach that is under way for drift. Generations order ADD against DEL: they
grow with each allocation.
"""

from __future__ import annotations

import enum
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from typing import Any

from weave_model.attachment import AttachmentKey, ContainerId, Route, Workload
from weave_model.errors import Aborted, Absent, Conflict, Invalid
from weave_model.prefix import Family, Prefix
from weave_router.core import naming

_UNKNOWN_WORKLOAD = Workload()


class Phase(enum.StrEnum):
    """How far an attach has come."""

    PREPARING = "preparing"
    PREPARED = "prepared"
    ACTIVE = "active"


@dataclass(frozen=True, slots=True)
class Attachment:
    """What is asked for. Raises ValueError for addresses that no interface can have."""

    key: AttachmentKey
    # /32 and /128, one per family at most; the first gives the hardware address unless `mac` does.
    addresses: tuple[Prefix, ...]
    # Empty: default routes, or universe routes for a second interface of a sandbox; unless none are
    # wanted at all.
    routes: tuple[Route, ...] = ()
    no_routes: bool = False
    # 0: that of the overlay.
    mtu: int = 0
    # Empty: derived.
    mac: bytes = b""
    workload: Workload = _UNKNOWN_WORKLOAD
    # 0: not known, after the state was rebuilt from the kernel.
    generation: int = 0
    netns_path: str = ""

    def __post_init__(self) -> None:
        if not self.addresses:
            raise ValueError(f"attachment {self.key} has no address")
        for address in self.addresses:
            if not address.is_host:
                raise ValueError(f"address {address} of {self.key} is no single address")
        families = [address.family for address in self.addresses]
        if len(families) != len(set(families)):
            raise ValueError(f"attachment {self.key} has two addresses of one family")
        if self.mac and (len(self.mac) != 6 or self.mac[0] & 1 or not any(self.mac)):
            raise ValueError(f"{self.mac.hex(':')!r} of {self.key} is no unicast hardware address")
        naming.alias(self.key)

    @property
    def hardware_address(self) -> bytes:
        """The one asked for, or that of the first address."""
        return self.mac or naming.pod_mac(self.addresses[0])

    def has_family(self, family: Family) -> bool:
        """Has it an address of this family?"""
        return any(address.family is family for address in self.addresses)


@dataclass(frozen=True, slots=True)
class Record:
    """An attachment and its kernel side. `mtu` is what its link was made with."""

    attachment: Attachment
    link: str
    phase: Phase
    mtu: int
    # Routes as installed in the sandbox, defaults filled in.
    routes: tuple[Route, ...] = ()

    @property
    def key(self) -> AttachmentKey:
        """The attachment's."""
        return self.attachment.key


class Attachments:
    """All attachments of the node by key. Pure: decides, and leaves kernel and store to others.

    Who holds an address, a link or another interface of a sandbox is known without looking at all
    of them: what an attach costs must not grow with the pods of the node.
    """

    def __init__(self, records: Iterable[Record] = ()) -> None:
        self._records: dict[AttachmentKey, Record] = {}
        # Keys by what they hold; more than one only where a store or the kernel is in disorder.
        self._by_address: dict[Prefix, list[AttachmentKey]] = {}
        self._by_link: dict[str, list[AttachmentKey]] = {}
        self._by_container: dict[ContainerId, list[AttachmentKey]] = {}
        for record in records:
            self._put(record)

    def __iter__(self) -> Iterator[Record]:
        return iter(self._records.values())

    def __len__(self) -> int:
        return len(self._records)

    def get(self, key: AttachmentKey) -> Record | None:
        """The record of a key."""
        return self._records.get(key)

    def of_link(self, link: str) -> Record | None:
        """The record whose host end is called so."""
        return next((self._records[key] for key in self._by_link.get(link, ())), None)

    def has_sibling(self, key: AttachmentKey) -> bool:
        """Has its sandbox another interface?"""
        return any(other != key for other in self._by_container.get(key.container_id, ()))

    def adopt(self, record: Record) -> None:
        """Takes over what a store or the kernel knows."""
        self._put(record)

    def existing(self, wanted: Attachment) -> Record | None:
        """The record that fulfils an equal request already, with the newer generation; None:
        prepare anew.

        Raises Conflict when the key is attached with other addresses, Aborted when a newer one is.
        """
        record = self._records.get(wanted.key)
        if record is None:
            return None
        held = record.attachment
        if wanted.generation and held.generation > wanted.generation:
            raise Aborted(
                f"{wanted.key} is attached with generation {held.generation}, "
                f"newer than {wanted.generation}"
            )
        if set(held.addresses) != set(wanted.addresses):
            had = ", ".join(map(str, held.addresses))
            raise Conflict(f"{wanted.key} is attached with {had}; detach it first")
        for other, asked, word in (
            (held.mac, wanted.mac, "hardware address"),
            (held.mtu, wanted.mtu, "MTU"),
            ((held.routes, held.no_routes), (wanted.routes, wanted.no_routes), "routes"),
        ):
            if held.generation and other != asked:
                raise Conflict(f"{wanted.key} is attached with another {word}; detach it first")
        return record

    def holder_of(self, address: Prefix, besides: AttachmentKey) -> Record | None:
        """Who else has an address."""
        keys = self._by_address.get(address, ())
        return next((self._records[key] for key in keys if key != besides), None)

    def free_link_name(self, key: AttachmentKey) -> str:
        """A name for the host end that no other attachment has."""
        attempt = 0
        while any(other != key for other in self._by_link.get(naming.pod_link(key, attempt), ())):
            attempt += 1
        return naming.pod_link(key, attempt)

    def begin_prepare(self, wanted: Attachment, link: str, mtu: int) -> Record:
        """Notes that work has begun. Raises Conflict when another attachment holds an address."""
        for address in wanted.addresses:
            other = self.holder_of(address, wanted.key)
            if other is not None:
                raise Conflict(f"address {address} is attached to {other.key}")
        record = Record(wanted, link, Phase.PREPARING, wanted.mtu or mtu)
        self._put(record)
        return record

    def prepared(self, key: AttachmentKey, routes: tuple[Route, ...]) -> Record:
        """Notes that the interface stands."""
        record = replace(self._records[key], phase=Phase.PREPARED, routes=routes)
        self._put(record)
        return record

    def renew(self, record: Record, wanted: Attachment) -> Record:
        """Takes what an equal, newer request says besides the interface itself."""
        renewed = replace(record, attachment=wanted)
        self._put(renewed)
        return renewed

    def to_activate(self, key: AttachmentKey, generation: int) -> Record:
        """The record whose port may open. Raises Absent (not prepared), Aborted (prepared anew
        meanwhile)."""
        record = self._records.get(key)
        if record is None or record.phase is Phase.PREPARING:
            raise Absent(f"{key} is not prepared")
        held = record.attachment.generation
        if held and generation != held:
            raise Aborted(f"{key} was prepared with generation {held}, not {generation}")
        return record

    def activated(self, record: Record) -> Record:
        """Notes that the port is open."""
        opened = replace(record, phase=Phase.ACTIVE)
        self._put(opened)
        return opened

    def forget(self, key: AttachmentKey) -> Record | None:
        """Removes a record and returns it."""
        record = self._records.pop(key, None)
        if record is not None:
            self._unlist(record)
        return record

    def _put(self, record: Record) -> None:
        before = self._records.get(record.key)
        if before is not None:
            self._unlist(before)
        self._records[record.key] = record
        for index, item in self._held(record):
            index.setdefault(item, []).append(record.key)

    def _unlist(self, record: Record) -> None:
        for index, item in self._held(record):
            index[item].remove(record.key)
            if not index[item]:
                del index[item]

    def _held(self, record: Record) -> Iterator[tuple[dict[Any, list[AttachmentKey]], Any]]:
        for address in record.attachment.addresses:
            yield self._by_address, address
        yield self._by_link, record.link
        yield self._by_container, record.key.container_id


def check_addresses(attachment: Attachment, universes: Iterable[Prefix]) -> None:
    """Raises Invalid for an address outside the universe, which no other node could reach."""
    ranges = list(universes)
    for address in attachment.addresses:
        if not any(universe.contains(address) for universe in ranges):
            raise Invalid(
                f"address {address} of {attachment.key} is outside "
                f"{', '.join(map(str, ranges)) or 'every range'}"
            )
