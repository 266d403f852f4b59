"""Ends connections in the kernel's connection tracking: of addresses, or that rules forbid."""

from __future__ import annotations

import threading
from collections.abc import Callable, Collection

from weave_model.prefix import Prefix
from weave_router.core.connections import Connection, involves, is_forbidden
from weave_router.errors import KernelRefused
from weave_router.kernel.netlink import connections
from weave_router.kernel.netlink.connections import Tracked
from weave_router.kernel.netlink.socket import NETLINK_NETFILTER, NetlinkSocket


class TrackedConnections:
    """Those of the namespace it was made in. Safe for several threads at once."""

    def __init__(self) -> None:
        self._socket = NetlinkSocket(NETLINK_NETFILTER)
        self._lock = threading.Lock()

    def close(self) -> None:
        """Closes the socket."""
        self._socket.close()

    def remove(self, addresses: Collection[Prefix]) -> int:
        """Removes the connections that involve one of these; says how many. The table is read once
        for all of them. Raises KernelRefused, after all were tried."""
        involved = frozenset(addresses)
        wanted = {address.to_bytes() for address in involved}
        return self._remove(
            lambda data: not wanted.isdisjoint(connections.mentioned(data)),
            lambda connection: involves(connection, involved),
        )

    def remove_forbidden(self, universes: Collection[Prefix], peers: Collection[Prefix]) -> int:
        """Removes what the rules would not let begin; says how many. Raises KernelRefused, after
        all were tried."""
        return self._remove(
            connections.leads_to_mesh,
            lambda connection: is_forbidden(connection, universes, peers),
        )

    def _remove(
        self, matters: Callable[[bytes], bool], is_meant: Callable[[Connection], bool]
    ) -> int:
        with self._lock:
            try:
                found = self._found(matters, is_meant)
                failures = self._socket.execute([connections.remove(each) for each in found])
            except OSError as error:
                raise KernelRefused(f"no access to connection tracking: {error}") from error
        if failures:
            raise KernelRefused(
                f"{len(failures)} of {len(found)} connections cannot be removed: "
                f"{failures[0].error}"
            )
        return len(found)

    def _found(
        self, matters: Callable[[bytes], bool], is_meant: Callable[[Connection], bool]
    ) -> list[Tracked]:
        messages = self._socket.skim(connections.dump(), matters)
        entries = (connections.decode(each) for each in messages if matters(each.payload))
        return [each for each in entries if each and is_meant(each.connection)]
