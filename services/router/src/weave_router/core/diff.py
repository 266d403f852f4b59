"""The differ: the operations that lead from what was found to what should be, in an order that
breaks no traffic.

Additions go before removals, each thing after what it stands on: a route needs its device and its
source address, a packet in the tunnel needs its set element before its route. Removals run the
other way round.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace

from weave_router.core.state import Element, KernelObject, KernelState, Link, LinkKind, RouteKind


@dataclass(frozen=True, slots=True)
class Add:
    """Make an object that is not there. It fails when something foreign is in its place."""

    what: KernelObject

    def __str__(self) -> str:
        return f"{self.what} was missing"


@dataclass(frozen=True, slots=True)
class Change:
    """Give an object of ours its right properties."""

    found: KernelObject
    what: KernelObject

    def __str__(self) -> str:
        return f"{self.what} was wrong ({_difference(self.found, self.what)})"


@dataclass(frozen=True, slots=True)
class Remove:
    """Remove an object of ours; one that is gone already is success."""

    what: KernelObject

    def __str__(self) -> str:
        return f"{self.what} was too much"


@dataclass(frozen=True, slots=True)
class LoadRuleset:
    """Make the table's rules those of `body`, in one transaction; elements of sets stay."""

    body: str

    def __str__(self) -> str:
        return "table inet weave was missing or changed"


@dataclass(frozen=True, slots=True)
class UpdateSets:
    """Change elements of the table's sets, in one transaction."""

    removed: Mapping[str, frozenset[Element]] = field(default_factory=dict)
    added: Mapping[str, frozenset[Element]] = field(default_factory=dict)

    def __str__(self) -> str:
        parts = [
            f"set {name} {words} {', '.join(sorted(map(str, elements)))}"
            for changes, words in ((self.added, "lacked"), (self.removed, "had too much"))
            for name, elements in sorted(changes.items())
        ]
        return "; ".join(parts)


Operation = Add | Change | Remove | LoadRuleset | UpdateSets

# The order of additions. Rules come after the routes of the table they lead to.
_KINDS = ("links", "sysctls", "addresses", "neighbours", "fdb", "routes", "rules", "accepts")


def diff(desired: KernelState, found: KernelState) -> list[Operation]:
    """Operations in order. Empty exactly when all that is desired was found and nothing else.

    Missing pod links and switches that are found but not desired are left alone: only an attach
    makes the former, and nobody knows the former value of the latter.
    """
    operations = _links_anew(desired, found)
    found = _without_links(found, {str(link.key) for link in _objects(operations)})
    added: dict[str, list[Operation]] = {}
    removed: dict[str, list[Operation]] = {}
    for kind in _KINDS:
        added[kind], removed[kind] = _compare(getattr(desired, kind), getattr(found, kind))
    added["links"] = [operation for operation in added["links"] if not _makes_pod_link(operation)]
    removed["sysctls"] = []
    # A switch may be what lets a device have an address.
    operations += added["links"] + _in_switch_order(added["sysctls"]) + added["addresses"]
    if desired.ruleset and desired.ruleset != found.ruleset:
        operations.append(LoadRuleset(desired.ruleset))
    additions, removals = _compare_sets(desired, found)
    if additions:
        operations.append(additions)
    operations += added["neighbours"] + added["fdb"] + _in_route_order(added["routes"])
    operations += added["rules"] + added["accepts"] + removed["accepts"]
    operations += removed["rules"] + removed["routes"]
    if removals:
        operations.append(removals)
    operations += removed["fdb"] + removed["neighbours"] + removed["addresses"] + removed["links"]
    return operations


def _compare(
    desired: Iterable[KernelObject], found: Iterable[KernelObject]
) -> tuple[list[Operation], list[Operation]]:
    wanted, have = frozenset(desired), frozenset(found)
    if wanted == have:
        return [], []
    by_key = {item.key: item for item in have}
    keys = {item.key for item in wanted}
    additions: list[Operation] = []
    for item in sorted(wanted - have, key=str):
        other = by_key.get(item.key)
        additions.append(Add(item) if other is None else Change(other, item))
    extra = sorted((item for item in have - wanted if item.key not in keys), key=str)
    return additions, [Remove(item) for item in extra]


def _compare_sets(
    desired: KernelState, found: KernelState
) -> tuple[UpdateSets | None, UpdateSets | None]:
    """Additions and removals as two transactions, so that removals can wait for the routes.

    Where an addition overlaps a removal (a block was split) both are in the first: intervals must
    not overlap.
    """
    added: dict[str, frozenset[Element]] = {}
    removed: dict[str, frozenset[Element]] = {}
    together: dict[str, frozenset[Element]] = {}
    for name in desired.sets:
        have = found.sets.get(name, frozenset())
        more, less = desired.sets[name] - have, have - desired.sets[name]
        if more:
            added[name] = more
            if less and not name.startswith("bindings"):
                together[name] = less
                continue
        if less:
            removed[name] = less
    first = UpdateSets(removed=together, added=added) if added else None
    second = UpdateSets(removed=removed) if removed else None
    return first, second


def _links_anew(desired: KernelState, found: KernelState) -> list[Operation]:
    """Removals of devices that have to be made anew, because the kernel cannot change what is
    wrong."""
    wanted = {link.name: link for link in desired.links}
    return [
        Remove(link)
        for link in sorted(found.links, key=str)
        if link.name in wanted and link.needs_anew != wanted[link.name].needs_anew
    ]


def _without_links(found: KernelState, names: set[str]) -> KernelState:
    """What remains when devices are removed: the kernel takes all that stands on them with them."""
    if not names:
        return found
    return replace(
        found,
        links=frozenset(x for x in found.links if x.name not in names),
        addresses=frozenset(x for x in found.addresses if x.link not in names),
        routes=frozenset(x for x in found.routes if x.link not in names),
        neighbours=frozenset(x for x in found.neighbours if x.link not in names),
        fdb=frozenset(x for x in found.fdb if x.link not in names),
    )


def _objects(operations: Iterable[Operation]) -> Iterable[KernelObject]:
    return (x.what for x in operations if isinstance(x, Add | Change | Remove))


def _makes_pod_link(operation: Operation) -> bool:
    return (
        isinstance(operation, Add)
        and isinstance(operation.what, Link)
        and operation.what.kind is LinkKind.VETH
    )


def _in_switch_order(operations: list[Operation]) -> list[Operation]:
    """Router advertisements first: as forwarding is switched on the kernel drops what came by
    them."""
    return sorted(operations, key=lambda operation: "accept_ra" not in str(operation))


def _in_route_order(operations: list[Operation]) -> list[Operation]:
    """Unicast first: a universe that becomes unreachable a moment too early loses packets."""

    def is_block(operation: Operation) -> bool:
        what = getattr(operation, "what", None)
        return getattr(what, "kind", None) in (RouteKind.UNREACHABLE, RouteKind.THROW)

    return sorted(operations, key=is_block)


def _difference(found: KernelObject, desired: KernelObject) -> str:
    names = getattr(type(desired), "__slots__", ())
    parts = [
        f"{name} {_show(getattr(found, name))} instead of {_show(getattr(desired, name))}"
        for name in names
        if getattr(found, name) != getattr(desired, name)
    ]
    return ", ".join(parts)


def _show(value: object) -> str:
    return value.hex(":") if isinstance(value, bytes) else str(value)
