"""Operations as netlink requests."""

from __future__ import annotations

from collections.abc import Callable

from weave_router.core.diff import Add, Change, Operation, Remove
from weave_router.core.state import (
    Address,
    FdbEntry,
    KernelObject,
    Link,
    Neighbour,
    Route,
    Rule,
)
from weave_router.kernel.netlink import addresses, links, neighbours, routes
from weave_router.kernel.netlink.wire import Request

# The index of a device by its name. Raises OSError where there is none.
Index = Callable[[str], int]


def requests(operation: Operation, index: Index) -> list[Request]:
    """The requests that carry out an operation, but for the creation of devices.

    Raises OSError for a device that does not exist, TypeError for what is not netlink's.
    """
    match operation:
        case Add(what):
            return _add(what, index)
        case Change(found, what):
            return _change(found, what, index)
        case Remove(what):
            return _remove(what, index)
        case _:
            raise TypeError(f"{operation!r} is no netlink operation")


def _add(what: KernelObject, index: Index) -> list[Request]:
    match what:
        case Address(link, prefix, length, link_scope):
            return [
                addresses.add(
                    index(link), prefix, link_scope=link_scope, subject=what, length=length
                )
            ]
        case Route():
            return [routes.add(what, index(what.link) if what.link else 0)]
        case Rule():
            return [routes.add_rule(what)]
        case Neighbour():
            return [neighbours.set_neighbour(what, index(what.link))]
        case FdbEntry():
            return [neighbours.set_fdb(what, index(what.link))]
        case _:
            raise TypeError(f"{what} is not added by netlink alone")


def _change(found: KernelObject, what: KernelObject, index: Index) -> list[Request]:
    match found, what:
        case Link(), Link():
            return links.change(what, found)
        case Address(), Address():
            # The scope of an address cannot be changed.
            return _remove(found, index) + _add(what, index)
        case _, Route():
            return [routes.replace(what, index(what.link) if what.link else 0)]
        case _:
            return _add(what, index)


def _remove(what: KernelObject, index: Index) -> list[Request]:
    match what:
        case Link(name):
            return [links.remove(name)]
        case Address(link, prefix, length):
            return [addresses.remove(index(link), prefix, length or prefix.length, what)]
        case Route():
            return [routes.remove(what, index(what.link) if what.link else 0)]
        case Rule():
            return [routes.remove_rule(what)]
        case Neighbour():
            return [neighbours.remove_neighbour(what, index(what.link))]
        case FdbEntry():
            return [neighbours.remove_fdb(what, index(what.link))]
        case _:
            raise TypeError(f"{what} is never removed")
