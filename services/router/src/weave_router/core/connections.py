"""Connections as the kernel tracks them, and which of them an address takes part in."""

from __future__ import annotations

from collections.abc import Container, Iterable
from dataclasses import dataclass, field

from weave_model.prefix import Prefix

# Protocols (IANA numbers) and ports of the mesh, as in `guards`.
_TCP, _UDP = 6, 17
MESH_PORTS = {_TCP: {6783}, _UDP: {6783, 6784, 6785}}
ALL_MESH_PORTS = frozenset[int]().union(*MESH_PORTS.values())
TUNNEL = (_UDP, 6784)


@dataclass(frozen=True, slots=True)
class Connection:
    """The ends of one entry of connection tracking.

    Where addresses are translated, answers bear others than the reverse of what was sent: a pod
    behind a Service is in the answers only, one that is masqueraded is not in them.
    """

    source: Prefix
    destination: Prefix
    reply_source: Prefix
    reply_destination: Prefix
    # IANA number.
    protocol: int = field(default=0, kw_only=True)
    # Where what is sent ends up; 0: the protocol has no ports.
    reply_source_port: int = field(default=0, kw_only=True)


def involves(connection: Connection, addresses: Container[Prefix]) -> bool:
    """Has the connection one of these addresses, in either direction, at either end?"""
    return (
        connection.source in addresses
        or connection.destination in addresses
        or connection.reply_source in addresses
        or connection.reply_destination in addresses
    )


def is_forbidden(
    connection: Connection, universes: Iterable[Prefix], peers: Container[Prefix]
) -> bool:
    """Would the rules (`guards`, chain new_out) not let it begin? They ask the first packet only,
    and an older release, nobody, or one that did not know this peer may have been asked.

    `peers`: the other peers' addresses.
    """
    if connection.reply_source_port not in MESH_PORTS.get(connection.protocol, ()):
        return False

    def is_inside(address: Prefix) -> bool:
        return any(universe.contains(address) for universe in universes)

    if is_inside(connection.reply_source):
        return False
    if connection.destination != connection.reply_source:
        return True
    is_to_tunnel = (connection.protocol, connection.reply_source_port) == TUNNEL
    is_masqueraded = connection.source != connection.reply_destination
    return (is_to_tunnel and is_masqueraded) or (
        connection.reply_source in peers and is_inside(connection.source)
    )
