"""The real kernel: rtnetlink, libnftables and /proc/sys, in the network namespace it was made
in."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from weave_model.attachment import Route
from weave_model.prefix import Family, Prefix
from weave_router.core import naming, switches
from weave_router.core import state as kernel_state
from weave_router.core.diff import Add, Change, LoadRuleset, Operation, Remove, UpdateSets
from weave_router.core.sandbox import SandboxFound
from weave_router.core.state import (
    MAIN_TABLE,
    Accept,
    Address,
    FdbEntry,
    KernelObject,
    KernelState,
    Link,
    LinkKind,
    Neighbour,
    Rule,
    Sysctl,
)
from weave_router.kernel import encode, foreign, namespace, sysctl
from weave_router.kernel.api import EventSource, Failed, HostRoute, PodFound, PodLink, Uplink
from weave_router.kernel.events import NFTABLES_GROUPS, ROUTE_GROUPS, NftablesEvents, RouteEvents
from weave_router.kernel.netlink import addresses, links, neighbours, netconf, routes
from weave_router.kernel.netlink.addresses import FoundAddress
from weave_router.kernel.netlink.links import FoundLink
from weave_router.kernel.netlink.listener import Listener
from weave_router.kernel.netlink.socket import NETLINK_NETFILTER, NETLINK_ROUTE, NetlinkSocket
from weave_router.kernel.netlink.wire import Request
from weave_router.kernel.nftables import Nftables, NftablesError
from weave_router.kernel.pod_links import PodLinks
from weave_router.kernel.ports import own_ports
from weave_router.kernel.table import WeaveTable
from weave_router.kernel.watch import Watch

_OWN_DEVICES = {naming.BRIDGE, *naming.VXLAN.values()}
# Where container runtimes and iproute2 mount network namespaces.
_NETNS_DIRECTORIES = (Path("/run/netns"), Path("/run/docker/netns"))


class LinuxKernel:
    """See `api.Kernel`. `attach`, `detach` and `inspect` have sockets of their own."""

    def __init__(self, proc_sys: Path = sysctl.PROC_SYS) -> None:
        """Raises OSError without CAP_NET_ADMIN or libnftables."""
        self._proc_sys = proc_sys
        self._socket = NetlinkSocket()
        self._nft = Nftables()
        self._table = WeaveTable(self._nft)
        self._pod_links = PodLinks(proc_sys)
        self._lock = threading.Lock()
        # Index of devices by name, as of the last look; looked up anew where one is missing.
        self._indexes: dict[str, int] = {}

    def close(self) -> None:
        """See `api.Kernel`."""
        self._socket.close()
        self._pod_links.close()

    def found(self, sysctls: Iterable[str]) -> KernelState:
        """See `api.Kernel`."""
        with self._lock:
            return self._found(sysctls)

    def apply(self, operations: Sequence[Operation]) -> list[Failed]:
        """See `api.Kernel`."""
        with self._lock:
            batch = _Batch(self._socket)
            for operation in operations:
                self._apply_one(operation, batch)
            batch.flush()
            return batch.failed

    def apply_to_pod(self, operations: Sequence[Operation]) -> list[Failed]:
        """See `api.Kernel`."""
        failed: list[Failed] = []
        for operation in operations:
            if isinstance(operation, UpdateSets):
                try:
                    self._table.update(operation.removed, operation.added)
                except NftablesError as error:
                    failed.append(Failed(operation, str(error)))
            else:
                failed += self._pod_links.execute([operation])
        return failed

    def has_link(self, link: str) -> bool:
        """See `api.Kernel`."""
        return self._pod_links.has_link(link)

    def attach(self, pod: PodLink, netns_path: str) -> tuple[Route, ...]:
        """See `api.Kernel`."""
        return self._pod_links.attach(pod, netns_path)

    def detach(self, link: str) -> bool:
        """See `api.Kernel`."""
        self._indexes.pop(link, None)
        return self._pod_links.detach(link)

    def inspect(self, netns_path: str, interface: str) -> SandboxFound | None:
        """See `api.Kernel`."""
        return self._pod_links.inspect(netns_path, interface)

    def repair(self, pod: PodLink, netns_path: str) -> None:
        """See `api.Kernel`."""
        self._pod_links.repair(pod, netns_path)

    def events(self, expected: Callable[[str], Link | None]) -> list[EventSource]:
        """See `api.Kernel`."""
        ours = own_ports(NETLINK_ROUTE)
        judges = RouteEvents(ours, lambda: self._indexes, expected)
        rules = NftablesEvents(own_ports(NETLINK_NETFILTER))
        return [
            Watch(Listener(NETLINK_ROUTE, ROUTE_GROUPS), judges.judge, judges.is_in_doubt),
            Watch(Listener(NETLINK_NETFILTER, NFTABLES_GROUPS), rules.judge),
        ]

    def sandbox_events(self, netns_path: str) -> EventSource:
        """See `api.Kernel`."""
        return self._pod_links.events(netns_path)

    def sandbox_identity(self, netns_path: str) -> tuple[int, int] | None:
        """See `api.Kernel`."""
        try:
            return namespace.identity(netns_path)
        except OSError:
            return None

    def pods(self) -> list[PodFound]:
        """See `api.Kernel`."""
        with self._lock:
            found = [f for f in self._links() if _is_pod_link(f)]
            paths = {self._nsid(path): str(path) for path in _namespace_paths()}
        return [self._pod(f, paths.get(f.peer_nsid, "")) for f in found]

    def uplinks(self, wanted: Iterable[Prefix]) -> list[Uplink]:
        """See `api.Kernel`."""
        with self._lock:
            by_index = {f.index: f for f in self._links()}
            holders = {
                found.address: (by_index[found.index], found.length)
                for found in map(addresses.decode, self._socket.dump(addresses.dump()))
                if found is not None and found.index in by_index
            }
        return [
            Uplink(address, device.name, device.mtu, length)
            for address in wanted
            if address in holders
            for device, length in [holders[address]]
        ]

    def foreign_routes(self) -> list[HostRoute]:
        """See `api.Kernel`."""
        with self._lock:
            names = {f.index: f.name for f in self._links()}
            messages = [m for family in Family for m in self._socket.dump(routes.dump(family))]
        found = (routes.decode(message) for message in messages)
        return [
            HostRoute(route.destination, names.get(route.index, ""))
            for route in found
            if route is not None
            and route.table == MAIN_TABLE
            and route.protocol != kernel_state.ROUTE_PROTOCOL
        ]

    def reset(self) -> list[str]:
        """See `api.Kernel`."""
        left: list[str] = []
        with self._lock:
            state = self._found(())
            removals: list[KernelObject] = [
                *state.accepts,
                *state.rules,
                *state.routes,
                *state.links,
            ]
            batch = _Batch(self._socket)
            for item in removals:
                self._apply_one(Remove(item), batch)
            batch.flush()
            left += [f"{failed.operation}: {failed.reason}" for failed in batch.failed]
            try:
                self._table.remove()
            except NftablesError as error:
                left.append(f"table inet weave: {error}")
        return left

    def _found(self, sysctls: Iterable[str]) -> KernelState:
        everything = self._links()
        own = [f for f in everything if f.name in _OWN_DEVICES or _is_pod_link(f)]
        names = {f.index: f.name for f in own}
        self._indexes = {name: index for index, name in names.items()}
        device_indexes = {f.index for f in own if f.name in _OWN_DEVICES}
        body, sets = self._table.found()
        blockers, accepts = foreign.found(self._nft)
        return KernelState(
            links=frozenset(f.link for f in own if f.link is not None),
            addresses=frozenset(
                _address(a, names)
                for a in map(addresses.decode, self._socket.dump(addresses.dump()))
                if a is not None and a.index in device_indexes
            ),
            # A direct path leads over a device of the host.
            routes=self._routes({f.index: f.name for f in everything}),
            rules=self._rules(),
            neighbours=self._neighbours(names),
            fdb=self._fdb({f.index: f.name for f in own if f.kind == LinkKind.VXLAN}),
            sysctls=self._switches(sysctls, names),
            accepts=accepts,
            blockers=blockers,
            ruleset=body,
            sets=sets,
        )

    def _links(self) -> list[FoundLink]:
        return [links.decode(message) for message in self._socket.dump(links.dump())]

    def _routes(self, names: dict[int, str]) -> frozenset[kernel_state.Route]:
        found = (
            routes.decode(message)
            for family in Family
            for message in self._socket.dump(routes.dump(family, kernel_state.ROUTE_PROTOCOL))
        )
        mapped = (routes.to_route(route, names) for route in found if route is not None)
        return frozenset(route for route in mapped if route is not None)

    def _rules(self) -> frozenset[Rule]:
        found = (
            routes.decode_rule(message)
            for family in Family
            for message in self._socket.dump(routes.dump_rules(family))
        )
        return frozenset(rule for rule in found if rule is not None)

    def _neighbours(self, names: dict[int, str]) -> frozenset[Neighbour]:
        found = (
            neighbours.decode_neighbour(message, names)
            for family in Family
            for message in self._socket.dump(neighbours.dump_neighbours(family))
        )
        return frozenset(entry for entry in found if entry is not None)

    def _switches(self, named: Iterable[str], names: dict[int, str]) -> frozenset[Sysctl]:
        read = {path: value for path in named if (value := sysctl.read(path)) is not None}
        for message in self._socket.dump(netconf.dump()):
            name, forwards = names.get(netconf.index(message) or 0), netconf.forwards(message)
            if name is not None and forwards is not None:
                read[switches.device_forwarding(name)] = str(int(forwards))
        return frozenset(Sysctl(path, value) for path, value in read.items())

    def _fdb(self, names: dict[int, str]) -> frozenset[FdbEntry]:
        found = (
            neighbours.decode_fdb(message, names)
            for index in names
            for message in self._socket.dump(neighbours.dump_fdb(index))
        )
        return frozenset(entry for entry in found if entry is not None)

    def _apply_one(self, operation: Operation, batch: _Batch) -> None:
        try:
            match operation:
                case LoadRuleset(body):
                    batch.flush()
                    self._table.load(body)
                case UpdateSets(removed, added):
                    batch.flush()
                    self._table.update(removed, added)
                case Add(Accept() as rule) | Remove(Accept() as rule):
                    batch.flush()
                    change = foreign.add if isinstance(operation, Add) else foreign.remove
                    change(self._nft, rule)
                case Add(Sysctl() as switch) | Change(_, Sysctl() as switch):
                    batch.flush()
                    sysctl.write(switch.path, switch.value, self._proc_sys)
                case Add(Link() as link):
                    batch.flush()
                    self._make_link(link)
                case _:
                    if isinstance(operation, Remove) and isinstance(operation.what, Link):
                        self._indexes.pop(operation.what.name, None)
                    batch.add(operation, encode.requests(operation, self._index))
        except (OSError, NftablesError) as error:
            batch.failed.append(Failed(operation, str(error)))

    def _make_link(self, link: Link) -> None:
        self._socket.execute_all([links.create(link)])
        self._socket.execute_all(links.change(link))
        self._indexes.pop(link.name, None)

    def _index(self, name: str) -> int:
        index = self._indexes.get(name)
        if index is None:
            index = links.decode(self._socket.get(links.get(name))).index
            self._indexes[name] = index
        return index

    def _nsid(self, path: Path) -> int | None:
        with contextlib.suppress(OSError), namespace.OpenedNamespace(str(path)) as opened:
            return links.decode_nsid(self._socket.get(links.get_nsid(opened.fd)))
        return None

    def _pod(self, found: FoundLink, path: str) -> PodFound:
        assert found.link is not None
        if found.peer_nsid is None:
            path = ""
        key = naming.parse_alias(found.alias)
        interface = key.interface if key is not None else ""
        inside = self.inspect(path, interface) if path and interface else None
        return PodFound(found.link, path, interface, inside or SandboxFound())


@dataclass(slots=True)
class _Batch:
    """Collects requests of several operations and remembers whose each is."""

    socket: NetlinkSocket
    failed: list[Failed] = field(default_factory=list)
    _requests: list[Request] = field(default_factory=list)
    _owners: dict[int, Operation] = field(default_factory=dict)

    def add(self, operation: Operation, requests: Iterable[Request]) -> None:
        for request in requests:
            self._requests.append(request)
            self._owners[id(request)] = operation

    def flush(self) -> None:
        failures = self.socket.execute(self._requests)
        self.failed += [Failed(self._owners[id(f.request)], str(f.error)) for f in failures]
        self._requests = []
        self._owners = {}


def _address(found: FoundAddress, names: dict[int, str]) -> Address:
    return Address(
        names[found.index],
        found.address,
        0 if found.length == found.address.length else found.length,
        found.scope == addresses.SCOPE_LINK,
    )


def _is_pod_link(found: FoundLink) -> bool:
    return found.kind == LinkKind.VETH and found.name.startswith(naming.POD_LINK_PREFIX)


def _namespace_paths() -> list[Path]:
    return [path for parent in _NETNS_DIRECTORIES if parent.is_dir() for path in parent.iterdir()]
