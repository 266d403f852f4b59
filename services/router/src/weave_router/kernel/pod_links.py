"""Links to sandboxes: made, inspected and removed without entering the host's other business.

The sandbox end is created where it belongs (IFLA_NET_NS_FD), under its final name, so it never
shows up on the host. A thread that enters the sandbox configures it in one batch.
"""

from __future__ import annotations

import errno
import threading
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

from weave_model.attachment import Route
from weave_model.errors import Invalid
from weave_model.prefix import Family
from weave_router.core import naming
from weave_router.core.diff import Operation
from weave_router.core.sandbox import Sandbox, SandboxFound, is_extra
from weave_router.core.state import MAIN_TABLE, Neighbour
from weave_router.errors import HostNamespace, InterfaceTaken, KernelRefused, NoSuchNamespace
from weave_router.kernel import encode, namespace, sysctl
from weave_router.kernel.api import Concern, Failed, PodLink
from weave_router.kernel.events import SANDBOX_GROUPS
from weave_router.kernel.netlink import addresses, links, neighbours, routes, wire
from weave_router.kernel.netlink.links import FoundLink, VethPeer
from weave_router.kernel.netlink.listener import Listener
from weave_router.kernel.netlink.socket import NETLINK_ROUTE, NetlinkError, NetlinkSocket
from weave_router.kernel.netlink.wire import Request
from weave_router.kernel.reaper import Reaper
from weave_router.kernel.watch import Watch

# One per pod: a sandbox changes seldom, and what is lost is found by the next comparison.
_SANDBOX_BUFFER_BYTES = 32768


class PodLinks:
    """Makes and removes pod links. Safe for several threads at once."""

    def __init__(self, proc_sys: Path = sysctl.PROC_SYS) -> None:
        self._proc_sys = proc_sys
        self._socket = NetlinkSocket()
        self._lock = threading.Lock()
        self._reaper = Reaper()
        self._own = namespace.identity(namespace.OWN_NAMESPACE)

    def close(self) -> None:
        """Waits for removals under way, closes the sockets."""
        self._reaper.close()
        self._socket.close()

    def attach(self, pod: PodLink, netns_path: str) -> tuple[Route, ...]:
        """See Kernel.attach."""
        with _open_sandbox(netns_path) as sandbox:
            if sandbox.identity == self._own:
                raise HostNamespace(f"{netns_path} is the node's own network namespace")
            self._create(pod, sandbox.fd)
            try:
                found = self._finish_host_end(pod)
                return namespace.run_inside(
                    sandbox, lambda: _configure_sandbox(pod, found.peer_index, self._proc_sys)
                )
            except BaseException as error:
                self.detach(pod.host.name)
                if isinstance(error, OSError):
                    raise KernelRefused(f"cannot configure {pod.host.alias}: {error}") from error
                raise

    def detach(self, link: str) -> bool:
        """See Kernel.detach."""
        try:
            return self._reaper.remove(link, self._socket, self._lock)
        except NetlinkError as error:
            raise KernelRefused(f"cannot remove {link}: {error}") from error

    def has_link(self, link: str) -> bool:
        """See Kernel.has_link."""
        with self._lock:
            try:
                self._index(link)
            except NetlinkError:
                return False
        return True

    def execute(self, operations: Iterable[Operation]) -> list[Failed]:
        """Carries out operations of netlink's on pods' routes. Raises OSError of the socket
        itself."""
        failed: list[Failed] = []
        for operation in operations:
            with self._lock:
                try:
                    self._socket.execute_all(encode.requests(operation, self._index))
                except NetlinkError as error:
                    failed.append(Failed(operation, str(error)))
        return failed

    def inspect(self, netns_path: str, interface: str) -> SandboxFound | None:
        """See Kernel.inspect."""
        try:
            with _open_sandbox(netns_path) as sandbox:
                return namespace.run_inside(sandbox, lambda: _inspect_sandbox(interface))
        except (NoSuchNamespace, Invalid):
            return None

    def repair(self, pod: PodLink, netns_path: str) -> None:
        """See Kernel.repair."""
        with _open_sandbox(netns_path) as sandbox:
            try:
                namespace.run_inside(sandbox, lambda: _repair_sandbox(pod.sandbox))
            except OSError as error:
                raise KernelRefused(f"cannot repair {pod.host.alias}: {error}") from error

    def events(self, netns_path: str) -> Watch:
        """See Kernel.sandbox_events."""
        with _open_sandbox(netns_path) as sandbox:
            listener = namespace.run_inside(
                sandbox, lambda: Listener(NETLINK_ROUTE, SANDBOX_GROUPS, _SANDBOX_BUFFER_BYTES)
            )
        return Watch(listener, lambda messages: Concern.STATE if messages else Concern.NOTHING)

    def _create(self, pod: PodLink, namespace_fd: int) -> None:
        inside = pod.sandbox
        peer = VethPeer(inside.interface, inside.mac, inside.mtu, namespace_fd)
        request = links.create(pod.host, peer)
        with self._lock:
            failures = self._socket.execute([request])
            if failures and failures[0].error.errno == errno.EEXIST and self._drop_left_over(pod):
                failures = self._socket.execute([request])
        if not failures:
            return
        error = failures[0].error
        if error.errno == errno.EEXIST:
            raise InterfaceTaken(
                f"the sandbox of {pod.host.alias} has an interface {inside.interface} already, "
                "which is not ours"
            )
        raise KernelRefused(f"cannot make {pod.host.alias}: {error}")

    def _drop_left_over(self, pod: PodLink) -> bool:
        """Removes a host end that a crash left behind under this name; False: there is none."""
        try:
            self._index(pod.host.name)
        except NetlinkError:
            return False
        self._socket.execute([links.remove(pod.host.name)])
        return True

    def _index(self, name: str) -> int:
        return links.decode(self._socket.get(links.get(name))).index

    def _finish_host_end(self, pod: PodLink) -> FoundLink:
        with self._lock:
            self._socket.execute_all(links.change(pod.host))
            found = links.decode(self._socket.get(links.get(pod.host.name)))
            self._socket.execute_all(
                [neighbours.set_neighbour(entry, found.index) for entry in pod.neighbours]
            )
        return found


