"""A kernel that is played: for tests without privileges. Passes the same tests as the real one."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TypeVar

from weave_model.attachment import Route as SandboxRoute
from weave_model.errors import Invalid
from weave_model.prefix import Prefix
from weave_router.core import naming
from weave_router.core.connections import Connection, involves, is_forbidden
from weave_router.core.diff import Add, Change, LoadRuleset, Operation, Remove, UpdateSets
from weave_router.core.sandbox import SandboxFound
from weave_router.core.state import (
    Accept,
    Address,
    Blocker,
    Element,
    FdbEntry,
    KernelObject,
    KernelState,
    Link,
    LinkKind,
    Neighbour,
    Route,
    Rule,
    Sysctl,
)
from weave_router.errors import HostNamespace, InterfaceTaken, KernelRefused, NoSuchNamespace
from weave_router.kernel.api import (
    Concern,
    EventSource,
    Failed,
    HostRoute,
    PodFound,
    PodLink,
    Uplink,
)

_T = TypeVar("_T")

OWN_NAMESPACE = "/proc/self/ns/net"


@dataclass
class FakeKernel:
    """See `api.Kernel`. Its world may be changed behind the router's back through its fields."""

    # Sandboxes by path: interface to what is in it.
    sandboxes: dict[str, dict[str, SandboxFound]] = field(default_factory=dict)
    host_uplinks: list[Uplink] = field(default_factory=list)
    host_links: set[str] = field(default_factory=lambda: {"eth0"})
    host_routes: list[HostRoute] = field(default_factory=list)
    objects: dict[tuple[type, object], KernelObject] = field(default_factory=dict)
    blockers: frozenset[Blocker] = frozenset()
    ruleset: str = ""
    sets: dict[str, frozenset[Element]] = field(default_factory=dict)
    # Where the other end of each pod link is.
    ends: dict[str, tuple[str, str]] = field(default_factory=dict)
    connections: set[Connection] = field(default_factory=set)
    # Why connections cannot be removed, if so.
    tracking_fails: str = ""
    # Says why an operation is refused, or nothing.
    refuses: Callable[[Operation], str] = lambda _: ""
    sandbox_sources: dict[str, FakeEvents] = field(default_factory=dict)
    applied: list[Operation] = field(default_factory=list)
    _lock: threading.RLock = field(default_factory=threading.RLock)

    def found(self, sysctls: Iterable[str]) -> KernelState:
        """See `api.Kernel`."""
        with self._lock:
            wanted = set(sysctls)
            switches = (item for item in self._all(Sysctl) if item.path in wanted)
            return KernelState(
                links=frozenset(self._all(Link)),
                addresses=frozenset(self._all(Address)),
                routes=frozenset(self._all(Route)),
                rules=frozenset(self._all(Rule)),
                neighbours=frozenset(self._all(Neighbour)),
                fdb=frozenset(self._all(FdbEntry)),
                sysctls=frozenset(switches),
                accepts=frozenset(self._all(Accept)),
                blockers=self.blockers,
                ruleset=self.ruleset,
                sets=dict(self.sets),
            )

    def apply(self, operations: Sequence[Operation]) -> list[Failed]:
        """See `api.Kernel`."""
        failed = []
        with self._lock:
            for operation in operations:
                self.applied.append(operation)
                reason = self.refuses(operation) or self._apply_one(operation)
                if reason:
                    failed.append(Failed(operation, reason))
        return failed

    def apply_to_pod(self, operations: Sequence[Operation]) -> list[Failed]:
        """See `api.Kernel`."""
        return self.apply(operations)

    def attach(self, pod: PodLink, netns_path: str) -> tuple[SandboxRoute, ...]:
        """See `api.Kernel`."""
        with self._lock:
            if netns_path == OWN_NAMESPACE:
                raise HostNamespace(f"{netns_path} is the node's own network namespace")
            if not netns_path.startswith("/"):
                raise Invalid(f"network namespace {netns_path!r} cannot be used")
            if netns_path not in self.sandboxes:
                raise NoSuchNamespace(f"network namespace {netns_path} does not exist")
            sandbox = self.sandboxes[netns_path]
            inside = pod.sandbox
            if self.has_link(pod.host.name):
                self.detach(pod.host.name)
            if inside.interface in sandbox:
                raise InterfaceTaken(f"the sandbox has an interface {inside.interface} already")
            if reason := self.refuses(Add(pod.host)):
                raise KernelRefused(reason)
            routes = _installed(inside.routes, pod.fallback_routes, sandbox.values())
            self._put(pod.host)
            for entry in pod.neighbours:
                self._put(entry)
            sandbox[inside.interface] = _inside(pod, routes)
            self.ends[pod.host.name] = (netns_path, inside.interface)
            return routes

    def has_link(self, link: str) -> bool:
        """See `api.Kernel`."""
        return (Link, link) in self.objects

    def detach(self, link: str) -> bool:
        """See `api.Kernel`."""
        with self._lock:
            if not self.has_link(link):
                return False
            self._drop_link(link)
            return True

    def remove_connections(self, addresses: Collection[Prefix]) -> int:
        """See `api.Kernel`."""
        with self._lock:
            if self.tracking_fails:
                raise KernelRefused(self.tracking_fails)
            gone = {each for each in self.connections if involves(each, addresses)}
            self.connections -= gone
            return len(gone)

    def remove_forbidden_connections(
        self, universes: Collection[Prefix], peers: Collection[Prefix]
    ) -> int:
        """See `api.Kernel`."""
        with self._lock:
            if self.tracking_fails:
                raise KernelRefused(self.tracking_fails)
            gone = {each for each in self.connections if is_forbidden(each, universes, peers)}
            self.connections -= gone
            return len(gone)

    def inspect(self, netns_path: str, interface: str) -> SandboxFound | None:
        """See `api.Kernel`."""
        sandbox = self.sandboxes.get(netns_path)
        return None if sandbox is None else sandbox.get(interface, SandboxFound())

    def repair(self, pod: PodLink, netns_path: str) -> None:
        """See `api.Kernel`."""
        if netns_path not in self.sandboxes:
            raise NoSuchNamespace(f"network namespace {netns_path} does not exist")
        self.sandboxes[netns_path][pod.sandbox.interface] = _inside(pod, pod.sandbox.routes)

    def events(self, expected: Callable[[str], Link | None]) -> list[EventSource]:  # noqa: ARG002
        """See `api.Kernel`. Nothing happens here but what a test does."""
        return []

    def sandbox_events(self, netns_path: str) -> EventSource:
        """See `api.Kernel`."""
        if netns_path not in self.sandboxes:
            raise NoSuchNamespace(f"network namespace {netns_path} does not exist")
        self.sandbox_sources[netns_path] = FakeEvents()
        return self.sandbox_sources[netns_path]

    def sandbox_identity(self, netns_path: str) -> tuple[int, int] | None:
        """See `api.Kernel`."""
        sandbox = self.sandboxes.get(netns_path)
        return None if sandbox is None else (0, id(sandbox))

    def pods(self) -> list[PodFound]:
        """See `api.Kernel`."""
        found = []
        for link in self._all(Link):
            if link.kind is LinkKind.VETH:
                path, interface = self.ends[link.name]
                inside = self.inspect(path, interface) or SandboxFound()
                found.append(PodFound(link, path, interface, inside))
        return found

    def uplinks(self, addresses: Iterable[Prefix]) -> list[Uplink]:
        """See `api.Kernel`."""
        by_address = {uplink.address: uplink for uplink in self.host_uplinks}
        return [by_address[address] for address in addresses if address in by_address]

    def foreign_routes(self) -> list[HostRoute]:
        """See `api.Kernel`."""
        return list(self.host_routes)

    def reset(self) -> list[str]:
        """See `api.Kernel`."""
        with self._lock:
            for link in list(self._all(Link)):
                self._drop_link(link.name)
            self.objects = {key: o for key, o in self.objects.items() if isinstance(o, Sysctl)}
            self.ruleset, self.sets = "", {}
        return []

    def close(self) -> None:
        """See `api.Kernel`."""

    def remove_sandbox(self, path: str) -> None:
        """Removes a namespace as a runtime does: the links into it go with it."""
        with self._lock:
            for link, (where, _) in list(self.ends.items()):
                if where == path:
                    self._drop_link(link)
            del self.sandboxes[path]

    def _apply_one(self, operation: Operation) -> str:
        match operation:
            case LoadRuleset(body):
                self.ruleset = body
                self.sets = {name: self.sets.get(name, frozenset()) for name in _set_names(body)}
            case UpdateSets(removed, added):
                return self._update_sets(removed, added)
            case Add(what):
                if (type(what), what.key) in self.objects and not isinstance(what, Sysctl):
                    return "File exists"
                return self._put(what)
            case Change(_, what):
                return self._put(what)
            case Remove(Link(name)):
                self._drop_link(name)
            case Remove(what):
                self.objects.pop((type(what), what.key), None)
        return ""

    def _update_sets(
        self,
        removed: Mapping[str, frozenset[Element]],
        added: Mapping[str, frozenset[Element]],
    ) -> str:
        if not {*removed, *added} <= set(self.sets):
            return "No such file or directory"
        for name, elements in removed.items():
            self.sets[name] -= elements
        for name, elements in added.items():
            self.sets[name] |= elements
        return ""

    def _put(self, what: KernelObject) -> str:
        if isinstance(what, Accept) and all(b.where != what for b in self.blockers):
            return "No such file or directory"
        name = getattr(what, "link", "")
        is_there = self.has_link(name) or name in self.host_links
        if name and not isinstance(what, Rule) and not is_there:
            return "No such device"
        source = getattr(what, "source", None)
        if source is not None and all(a.prefix != source for a in self._all(Address)):
            return "Invalid prefsrc address"
        self.objects[type(what), what.key] = what
        return ""

    def _drop_link(self, name: str) -> None:
        path, interface = self.ends.pop(name, ("", ""))
        self.sandboxes.get(path, {}).pop(interface, None)
        self.objects = {
            key: item
            for key, item in self.objects.items()
            if isinstance(item, Rule)
            or (getattr(item, "link", "") != name and not _is_link(item, name))
        }

    def _all(self, kind: type[_T]) -> Iterable[_T]:
        return [item for item in self.objects.values() if isinstance(item, kind)]


