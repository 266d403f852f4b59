"""What of an attachment is wrong on the host's side of it, in the words of router.proto's Check."""

from __future__ import annotations

from collections.abc import Iterable

from weave_router.core.diff import Add, Change, LoadRuleset, Operation, Remove, UpdateSets
from weave_router.core.sandbox import Difference
from weave_router.core.state import (
    Accept,
    Address,
    FdbEntry,
    KernelObject,
    Link,
    Neighbour,
    Route,
    Rule,
    Sysctl,
)

_KINDS: dict[type, str] = {
    Link: "link",
    Address: "address",
    Route: "route",
    Rule: "route",
    Neighbour: "neighbour",
    FdbEntry: "neighbour",
    Sysctl: "sysctl",
    Accept: "table",
}


def differences(operations: Iterable[Operation]) -> list[Difference]:
    """What operations would put right."""
    return [difference for operation in operations for difference in _of(operation)]


def missing_link(name: str) -> Difference:
    """The host's end is gone, and with it all that stands on it."""
    return Difference("link", f"interface {name} on the host", "missing")


def _of(operation: Operation) -> Iterable[Difference]:
    match operation:
        case Add(what):
            yield Difference(_KINDS[type(what)], str(what), "missing")
        case Change(found, what):
            yield Difference(_kind(found, what), str(what), str(operation))
        case Remove(what):
            yield Difference(_KINDS[type(what)], "nothing", str(what))
        case LoadRuleset():
            yield Difference("table", "table inet weave as it was loaded", "missing or changed")
        case UpdateSets(removed, added):
            for changes, is_missing in ((added, True), (removed, False)):
                for name, elements in sorted(changes.items()):
                    kind = "binding" if name.startswith("bindings") else "table"
                    words = f"{', '.join(sorted(map(str, elements)))} in set {name}"
                    yield Difference(kind, *((words, "missing") if is_missing else ("no", words)))


def _kind(found: KernelObject, wanted: KernelObject) -> str:
    if isinstance(found, Link) and isinstance(wanted, Link) and found.mtu != wanted.mtu:
        return "mtu"
    return _KINDS[type(wanted)]
