"""What the kernel holds, as frozen values: the language of planner, differ and kernel.

A `KernelState` is either what should be or what was found; it has only what the router owns. Two
values of one kind with equal `key` are the same kernel object, perhaps with other properties.
"""

from __future__ import annotations

import enum
from collections.abc import Mapping
from dataclasses import dataclass, field

from weave_model.prefix import Family, Prefix, format_address

# Marks our routes and rules among all others (rtnetlink: rtm_protocol).
ROUTE_PROTOCOL = 84
MAIN_TABLE = 254


class LinkKind(enum.StrEnum):
    """Kinds of devices that the router makes; the value is the kernel's name of the kind."""

    BRIDGE = "bridge"
    VXLAN = "vxlan"
    VETH = "veth"


@dataclass(frozen=True, slots=True)
class Vxlan:
    """What makes a VXLAN device what it is; the kernel cannot change it later."""

    vni: int
    port: int
    family: Family
    # Source address of the tunnel; None: by route. A device of the IPv6 underlay needs one.
    local: Prefix | None
    learning: bool = False
    dont_fragment: bool = True
    ttl: int = 64


@dataclass(frozen=True, slots=True)
class Link:
    """A device. Of a pod's veth it is the host end."""

    name: str
    kind: LinkKind
    mac: bytes
    mtu: int
    up: bool = True
    alias: str = ""
    vxlan: Vxlan | None = None
    # No IPv6 link-local address by itself (addrgenmode none): no DAD, no router solicitations.
    addrgen_none: bool = True
    # Its bridge; ours have none.
    master: bool = False
    # By which the table's rules know where a packet comes from.
    group: int = 0

    @property
    def key(self) -> str:
        """Links are known by name."""
        return self.name

    @property
    def needs_anew(self) -> tuple[object, ...]:
        """The properties which only a new device can have."""
        return (self.kind, self.vxlan)

    def __str__(self) -> str:
        return f"link {self.name}"


@dataclass(frozen=True, slots=True)
class Address:
    """An address of a device, without duplicate detection."""

    link: str
    prefix: Prefix
    # Of the network on the link; 0: full length, as all that the router makes.
    length: int = 0
    # Scope link: never chosen as a source towards elsewhere.
    link_scope: bool = False

    @property
    def key(self) -> tuple[str, Prefix]:
        """Device and address."""
        return self.link, self.prefix

    def __str__(self) -> str:
        return f"address {self.prefix} on {self.link}"


class RouteKind(enum.IntEnum):
    """Route types; the values are the kernel's RTN_*."""

    UNICAST = 1
    UNREACHABLE = 7
    THROW = 9


@dataclass(frozen=True, slots=True)
class Route:
    """A route of protocol 84."""

    destination: Prefix
    kind: RouteKind = RouteKind.UNICAST
    table: int = MAIN_TABLE
    link: str = ""
    gateway: Prefix | None = None
    onlink: bool = False
    source: Prefix | None = None
    # 0: that of the device.
    mtu: int = 0

    @property
    def key(self) -> tuple[int, Prefix]:
        """Table and destination: the router has one route for each."""
        return self.table, self.destination

    def __str__(self) -> str:
        table = "" if self.table == MAIN_TABLE else f" table {self.table}"
        return f"route {self.destination}{table}"


@dataclass(frozen=True, slots=True)
class Rule:
    """A policy rule of protocol 84: what comes in by `link` looks up `table`.

    Older releases made such rules. None is wanted any more: they are found and removed.
    """

    family: Family
    preference: int
    link: str
    table: int

    @property
    def key(self) -> Rule:
        """A rule cannot be changed, only replaced."""
        return self

    def __str__(self) -> str:
        return f"rule {self.preference} iif {self.link} (IPv{self.family})"


@dataclass(frozen=True, slots=True)
class Neighbour:
    """A permanent neighbour entry."""

    link: str
    address: Prefix
    mac: bytes

    @property
    def key(self) -> tuple[str, Prefix]:
        """Device and address."""
        return self.link, self.address

    def __str__(self) -> str:
        return f"neighbour {_bare(self.address)} on {self.link}"


@dataclass(frozen=True, slots=True)
class FdbEntry:
    """Which tunnel end has a MAC address."""

    link: str
    mac: bytes
    remote: Prefix

    @property
    def key(self) -> FdbEntry:
        """All of it: a MAC can have several ends, of which all but one are wrong."""
        return self

    def __str__(self) -> str:
        return f"forwarding entry {self.mac.hex(':')} to {_bare(self.remote)} on {self.link}"


@dataclass(frozen=True, slots=True)
class Sysctl:
    """A kernel switch, by its path below /proc/sys."""

    path: str
    value: str

    @property
    def key(self) -> str:
        """The path."""
        return self.path

    def __str__(self) -> str:
        return f"sysctl {self.path.replace('/', '.')}"


@dataclass(frozen=True, slots=True)
class Binding:
    """An open port: this device may send from this MAC and address, and from no other."""

    link: str
    mac: bytes
    address: Prefix

    def __str__(self) -> str:
        return f"binding {self.link} {self.mac.hex(':')} {_bare(self.address)}"


@dataclass(frozen=True, slots=True)
class Accept:
    """Our one rule in somebody else's forward chain: it accepts what we have marked."""

    family: str
    table: str
    chain: str

    @property
    def key(self) -> Accept:
        """All of it."""
        return self

    def __str__(self) -> str:
        return f"accept rule in chain {self.family} {self.table} {self.chain}"


# Rules of the old iptables can be read, not added to.
LEGACY_CHAIN = Accept("iptables-legacy", "filter", "FORWARD")


@dataclass(frozen=True, slots=True)
class Blocker:
    """Somebody else's forward chain that drops what no rule of it accepts."""

    where: Accept
    priority: int
    # Its owner has put a rule there that accepts our mark.
    knows_mark: bool = False


Element = Prefix | Binding
KernelObject = Link | Address | Route | Rule | Neighbour | FdbEntry | Sysctl | Accept


@dataclass(frozen=True, slots=True)
class KernelState:
    """All that the router owns in the kernel."""

    links: frozenset[Link] = frozenset()
    addresses: frozenset[Address] = frozenset()
    routes: frozenset[Route] = frozenset()
    rules: frozenset[Rule] = frozenset()
    neighbours: frozenset[Neighbour] = frozenset()
    fdb: frozenset[FdbEntry] = frozenset()
    sysctls: frozenset[Sysctl] = frozenset()
    accepts: frozenset[Accept] = frozenset()
    # Not ours; only ever found.
    blockers: frozenset[Blocker] = frozenset()
    # Text of the nftables table without the elements of its sets; empty: no table.
    ruleset: str = ""
    # Elements of its sets, by name.
    sets: Mapping[str, frozenset[Element]] = field(default_factory=dict)


def _bare(prefix: Prefix) -> str:
    return format_address(prefix.family, prefix.address)
