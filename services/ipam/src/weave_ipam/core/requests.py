"""What callers want of addresses: checked when it comes, tried until it succeeds or cannot.

A try changes nothing unless it succeeds: so a cancelled request leaves nothing behind.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from weave_ipam.core.effects import RequestId
from weave_ipam.core.ledger import Ledger
from weave_ipam.core.options import FamilyOptions
from weave_ipam.core.pool import Pool
from weave_ipam.core.records import Allocation
from weave_ipam.core.results import Allocated, IssuedAddress
from weave_model.attachment import AttachmentKey, Workload
from weave_model.errors import Conflict, DomainError, Exhausted, Invalid
from weave_model.prefix import Family, Prefix, format_address


@dataclass(slots=True)
class Waiting:
    """What a try could not get: space inside these prefixes, or only time."""

    wants: list[Prefix] = field(default_factory=list)
    reasons: list[str] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class AllocateRequest:
    """One address per family."""

    request: RequestId
    key: AttachmentKey
    workload: Workload
    subnets: Mapping[Family, Prefix]
    requested: Mapping[Family, Prefix]

    def __str__(self) -> str:
        wanted = [*self.requested.values(), *self.subnets.values()]
        return " ".join([str(self.key), *map(str, wanted)])


@dataclass(frozen=True, slots=True)
class ClaimRequest:
    """Addresses that are in use already."""

    request: RequestId
    key: AttachmentKey
    workload: Workload
    addresses: tuple[Prefix, ...]

    def __str__(self) -> str:
        return " ".join([str(self.key), *map(str, self.addresses)])


def by_family(
    prefixes: Iterable[Prefix], pools: Mapping[Family, Pool], what: str
) -> dict[Family, Prefix]:
    """At most one prefix per configured family. Raises Invalid."""
    found: dict[Family, Prefix] = {}
    for prefix in prefixes:
        pool = pools.get(prefix.family)
        if pool is None:
            raise Invalid(f"{what} {prefix}: no IPv{int(prefix.family)} range is configured")
        if not prefix.overlaps(pool.options.universe):
            raise Invalid(f"range {prefix} out of bounds: {pool.options.universe}")
        if prefix.family in found:
            raise Invalid(f"{what} {prefix}: {found[prefix.family]} was given for the same family")
        found[prefix.family] = prefix
    return found


def check_requested(requested: Mapping[Family, Prefix], subnets: Mapping[Family, Prefix]) -> None:
    """Raises Invalid for what is no single address or outside the subnet asked for."""
    for family, address in requested.items():
        if not address.is_host:
            raise Invalid(f"requested address {address} is no single address")
        subnet = subnets.get(family)
        if subnet is not None and not subnet.contains(address):
            raise Invalid(f"requested address {address} lies outside the subnet {subnet}")


def subnet_of(wanted: AllocateRequest, options: FamilyOptions) -> Prefix:
    """Where the address of a family shall lie; an address requested outside the default subnet
    lies in the universe."""
    subnet = wanted.subnets.get(options.family)
    if subnet is not None:
        return subnet
    address = wanted.requested.get(options.family)
    if address is not None and not options.default_subnet.contains(address):
        return options.universe
    return options.default_subnet


def held_already(
    wanted: AllocateRequest, options: FamilyOptions, allocation: Allocation | None
) -> IssuedAddress | None:
    """What the attachment has of a family. Raises Conflict when it is not what is wanted."""
    held = [
        address
        for address in (allocation.addresses if allocation is not None else ())
        if address.family is options.family
    ]
    if not held:
        return None
    subnet, requested = subnet_of(wanted, options), wanted.requested.get(options.family)
    for address in held:
        if requested == address or (requested is None and subnet.contains(address)):
            return IssuedAddress(address, subnet)
    raise Conflict(f"attachment {wanted.key} holds {held[0]} already, not {requested or subnet}")


def find_address(wanted: AllocateRequest, pool: Pool, waiting: Waiting) -> Prefix | None:
    """A free address of one family, or None: `waiting` says for what. Raises Exhausted,
    Conflict."""
    requested = wanted.requested.get(pool.family)
    if requested is not None:
        return requested if _is_obtainable(requested, pool, waiting, claim=False) else None
    subnet = subnet_of(wanted, pool.options)
    address = pool.space.find(subnet)
    if address is not None:
        return Prefix.host(pool.family, address)
    within = subnet if pool.options.universe.contains(subnet) else pool.options.universe
    refusal = pool.asking.refusal(within)
    if refusal is not None and not pool.space.is_resting_within(within):
        told = f" ({refusal})" if refusal else ""
        raise Exhausted(f"no free address is left in {subnet}: all peers were asked{told}")
    waiting.wants.append(within)
    waiting.reasons.append(f"a free address in {subnet}")
    return None


def check_claim(pool: Pool, address: Prefix, waiting: Waiting) -> None:
    """Can an address in use be recorded? `waiting` says what for if not yet. Raises Conflict."""
    _is_obtainable(address, pool, waiting, claim=True)


def _is_obtainable(address: Prefix, pool: Pool, waiting: Waiting, *, claim: bool) -> bool:
    number, space = address.address, pool.space
    text = format_address(address.family, number)
    if number in space.used:
        raise Conflict(f"address {text} is already owned by {space.used[number]}")
    if space.is_held(number) and address in pool.owed:
        waiting.reasons.append(f"address {text}, which the heir of this peer may have given")
        return False
    if space.is_held(number):
        if claim or number not in space.resting:
            return True
        waiting.reasons.append(f"the quarantine of {text}")
        return False
    refusal = pool.asking.refusal(address)
    if refusal:
        raise Conflict(
            f"address {text} is owned by other peer {pool.owner_label(number)} - {refusal}"
        )
    waiting.wants.append(address)
    waiting.reasons.append(f"address {text} from {pool.owner_label(number)}")
    return False


def allocated(
    wanted: AllocateRequest, pools: Iterable[Pool], allocation: Allocation
) -> Allocated | DomainError:
    """The answer for an attachment that holds all it wants."""
    issued = [held_already(wanted, pool.options, allocation) for pool in pools]
    return Allocated(tuple(one for one in issued if one is not None), allocation.generation)


def check_unheld(ledger: Ledger, key: AttachmentKey, addresses: Iterable[Prefix]) -> None:
    """Raises Conflict when another attachment of this peer holds one of the addresses."""
    for address in addresses:
        holder = ledger.holder(address)
        if holder is not None and holder != key:
            text = format_address(address.family, address.address)
            raise Conflict(f"address {text} is already owned by {holder}")
