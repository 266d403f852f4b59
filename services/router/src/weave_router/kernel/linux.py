"""The real kernel: rtnetlink, libnftables and /proc/sys, in the network namespace it was made
in."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Collection, Iterable, Sequence
from pathlib import Path

from weave_model.attachment import Route
from weave_model.prefix import Prefix
from weave_router.core import naming
from weave_router.core.diff import Operation, UpdateSets
from weave_router.core.sandbox import SandboxFound
from weave_router.core.state import KernelState, Link
from weave_router.kernel import namespace, sysctl
from weave_router.kernel.api import EventSource, Failed, HostRoute, PodFound, PodLink, Uplink
from weave_router.kernel.connections import TrackedConnections
from weave_router.kernel.events import NFTABLES_GROUPS, ROUTE_GROUPS, NftablesEvents, RouteEvents
from weave_router.kernel.netlink import links
from weave_router.kernel.netlink.links import FoundLink
from weave_router.kernel.netlink.listener import Listener
from weave_router.kernel.netlink.socket import NETLINK_NETFILTER, NETLINK_ROUTE, NetlinkSocket
from weave_router.kernel.nftables import Nftables, NftablesError
from weave_router.kernel.pod_links import PodLinks
from weave_router.kernel.ports import own_ports
from weave_router.kernel.state_reader import StateReader, is_pod_link
from weave_router.kernel.state_writer import StateWriter
from weave_router.kernel.table import WeaveTable
from weave_router.kernel.watch import Watch

# Where container runtimes and iproute2 mount network namespaces.
_NETNS_DIRECTORIES = (Path("/run/netns"), Path("/run/docker/netns"))


class LinuxKernel:
    """See `api.Kernel`. What works on pods has sockets of its own."""

    def __init__(self, proc_sys: Path = sysctl.PROC_SYS) -> None:
        """Raises OSError without CAP_NET_ADMIN or libnftables."""
        self._socket = NetlinkSocket()
        nft = Nftables()
        self._table = WeaveTable(nft)
        self._reader = StateReader(self._socket, nft, self._table)
        self._writer = StateWriter(self._socket, nft, self._table, proc_sys)
        self._pod_links = PodLinks(proc_sys)
        self._connections = TrackedConnections()
        self._lock = threading.Lock()

    def close(self) -> None:
        """See `api.Kernel`."""
        self._socket.close()
        self._pod_links.close()
        self._connections.close()

    def found(self, sysctls: Iterable[str]) -> KernelState:
        """See `api.Kernel`."""
        with self._lock:
            return self._reader.found(sysctls)

    def apply(self, operations: Sequence[Operation]) -> list[Failed]:
        """See `api.Kernel`."""
        with self._lock:
            return self._writer.apply(operations, self._reader.indexes)

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
        self._reader.indexes.pop(link, None)
        return self._pod_links.detach(link)

    def remove_connections(self, addresses: Collection[Prefix]) -> int:
        """See `api.Kernel`."""
        return self._connections.remove(addresses)

    def remove_forbidden_connections(
        self, universes: Collection[Prefix], peers: Collection[Prefix]
    ) -> int:
        """See `api.Kernel`."""
        return self._connections.remove_forbidden(universes, peers)

    def inspect(self, netns_path: str, interface: str) -> SandboxFound | None:
        """See `api.Kernel`."""
        return self._pod_links.inspect(netns_path, interface)

    def repair(self, pod: PodLink, netns_path: str) -> None:
        """See `api.Kernel`."""
        self._pod_links.repair(pod, netns_path)

    def events(self, expected: Callable[[str], Link | None]) -> list[EventSource]:
        """See `api.Kernel`."""
        ours = own_ports(NETLINK_ROUTE)
        judges = RouteEvents(ours, lambda: self._reader.indexes, expected)
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
            found = [f for f in self._reader.links() if is_pod_link(f)]
            paths = {self._nsid(path): str(path) for path in _namespace_paths()}
        return [self._pod(f, paths.get(f.peer_nsid, "")) for f in found]

    def uplinks(self, wanted: Iterable[Prefix]) -> list[Uplink]:
        """See `api.Kernel`."""
        with self._lock:
            return self._reader.uplinks(wanted)

    def foreign_routes(self) -> list[HostRoute]:
        """See `api.Kernel`."""
        with self._lock:
            return self._reader.foreign_routes()

    def reset(self) -> list[str]:
        """See `api.Kernel`."""
        with self._lock:
            return self._writer.remove(self._reader.found(()), self._reader.indexes)

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


def _namespace_paths() -> list[Path]:
    paths: list[Path] = []
    for parent in _NETNS_DIRECTORIES:
        # Docker shuts its folder to all but root; what is in there can be of no sandbox of ours.
        with contextlib.suppress(FileNotFoundError, NotADirectoryError, PermissionError):
            paths += parent.iterdir()
    return paths