def _open_sandbox(path: str) -> namespace.OpenedNamespace:
    if not path.startswith("/"):
        raise Invalid(f"network namespace {path!r} cannot be used: the path is not absolute")
    try:
        return namespace.OpenedNamespace(path)
    except FileNotFoundError as error:
        raise NoSuchNamespace(f"network namespace {path} does not exist") from error
    except OSError as error:
        raise Invalid(f"network namespace {path!r} cannot be used: {error.strerror}") from error


def _configure_sandbox(pod: PodLink, index: int, proc_sys: Path) -> tuple[Route, ...]:
    """Runs inside the sandbox. Raises OSError."""
    inside = pod.sandbox
    for path, value in _switches(inside):
        sysctl.write(path, value, proc_sys)
    subject = f"{inside.interface} of {pod.host.alias}"
    requests = [links.bring_up(index, subject)]
    requests += [
        addresses.add(index, address, link_scope=False, subject=f"address {address} of {subject}")
        for address in inside.addresses
    ]
    requests += [
        neighbours.set_neighbour(Neighbour(inside.interface, gateway, naming.GATEWAY_MAC), index)
        for gateway in inside.neighbours
    ]
    with NetlinkSocket() as socket:
        socket.execute_all(requests)
        return _install_routes(socket, index, inside, pod.fallback_routes)


