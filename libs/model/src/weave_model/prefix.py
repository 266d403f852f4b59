"""CIDR algebra over 128-bit integers, one code for both address families.

`ipaddress` stays at the edges (parsing, printing): arithmetic on its objects costs ten times as
much.
A `Prefix` is always canonical: no bit is set below its length.
"""

from __future__ import annotations

import enum
import ipaddress
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Self


class Family(enum.IntEnum):
    """An address family; the value is the IP version."""

    IPV4 = 4
    IPV6 = 6

    @property
    def bits(self) -> int:
        """Bits of an address: 32 or 128."""
        return 32 if self is Family.IPV4 else 128

    @property
    def octets(self) -> int:
        """Bytes of an address on the wire: 4 or 16."""
        return self.bits // 8


@dataclass(frozen=True, slots=True, order=True)
class Prefix:
    """A CIDR block, or with full length a single address. Sorts by family, address, length."""

    family: Family
    address: int
    length: int

    def __post_init__(self) -> None:
        bits = self.family.bits
        if not 0 <= self.length <= bits:
            raise ValueError(f"prefix length {self.length} is not between 0 and {bits}")
        if not 0 <= self.address < 1 << bits:
            raise ValueError(f"address {self.address:#x} does not fit into {bits} bits")
        if self.address & ((1 << (bits - self.length)) - 1):
            raise ValueError(
                f"{format_address(self.family, self.address)}/{self.length} has host bits set"
            )

    @classmethod
    def parse(cls, text: str) -> Self:
        """Reads `10.32.0.0/12`, `fd00::/64` or one address. Raises ValueError naming the text."""
        try:
            network = ipaddress.ip_network(text.strip(), strict=True)
        except ValueError as error:
            raise ValueError(f"{text!r} is no address range in CIDR form: {error}") from error
        return cls(Family(network.version), int(network.network_address), network.prefixlen)

    @classmethod
    def host(cls, family: Family, address: int) -> Self:
        """The single address as a prefix of full length."""
        return cls(family, address, family.bits)

    @classmethod
    def from_bytes(cls, address: bytes, length: int) -> Self:
        """From the wire form, 4 or 16 bytes. Raises ValueError."""
        family, number = address_from_bytes(address)
        return cls(family, number, length)

    def to_bytes(self) -> bytes:
        """The address in network byte order, 4 or 16 bytes."""
        return self.address.to_bytes(self.family.octets, "big")

    @property
    def size(self) -> int:
        """Number of addresses."""
        return 1 << (self.family.bits - self.length)

    @property
    def end(self) -> int:
        """One past the last address."""
        return self.address + self.size

    @property
    def is_host(self) -> bool:
        """Is it a single address?"""
        return self.length == self.family.bits

    def contains(self, other: Prefix) -> bool:
        """Does `other`, of the same family, lie inside or equal this?"""
        return (
            self.family is other.family
            and self.length <= other.length
            and other.address >> (self.family.bits - self.length)
            == self.address >> (self.family.bits - self.length)
        )

    def contains_address(self, address: int) -> bool:
        """Does the address, of this family, lie inside?"""
        return self.address <= address < self.end

    def overlaps(self, other: Prefix) -> bool:
        """Do they share an address? CIDR blocks do only when one contains the other."""
        return self.contains(other) or other.contains(self)

    def halves(self) -> tuple[Prefix, Prefix]:
        """The lower and the upper half. Raises ValueError on a single address."""
        if self.is_host:
            raise ValueError(f"{self} cannot be halved")
        lower = Prefix(self.family, self.address, self.length + 1)
        return lower, Prefix(self.family, self.address + lower.size, self.length + 1)

    def parent(self) -> Prefix:
        """The block twice as large that contains this. Raises ValueError on a whole family."""
        if self.length == 0:
            raise ValueError(f"{self} has no parent")
        size = self.size * 2
        return Prefix(self.family, self.address - self.address % size, self.length - 1)

    def buddy(self) -> Prefix:
        """The other half of the parent. Raises ValueError on a whole family."""
        if self.length == 0:
            raise ValueError(f"{self} has no buddy")
        return Prefix(self.family, self.address ^ self.size, self.length)

    def __str__(self) -> str:
        return f"{format_address(self.family, self.address)}/{self.length}"


def format_address(family: Family, address: int) -> str:
    """The address as text, in the canonical form of its family (RFC 5952 for IPv6)."""
    if family is Family.IPV4:
        return str(ipaddress.IPv4Address(address))
    return str(ipaddress.IPv6Address(address))


def parse_address(text: str) -> tuple[Family, int]:
    """Reads one address. Raises ValueError naming the text."""
    try:
        address = ipaddress.ip_address(text.strip())
    except ValueError as error:
        raise ValueError(f"{text!r} is no IP address") from error
    return Family(address.version), int(address)


def address_from_bytes(raw: bytes) -> tuple[Family, int]:
    """Reads the wire form of an address, 4 or 16 bytes. Raises ValueError."""
    for family in Family:
        if len(raw) == family.octets:
            return family, int.from_bytes(raw, "big")
    raise ValueError(f"an address has 4 or 16 bytes, not {len(raw)}")


def cover(family: Family, start: int, end: int) -> Iterator[Prefix]:
    """The fewest prefixes that make up the range [start, end), in order."""
    bits = family.bits
    while start < end:
        aligned = (start & -start).bit_length() - 1 if start else bits
        fitting = (end - start).bit_length() - 1
        exponent = min(aligned, fitting)
        yield Prefix(family, start, bits - exponent)
        start += 1 << exponent


def coalesce(prefixes: Iterable[Prefix]) -> list[Prefix]:
    """The fewest disjoint prefixes that cover the same addresses, sorted."""
    merged: list[list[int]] = []
    families: list[Family] = []
    for prefix in sorted(prefixes):
        if merged and families[-1] is prefix.family and prefix.address <= merged[-1][1]:
            merged[-1][1] = max(merged[-1][1], prefix.end)
        else:
            merged.append([prefix.address, prefix.end])
            families.append(prefix.family)
    return [
        piece
        for family, (start, end) in zip(families, merged, strict=True)
        for piece in cover(family, start, end)
    ]


def subtract(prefixes: Iterable[Prefix], removed: Iterable[Prefix]) -> list[Prefix]:
    """What of `prefixes` lies in none of `removed`: fewest disjoint prefixes, sorted."""
    holes = coalesce(removed)
    rest: list[Prefix] = []
    position = 0
    for prefix in coalesce(prefixes):
        while position < len(holes) and (
            holes[position].family,
            holes[position].end,
        ) <= (
            prefix.family,
            prefix.address,
        ):
            position += 1
        start = prefix.address
        index = position
        while (
            index < len(holes)
            and holes[index].family is prefix.family
            and holes[index].address < prefix.end
        ):
            rest.extend(cover(prefix.family, start, holes[index].address))
            start = max(start, holes[index].end)
            index += 1
        rest.extend(cover(prefix.family, start, prefix.end))
    return rest
