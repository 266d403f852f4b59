"""Operations on the objects of pods' ports, apart from those on everything else."""

from __future__ import annotations

from collections.abc import Iterable

from weave_router.core import naming
from weave_router.core.diff import Add, Change, Operation, Remove, UpdateSets
from weave_router.core.state import Binding, Element, Link, Sysctl

_Elements = dict[str, frozenset[Element]]


def partition(
    operations: Iterable[Operation],
) -> tuple[list[Operation], dict[str, list[Operation]]]:
    """Splits operations, in their order, into shared ones and those of each port, by its link."""
    shared: list[Operation] = []
    by_port: dict[str, list[Operation]] = {}
    for operation in operations:
        if isinstance(operation, UpdateSets):
            of_sets, of_ports = _split_sets(operation)
            if of_sets is not None:
                shared.append(of_sets)
            for link, update in of_ports.items():
                by_port.setdefault(link, []).append(update)
            continue
        port = _port_of(operation)
        if port:
            by_port.setdefault(port, []).append(operation)
        else:
            shared.append(operation)
    return shared, by_port


def _port_of(operation: Operation) -> str:
    if not isinstance(operation, Add | Change | Remove):
        return ""
    what = operation.what
    match what:
        case Link(name):
            pass
        case Sysctl(path):
            # net/ipv4/conf/<device>/forwarding
            name = next(iter(path.split("/")[3:4]), "")
        case _:
            name = getattr(what, "link", "")
    return name if name.startswith(naming.POD_LINK_PREFIX) else ""


def _split_sets(update: UpdateSets) -> tuple[UpdateSets | None, dict[str, UpdateSets]]:
    sides: dict[str, tuple[_Elements, _Elements]] = {}
    for side, changes in enumerate((update.removed, update.added)):
        for name, elements in changes.items():
            for element in elements:
                link = element.link if isinstance(element, Binding) else ""
                into = sides.setdefault(link, ({}, {}))[side]
                into[name] = into.get(name, frozenset()) | {element}
    updates = {link: UpdateSets(removed, added) for link, (removed, added) in sides.items()}
    return updates.pop("", None), updates
