"""What the router asks of a kernel. `linux.py` does it, `fake.py` plays it; both pass the same
tests.

All calls block and may come from any thread, one at a time unless said otherwise.
"""

from __future__ import annotations

import enum
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass
from typing import Protocol

from weave_model.attachment import Route
from weave_model.prefix import Prefix
from weave_router.core.diff import Operation
from weave_router.core.sandbox import Sandbox, SandboxFound
from weave_router.core.state import KernelState, Link, Neighbour


class Concern(enum.Flag):
    """What events make necessary."""

    NOTHING = 0
    # Compare the kernel with the plan.
    STATE = enum.auto()
    # The same, but not at once: an attach may be at work on a pod's link.
    PORT = enum.auto()
    # Look again at the devices of the underlay.
    UPLINKS = enum.auto()
    # Read on: these were not all, or some were lost.
    MORE = enum.auto()


@dataclass(frozen=True, slots=True)
class Failed:
    """An operation that the kernel refused, in the kernel's words."""

    operation: Operation
    reason: str


@dataclass(frozen=True, slots=True)
class Uplink:
    """The device that has one of the node's underlay addresses."""

    address: Prefix
    name: str
    mtu: int
    # The prefix length of what is on the same link.
    length: int = 32

    def reaches(self, address: Prefix) -> bool:
        """Is an address on the same link?"""
        shift = self.address.family.bits - self.length
        is_near = self.address.address >> shift == address.address >> shift
        return self.address.family is address.family and is_near


@dataclass(frozen=True, slots=True)
class HostRoute:
    """A route of the host that is not ours."""

    destination: Prefix
    link: str


@dataclass(frozen=True, slots=True)
class PodLink:
    """A link to a sandbox: host end, what the host knows behind it, sandbox end.

    `fallback_routes` take the place of default routes in a sandbox that has some already.
    """

    host: Link
    neighbours: tuple[Neighbour, ...]
    sandbox: Sandbox
    fallback_routes: tuple[Route, ...] = ()


@dataclass(frozen=True, slots=True)
class PodFound:
    """A pod's link as the kernel shows it: the witness when all state is lost.

    `mac` and `mtu` are those of the sandbox end.
    """

    link: Link
    netns_path: str
    interface: str
    found: SandboxFound


class EventSource(Protocol):
    """Events of the kernel: a file descriptor to wait for, and what is behind it."""

    def fileno(self) -> int:
        """Readable when there are events."""
        ...

    def read(self) -> Concern:
        """Takes events off and says what they make necessary. Never blocks."""
        ...

    def is_in_doubt(self) -> bool:
        """Is a pod's link of which `Concern.PORT` told still not as expected? Asked once they had
        time to settle."""
        ...

    def close(self) -> None:
        """Gives the descriptor up."""
        ...


class Kernel(Protocol):
    """The kernel's network as far as the router owns it."""

    def found(self, sysctls: Iterable[str]) -> KernelState:
        """All that is ours, and the present values of the named switches. Changes nothing."""
        ...

    def apply(self, operations: Sequence[Operation]) -> list[Failed]:
        """Carries operations out in order; goes on after one fails, and says which did."""
        ...

    def apply_to_pod(self, operations: Sequence[Operation]) -> list[Failed]:
        """As `apply`, for routes and bindings of one pod; may run in several threads, beside
        `apply`."""
        ...

    def attach(self, pod: PodLink, netns_path: str) -> tuple[Route, ...]:
        """Makes a link into a sandbox, both ends up and configured; the sandbox's routes come back.

        May run in several threads at once. On error nothing is left behind. Raises NoSuchNamespace,
        HostNamespace, Invalid, InterfaceTaken, KernelRefused.
        """
        ...

    def has_link(self, link: str) -> bool:
        """Is there a device of this name? May run in several threads at once."""
        ...

    def detach(self, link: str) -> bool:
        """Removes a pod's link and all that stands on it; False: it was gone. May run in several
        threads."""
        ...

    def remove_connections(self, addresses: Collection[Prefix]) -> int:
        """Ends what connection tracking knows of connections to and from these addresses,
        translations included; says how many there were. May run beside everything else. Raises
        KernelRefused, after all were tried."""
        ...

    def remove_forbidden_connections(
        self, universes: Collection[Prefix], peers: Collection[Prefix]
    ) -> int:
        """Ends connections that the rules would not let begin (`core.connections`); says how many
        there were. May run beside everything else. Raises KernelRefused, after all were tried."""
        ...

    def inspect(self, netns_path: str, interface: str) -> SandboxFound | None:
        """What a sandbox holds; None when there is no such namespace. May run in several threads at
        once."""
        ...

    def repair(self, pod: PodLink, netns_path: str) -> None:
        """Gives an existing interface in a sandbox all it should have, and takes further addresses
        away. May run in several threads at once. Raises NoSuchNamespace, KernelRefused."""
        ...

    def events(self, expected: Callable[[str], Link | None]) -> list[EventSource]:
        """What happens to our objects and to the underlay, but for what we do ourselves.

        `expected` says what a device of ours should be.
        """
        ...

    def sandbox_events(self, netns_path: str) -> EventSource:
        """What happens in a sandbox. Keeps its namespace alive until closed. Raises
        NoSuchNamespace."""
        ...

    def sandbox_identity(self, netns_path: str) -> tuple[int, int] | None:
        """Tells one namespace from the next under the same path; None: it is gone."""
        ...

    def pods(self) -> list[PodFound]:
        """All pod links with what is in their sandboxes, as far as the kernel still shows it."""
        ...

    def uplinks(self, addresses: Iterable[Prefix]) -> list[Uplink]:
        """The devices that have these addresses, in the order of the addresses."""
        ...

    def foreign_routes(self) -> list[HostRoute]:
        """The host's routes in the main table that are not ours."""
        ...

    def reset(self) -> list[str]:
        """Removes all that is ours, known or not; what could not be removed comes back as text."""
        ...

    def close(self) -> None:
        """Gives up sockets. The kernel keeps everything."""
        ...
