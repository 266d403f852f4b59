"""The result of ADD in the shape of each CNI version (S16, S19, S20)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from weave_cni_shim.core.address import InterfaceAddress
from weave_cni_shim.core.versions import at_least
from weave_model.attachment import Route
from weave_model.prefix import Prefix, format_address, parse_address


@dataclass(frozen=True, slots=True)
class Attached:
    """What an attach made."""

    interface: str
    netns: str
    mac: bytes
    host_interface: str
    host_mac: bytes
    mtu: int
    addresses: tuple[Prefix, ...]
    # One per address.
    gateways: tuple[Prefix, ...]
    routes: tuple[Route, ...]
    # As another IPAM plugin gave it.
    dns: Mapping[str, Any] = field(default_factory=dict)


def add_result(
    attached: Attached,
    *,
    cni_version: str,
    dns: Mapping[str, Any],
    previous: Mapping[str, Any] | None,
) -> dict[str, Any]:
    """The result object; a previous plugin's result is kept and ours is added to it (S21).

    `previous` has lists where CNI defines lists, as `NetworkConfig.previous` gives it.
    """
    base: dict[str, Any] = dict(previous or {})
    interfaces = list(base.get("interfaces") or ())
    host = {"name": attached.host_interface, "mac": attached.host_mac.hex(":")}
    sandbox = {
        "name": attached.interface,
        "mac": attached.mac.hex(":"),
        "sandbox": attached.netns,
    }
    if at_least(cni_version, "1.1.0"):
        host["mtu"] = sandbox["mtu"] = attached.mtu  # type: ignore[assignment]  # JSON number
    interfaces += [host, sandbox]
    ips = [
        _ip(InterfaceAddress.alone(address), gateway, len(interfaces) - 1, cni_version)
        for address, gateway in zip(attached.addresses, attached.gateways, strict=True)
    ]
    return base | {
        "cniVersion": cni_version,
        "interfaces": interfaces,
        "ips": [*(base.get("ips") or ()), *ips],
        "routes": [*(base.get("routes") or ()), *(_route(route) for route in attached.routes)],
        "dns": dict(dns) or dict(attached.dns) or base.get("dns") or {},
    }


def ipam_result(
    addresses: tuple[InterfaceAddress, ...],
    gateways: tuple[Prefix, ...],
    routes: tuple[Route, ...],
    *,
    cni_version: str,
    dns: Mapping[str, Any],
) -> dict[str, Any]:
    """The result of an IPAM plugin: no interfaces, no interface index (S50)."""
    by_family = {gateway.family: gateway for gateway in gateways}
    return {
        "cniVersion": cni_version,
        "ips": [
            _ip(address, by_family.get(address.family), None, cni_version) for address in addresses
        ],
        "routes": [_route(route) for route in routes],
        "dns": dict(dns),
    }


def addresses_in(result: Mapping[str, Any]) -> frozenset[Prefix]:
    """The addresses that a result lists, without their lengths; what is no address is left out."""
    found = set()
    for entry in result.get("ips") or ():
        try:
            found.add(Prefix.host(*parse_address(entry["address"].partition("/")[0])))
        except (ValueError, KeyError, TypeError, AttributeError):
            continue
    return frozenset(found)


def _ip(
    address: InterfaceAddress, gateway: Prefix | None, interface: int | None, cni_version: str
) -> dict[str, Any]:
    entry: dict[str, Any] = (
        {} if at_least(cni_version, "1.0.0") else {"version": str(int(address.family))}
    )
    entry["address"] = str(address)
    if gateway:
        entry["gateway"] = format_address(gateway.family, gateway.address)
    if interface is not None:
        entry["interface"] = interface
    return entry


def _route(route: Route) -> dict[str, Any]:
    entry = {"dst": str(route.destination)}
    if route.gateway:
        entry["gw"] = format_address(route.gateway.family, route.gateway.address)
    return entry