class FakeEvents:
    """Events of a sandbox that a test lets happen. See `api.EventSource`."""

    def __init__(self) -> None:
        self._near, self._far = socket.socketpair()
        self._near.setblocking(False)

    def happen(self) -> None:
        """Lets an event happen."""
        self._far.send(b"x")

    def fileno(self) -> int:
        """See `api.EventSource`."""
        return self._near.fileno()

    def read(self) -> Concern:
        """See `api.EventSource`."""
        return Concern.STATE if self._near.recv(4096) else Concern.NOTHING

    def is_in_doubt(self) -> bool:
        """See `api.EventSource`."""
        return False

    def close(self) -> None:
        """See `api.EventSource`."""
        self._near.close()
        self._far.close()


def _inside(pod: PodLink, routes: Iterable[SandboxRoute]) -> SandboxFound:
    inside = pod.sandbox
    return SandboxFound(
        mac=inside.mac,
        mtu=inside.mtu,
        up=True,
        addresses=frozenset(inside.addresses),
        routes=frozenset(routes),
        neighbours=frozenset((a, naming.GATEWAY_MAC) for a in inside.neighbours),
    )


def _is_link(item: KernelObject, name: str) -> bool:
    return isinstance(item, Link) and item.name == name


def _set_names(body: str) -> list[str]:
    return [line.split()[1] for line in body.splitlines() if line.startswith("set ")]


def _installed(
    wanted: tuple[SandboxRoute, ...],
    fallback: tuple[SandboxRoute, ...],
    others: Iterable[SandboxFound],
) -> tuple[SandboxRoute, ...]:
    taken = {route.destination for other in others for route in other.routes}
    families = {r.destination.family for r in wanted if r.destination in taken}
    if families and not fallback:
        raise KernelRefused("File exists")
    kept = tuple(r for r in wanted if r.destination.family not in families)
    return kept + tuple(r for r in fallback if r.destination.family in families)
