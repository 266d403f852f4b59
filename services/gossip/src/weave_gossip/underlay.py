"""Finds the addresses under which peers reach this node, by asking the kernel for a route."""

from __future__ import annotations

import ipaddress
import logging
import socket
from collections.abc import Iterable, Sequence

from weave_gossip.target import Target
from weave_model.prefix import address_from_bytes, format_address

log = logging.getLogger(__name__)

# Documentation ranges (RFC 5737, RFC 3849): nobody's, so the answer is the default route's.
_ANYWHERE = {socket.AF_INET: "192.0.2.1", socket.AF_INET6: "2001:db8::1"}
# Any port will do: connecting a datagram socket looks up the route and sends nothing.
_ANY_PORT = 9


class Underlay:
    """This node's addresses: the configured ones, else whatever the kernel says now."""

    def __init__(self, configured: Sequence[bytes], targets: Iterable[Target]) -> None:
        self._configured = tuple(configured)
        self._destinations = [target.host for target in targets if target.is_address]
        self._was_told = False

    def find(self) -> tuple[bytes, ...]:
        """The addresses, preferred first; says once where there are none."""
        found = self._configured or tuple(find_underlay_addresses(self._destinations))
        if not found and not self._was_told:
            log.warning(
                "no address found under which peers reach this node: set --underlay-address"
            )
        self._was_told = not found
        return found


def show_addresses(addresses: Iterable[bytes]) -> str:
    """For people."""
    return " ".join(format_address(*address_from_bytes(address)) for address in addresses)


def find_underlay_addresses(targets: Iterable[str]) -> list[bytes]:
    """Source addresses towards the first target of each family, else towards the default route.

    `targets` are IP addresses. At most one address per family, IPv4 first; never a loopback or
    link-local one.
    """
    wanted: dict[socket.AddressFamily, list[str]] = {socket.AF_INET: [], socket.AF_INET6: []}
    for target in targets:
        family = socket.AF_INET6 if ":" in target else socket.AF_INET
        wanted[family].append(target)
    found = []
    for family, addresses in wanted.items():
        for destination in (*addresses[:1], _ANYWHERE[family]):
            source = _source_towards(family, destination)
            if source is not None:
                found.append(source)
                break
    return found


def _source_towards(family: socket.AddressFamily, destination: str) -> bytes | None:
    try:
        with socket.socket(family, socket.SOCK_DGRAM) as probe:
            probe.connect((destination, _ANY_PORT))
            address = ipaddress.ip_address(probe.getsockname()[0].partition("%")[0])
    except OSError:
        # No such family or no route.
        return None
    if address.is_loopback or address.is_unspecified or address.is_link_local:
        return None
    return address.packed
