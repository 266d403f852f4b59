"""Is a result what CNI 1.1 says it is? Answers with all that is wrong, one sentence each."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterator, Mapping
from typing import Any

_MAC = re.compile(r"([0-9a-f]{2}:){5}[0-9a-f]{2}", re.IGNORECASE)
_KEYS = {"cniVersion", "interfaces", "ips", "routes", "dns"}
_INTERFACE_KEYS = {"name", "mac", "sandbox"}
# Since 1.1.0.
_NEW_INTERFACE_KEYS = {"mtu", "socketPath", "pciID"}
_ROUTE_KEYS = {"dst", "gw"}
_NEW_ROUTE_KEYS = {"mtu", "advmss", "priority", "table", "scope"}
_DNS_KEYS = {"nameservers", "domain", "search", "options"}


def version_of(text: str) -> tuple[int, ...]:
    """A version that can be compared."""
    return tuple(map(int, text.split(".")))


def problems(
    result: Mapping[str, Any], version: str, netns: str, interface: str = "eth0"
) -> list[str]:
    """All that is wrong with the result of an interface plugin's ADD (S16, S19, S20)."""
    return [
        *_top(result, version),
        *_interfaces(result, version, netns, interface),
        *_addresses(result, version, netns, interface),
        *_routes(result, version),
        *(f"dns.{key} is unknown" for key in result.get("dns", {}).keys() - _DNS_KEYS),
    ]


def ipam_problems(result: Mapping[str, Any], version: str) -> list[str]:
    """All that is wrong with the result of an IPAM plugin's ADD (S50)."""
    found = list(_top(result, version))
    if result.get("interfaces"):
        found.append("an IPAM plugin has no interfaces")
    if not result.get("ips"):
        found.append("ips is empty")
    for entry in result.get("ips", ()):
        if "interface" in entry:
            found.append("an address of an IPAM plugin has no interface")
        found += _address(entry, version)
    return [*found, *_routes(result, version)]


def sandbox_addresses(result: Mapping[str, Any]) -> list[str]:
    """The addresses of interfaces in a sandbox, without lengths: what containerd reports."""
    interfaces = result["interfaces"]
    return [
        entry["address"].partition("/")[0]
        for entry in result["ips"]
        if "interface" in entry and interfaces[entry["interface"]].get("sandbox")
    ]


def _top(result: Mapping[str, Any], version: str) -> Iterator[str]:
    if result.get("cniVersion") != version:
        yield f"cniVersion is {result.get('cniVersion')}, not {version}"
    for key in result.keys() - _KEYS:
        yield f"{key} is unknown"


def _interfaces(
    result: Mapping[str, Any], version: str, netns: str, interface: str
) -> Iterator[str]:
    allowed = _INTERFACE_KEYS | (_NEW_INTERFACE_KEYS if version_of(version) >= (1, 1, 0) else set())
    entries = result.get("interfaces", [])
    for entry in entries:
        if not entry.get("name"):
            yield f"interface {entry} has no name"
        if not _MAC.fullmatch(entry.get("mac", "00:00:00:00:00:00")):
            yield f"mac {entry['mac']} is none"
        for key in entry.keys() - allowed:
            yield f"interfaces.{key} is unknown to {version}"
    ours = [e for e in entries if e.get("name") == interface and e.get("sandbox") == netns]
    if len(ours) != 1:
        yield f"interfaces has {len(ours)} entries for {interface} in {netns}"
    if not any(not entry.get("sandbox") for entry in entries):
        yield "interfaces has no entry for the host"


def _addresses(
    result: Mapping[str, Any], version: str, netns: str, interface: str
) -> Iterator[str]:
    entries, interfaces = result.get("ips", []), result.get("interfaces", [])
    if not entries:
        yield "ips is empty"
    for entry in entries:
        yield from _address(entry, version)
        index = entry.get("interface")
        if not isinstance(index, int) or not 0 <= index < len(interfaces):
            yield f"ips.interface is {index}"
            continue
        at = interfaces[index]
        if (at.get("name"), at.get("sandbox")) != (interface, netns):
            yield f"ips.interface points at {at}"


def _address(entry: Mapping[str, Any], version: str) -> Iterator[str]:
    try:
        address = ipaddress.ip_interface(entry["address"])
    except (KeyError, ValueError) as error:
        yield f"ips.address: {error}"
        return
    if "/" not in entry["address"]:
        yield f"ips.address {entry['address']} has no length"
    if entry.get("gateway"):
        ipaddress.ip_address(entry["gateway"])
    has_version = "version" in entry
    if has_version != (version_of(version) < (1, 0, 0)):
        yield f"ips.version is {'there' if has_version else 'missing'} in {version}"
    elif has_version and entry["version"] != str(address.version):
        yield f"ips.version is {entry['version']} of {entry['address']}"


def _routes(result: Mapping[str, Any], version: str) -> Iterator[str]:
    allowed = _ROUTE_KEYS | (_NEW_ROUTE_KEYS if version_of(version) >= (1, 1, 0) else set())
    for entry in result.get("routes", ()):
        ipaddress.ip_network(entry["dst"])
        for key in entry.keys() - allowed:
            yield f"routes.{key} is unknown to {version}"
