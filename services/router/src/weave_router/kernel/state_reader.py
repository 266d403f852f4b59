"""What the kernel holds, read by netlink dumps, nft listings and /proc/sys."""

from __future__ import annotations

from collections.abc import Iterable

from weave_model.prefix import Family, Prefix
from weave_router.core import naming, switches
from weave_router.core import state as kernel_state
from weave_router.core.state import (
    MAIN_TABLE,
    Address,
    FdbEntry,
    KernelState,
    LinkKind,
    Neighbour,
    Rule,
    Sysctl,
)
from weave_router.kernel import foreign, sysctl
from weave_router.kernel.api import HostRoute, Uplink
from weave_router.kernel.netlink import addresses, links, neighbours, netconf, routes
from weave_router.kernel.netlink.addresses import FoundAddress
from weave_router.kernel.netlink.links import FoundLink
from weave_router.kernel.netlink.socket import NetlinkSocket
from weave_router.kernel.nftables import Nftables
from weave_router.kernel.table import WeaveTable

_OWN_DEVICES = {naming.BRIDGE, *naming.VXLAN.values()}


class StateReader:
    """Reads by one socket; not safe for two threads at once."""

    def __init__(self, netlink: NetlinkSocket, nft: Nftables, table: WeaveTable) -> None:
        self._socket = netlink
        self._nft = nft
        self._table = table
        # Index of each of our devices by name, as of the last look.
        self.indexes: dict[str, int] = {}

    def found(self, sysctls: Iterable[str]) -> KernelState:
        """See `api.Kernel`."""
        everything = self.links()
        own = [f for f in everything if f.name in _OWN_DEVICES or is_pod_link(f)]
        names = {f.index: f.name for f in own}
        self.indexes = {name: index for index, name in names.items()}
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

    def links(self) -> list[FoundLink]:
        """All devices of the namespace."""
        return [links.decode(message) for message in self._socket.dump(links.dump())]

    def uplinks(self, wanted: Iterable[Prefix]) -> list[Uplink]:
        """See `api.Kernel`."""
        by_index = {f.index: f for f in self.links()}
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
        names = {f.index: f.name for f in self.links()}
        messages = [m for family in Family for m in self._socket.dump(routes.dump(family))]
        found = (routes.decode(message) for message in messages)
        return [
            HostRoute(route.destination, names.get(route.index, ""))
            for route in found
            if route is not None
            and route.table == MAIN_TABLE
            and route.protocol != kernel_state.ROUTE_PROTOCOL
        ]

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


def is_pod_link(found: FoundLink) -> bool:
    """Is a device the host end of a pod's link?"""
    return found.kind == LinkKind.VETH and found.name.startswith(naming.POD_LINK_PREFIX)


def _address(found: FoundAddress, names: dict[int, str]) -> Address:
    return Address(
        names[found.index],
        found.address,
        0 if found.length == found.address.length else found.length,
        found.scope == addresses.SCOPE_LINK,
    )
