"""Connections as the kernel tracks them, and which of them an address takes part in."""

from __future__ import annotations

from collections.abc import Container
from dataclasses import dataclass

from weave_model.prefix import Prefix


@dataclass(frozen=True, slots=True)
class Connection:
    """The addresses of one entry of connection tracking.

    Where addresses are translated, answers bear others than the reverse of what was sent: a pod
    behind a Service is in the answers only, one that is masqueraded is not in them.
    """

    source: Prefix
    destination: Prefix
    reply_source: Prefix
    reply_destination: Prefix


def involves(connection: Connection, addresses: Container[Prefix]) -> bool:
    """Has the connection one of these addresses, in either direction, at either end?"""
    return (
        connection.source in addresses
        or connection.destination in addresses
        or connection.reply_source in addresses
        or connection.reply_destination in addresses
    )
