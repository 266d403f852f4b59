"""What can go wrong in the router.

DomainError
+-- Absent       -> NoSuchNamespace   a sandbox's namespace does not exist
+-- AlreadyThere -> InterfaceTaken    the sandbox has an interface of that name which is not ours
+-- Conflict     -> HostNamespace     the namespace is the node's own
|                -> RangeOverlap      the universe and a route of the host share addresses
+-- NotReady     -> NoDataPlane       the data plane does not stand yet
+-- KernelRefused                     the kernel refused a change; the text has its words
"""

from __future__ import annotations

from weave_model.errors import Absent, AlreadyThere, Conflict, DomainError, NotReady


class NoSuchNamespace(Absent):
    """A sandbox's namespace does not exist."""


class InterfaceTaken(AlreadyThere):
    """The sandbox has an interface of that name which is not ours."""


class HostNamespace(Conflict):
    """The namespace is the node's own, or the router's."""


class RangeOverlap(Conflict):
    """The universe and a route of the host share addresses."""


class NoDataPlane(NotReady):
    """The data plane does not stand yet."""


class KernelRefused(DomainError):
    """The kernel refused a change."""