def _repair_sandbox(inside: Sandbox) -> None:
    """Runs inside the sandbox. Raises OSError."""
    for path, value in _switches(inside):
        sysctl.write(path, value)
    with NetlinkSocket() as socket:
        index = links.decode(socket.get(links.get(inside.interface))).index
        found = [addresses.decode(message) for message in socket.dump(addresses.dump())]
        extra = [a for a in found if a and a.index == index and is_extra(a.address, inside)]
        subject = inside.interface
        requests = [addresses.remove(index, a.address, a.length, a.address) for a in extra]
        requests.append(links.restore(index, inside.mac, inside.mtu, subject))
        requests += [
            addresses.add(index, address, link_scope=False, subject=address)
            for address in inside.addresses
        ]
        requests += [
            neighbours.set_neighbour(Neighbour(subject, gateway, naming.GATEWAY_MAC), index)
            for gateway in inside.neighbours
        ]
        # The routes last: the kernel drops them while a device is down.
        requests += [
            replace(_route(index, route), flags=wire.NLM_F_CREATE | wire.NLM_F_REPLACE)
            for route in inside.routes
        ]
        socket.execute_all(requests)


def _switches(inside: Sandbox) -> Iterable[tuple[str, str]]:
    """A pod that took redirects would learn ways past its gateway.

    IPv4 takes them when the device or `all` says so; other interfaces keep their own `1`.
    """
    for scope in ("all", inside.interface):
        yield f"net/ipv4/conf/{scope}/accept_redirects", "0"
    if any(address.family is Family.IPV6 for address in inside.addresses):
        # Container runtimes turn IPv6 off by default; here it was asked for.
        for switch, value in (("disable_ipv6", "0"), ("accept_redirects", "0"), ("accept_ra", "0")):
            yield f"net/ipv6/conf/{inside.interface}/{switch}", value


def _install_routes(
    socket: NetlinkSocket, index: int, inside: Sandbox, fallback: Iterable[Route]
) -> tuple[Route, ...]:
    failures = socket.execute([_route(index, route) for route in inside.routes])
    taken = [failure for failure in failures if failure.error.errno == errno.EEXIST]
    if not failures:
        return inside.routes
    if len(taken) < len(failures) or not fallback:
        raise next(f for f in failures if f not in taken or not fallback).error
    # Another plugin's default route stays.
    refused = {failure.request.subject for failure in taken}
    families = {
        route.destination.family for route in inside.routes if str(route.destination) in refused
    }
    instead = [route for route in fallback if route.destination.family in families]
    socket.execute_all([_route(index, route) for route in instead])
    kept = [route for route in inside.routes if route.destination.family not in families]
    return (*kept, *instead)


def _route(index: int, route: Route) -> Request:
    subject = str(route.destination)
    if route.gateway is None:
        return routes.on_link(index, route.destination, subject)
    return routes.by_gateway(index, route.gateway, route.destination, subject)


def _inspect_sandbox(interface: str) -> SandboxFound:
    """Runs inside the sandbox."""
    with NetlinkSocket() as socket:
        try:
            link = links.decode(socket.get(links.get(interface)))
        except NetlinkError:
            return SandboxFound()
        found_addresses = [addresses.decode(m) for m in socket.dump(addresses.dump())]
        found_routes = [
            routes.decode(m) for family in Family for m in socket.dump(routes.dump(family))
        ]
        names = {link.index: interface}
        entries = [
            neighbours.decode_neighbour(m, names)
            for family in Family
            for m in socket.dump(neighbours.dump_neighbours(family))
        ]
    return SandboxFound(
        mac=link.mac,
        mtu=link.mtu,
        up=link.up,
        addresses=frozenset(a.address for a in found_addresses if a and a.index == link.index),
        routes=frozenset(
            Route(r.destination, r.gateway)
            for r in found_routes
            if r and r.index == link.index and r.table == MAIN_TABLE
        ),
        neighbours=frozenset((e.address, e.mac) for e in entries if e),
        redirects=_redirects(interface),
    )


def _redirects(interface: str) -> frozenset[Family]:
    switches = {
        Family.IPV4: [f"net/ipv4/conf/{scope}/accept_redirects" for scope in ("all", interface)],
        Family.IPV6: [f"net/ipv6/conf/{interface}/accept_redirects"],
    }
    return frozenset(
        family
        for family, paths in switches.items()
        if any(sysctl.read(path) == "1" for path in paths)
    )
