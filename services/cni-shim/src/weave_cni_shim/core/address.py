"""An address on an interface: the host's number together with the length of its subnet.

`weave_model.prefix.Prefix` has no bits below its length, so it cannot say 10.32.0.5/12.
"""

from __future__ import annotations

from dataclasses import dataclass

from weave_model.prefix import Family, Prefix, format_address


@dataclass(frozen=True, slots=True)
class InterfaceAddress:
    """One address and the subnet it was given in."""

    family: Family
    address: int
    length: int

    def __post_init__(self) -> None:
        if not 0 <= self.length <= self.family.bits:
            raise ValueError(f"prefix length {self.length} is not of {self.family.name}")

    @classmethod
    def alone(cls, host: Prefix) -> InterfaceAddress:
        """A single address without a subnet: /32 or /128."""
        return cls(host.family, host.address, host.family.bits)

    @property
    def host(self) -> Prefix:
        """The address without its subnet."""
        return Prefix.host(self.family, self.address)

    def __str__(self) -> str:
        return f"{format_address(self.family, self.address)}/{self.length}"
