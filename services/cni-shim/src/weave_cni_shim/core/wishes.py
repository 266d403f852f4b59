"""What an ADD asks for, from the network configuration and CNI_ARGS together."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from weave_cni_shim.core.config import (
    OWN_IPAM,
    NetworkConfig,
    read_list,
    read_mapping,
    read_text,
)
from weave_cni_shim.core.failure import CniError, Code
from weave_model.attachment import Route, Workload
from weave_model.prefix import Prefix, parse_address

MAC_BYTES = 6
# RFC 791: every host accepts 576 bytes; Linux: no Ethernet device takes more than 65535.
MTU_RANGE = (576, 65535)

_KNOWN_IPAM_FIELDS = {"type", "subnet", "gateway", "routes"}
# Fields of the plugins that ours replaces, which ask for what the node does by itself.
_REFUSED_FIELDS = ("isGateway", "ipMasq")
_TRUE = {"1", "t", "true", "yes"}
_KNOWN_ARGUMENTS = {
    "IgnoreUnknown",
    "IP",
    "MAC",
    "K8S_POD_NAMESPACE",
    "K8S_POD_NAME",
    "K8S_POD_UID",
    "K8S_POD_INFRA_CONTAINER_ID",
}


@dataclass(frozen=True, slots=True)
class Wishes:
    """What the caller of an ADD wants; all is checked."""

    workload: Workload = field(default_factory=Workload)
    mtu: int = 0
    mac: bytes = b""
    requested: tuple[Prefix, ...] = ()
    subnets: tuple[Prefix, ...] = ()
    gateways: tuple[Prefix, ...] = ()
    # None: the default routes; empty: none at all.
    routes: tuple[Route, ...] | None = None
    dns: Mapping[str, Any] = field(default_factory=dict)


def parse_wishes(config: NetworkConfig, cni_args: str, *, is_ipam: bool) -> Wishes:
    """Judges a configuration for an ADD. Raises CniError: 2 unsupported field (S25), 4, 6, 7.

    `is_ipam`: the configuration is another plugin's, whose IPAM plugin we are (S50).
    """
    arguments = _arguments(cni_args)
    if not is_ipam:
        _refuse_fields(config.raw)
    ipam = read_mapping(config.raw, "ipam") if config.ipam_type == OWN_IPAM else {}
    for key in sorted(ipam.keys() - _KNOWN_IPAM_FIELDS):
        raise CniError(Code.UNSUPPORTED_FIELD, f"field ipam.{key}={ipam[key]!r} is not supported")
    return Wishes(
        workload=Workload(
            arguments.get("K8S_POD_NAMESPACE", ""),
            arguments.get("K8S_POD_NAME", ""),
            arguments.get("K8S_POD_UID", ""),
        ),
        mtu=0 if is_ipam else _mtu(config.raw),
        mac=_mac(config.raw, arguments),
        requested=_requested(config.raw, arguments),
        subnets=tuple(_prefix("ipam.subnet", word) for word in _words(ipam, "subnet")),
        gateways=tuple(_address("ipam.gateway", word) for word in _words(ipam, "gateway")),
        routes=_routes(ipam) if "routes" in ipam else None,
        dns=read_mapping(config.raw, "dns"),
    )


def parse_mac(text: str) -> bytes:
    """Reads "0a:58:0a:20:00:05"; empty text gives no bytes. Raises ValueError naming the text."""
    if not text:
        return b""
    try:
        mac = bytes.fromhex(text.replace(":", ""))
    except ValueError:
        mac = b""
    if len(mac) != MAC_BYTES or mac[0] & 1:
        raise ValueError(f"{text!r} is no unicast MAC address")
    return mac


def is_true(text: str) -> bool:
    """Reads a boolean as Go's plugins do."""
    return text.lower() in _TRUE


def _arguments(text: str) -> Mapping[str, str]:
    arguments = {}
    for pair in filter(None, text.split(";")):
        name, separator, value = pair.partition("=")
        if not separator:
            raise CniError(Code.INVALID_ENVIRONMENT, f"CNI_ARGS: invalid pair {pair!r}")
        arguments[name] = value
    unknown = sorted(arguments.keys() - _KNOWN_ARGUMENTS)
    if unknown and not is_true(arguments.get("IgnoreUnknown", "")):
        raise CniError(
            Code.INVALID_ENVIRONMENT,
            f"CNI_ARGS: unknown args {unknown}; set IgnoreUnknown=1 to pass over them",
        )
    return arguments


def _refuse_fields(raw: Mapping[str, Any]) -> None:
    for key in _REFUSED_FIELDS:
        if raw.get(key):
            raise CniError(
                Code.UNSUPPORTED_FIELD,
                f"field {key}={raw[key]!r} is not supported: the node does it",
            )


def _mtu(raw: Mapping[str, Any]) -> int:
    value = raw.get("mtu") or 0
    lowest, highest = MTU_RANGE
    if not isinstance(value, int) or (value and not lowest <= value <= highest):
        raise CniError(
            Code.INVALID_CONFIG, f"field mtu={value!r} is not between {lowest} and {highest}"
        )
    return value


def _chosen(raw: Mapping[str, Any], key: str) -> Mapping[str, Any]:
    """Where a capability is asked for: `args.cni` wins over `runtimeConfig` (CNI conventions)."""
    arguments = read_mapping(read_mapping(raw, "args"), "cni")
    return arguments if arguments.get(key) else read_mapping(raw, "runtimeConfig")


def _mac(raw: Mapping[str, Any], arguments: Mapping[str, str]) -> bytes:
    configured = read_text(_chosen(raw, "mac"), "mac")
    try:
        return parse_mac(configured or arguments.get("MAC", ""))
    except ValueError as error:
        if configured:
            raise CniError(Code.INVALID_CONFIG, f"field mac: {error}") from error
        raise CniError(Code.INVALID_ENVIRONMENT, f"CNI_ARGS: MAC: {error}") from error


def _requested(raw: Mapping[str, Any], arguments: Mapping[str, str]) -> tuple[Prefix, ...]:
    """Addresses asked for: the configuration's win over CNI_ARGS (S09)."""
    configured = read_list(_chosen(raw, "ips"), "ips")
    if configured:
        return tuple(_address("ips", word) for word in configured)
    words = [word for word in arguments.get("IP", "").split(",") if word]
    try:
        return tuple(_host(word) for word in words)
    except ValueError as error:
        raise CniError(Code.INVALID_ENVIRONMENT, f"CNI_ARGS: IP: {error}") from error


def _routes(ipam: Mapping[str, Any]) -> tuple[Route, ...]:
    routes = []
    for entry in read_list(ipam, "routes"):
        if not isinstance(entry, dict) or "dst" not in entry:
            raise CniError(Code.INVALID_CONFIG, f"field ipam.routes: {entry!r} has no dst")
        gateway = _address("ipam.routes", entry["gw"]) if entry.get("gw") else None
        routes.append(Route(_prefix("ipam.routes", entry["dst"]), gateway))
    return tuple(routes)


def _words(raw: Mapping[str, Any], key: str) -> list[str]:
    return [word.strip() for word in read_text(raw, key).split(",") if word.strip()]


def _prefix(key: str, word: object) -> Prefix:
    try:
        return Prefix.parse(str(word))
    except ValueError as error:
        raise CniError(Code.INVALID_CONFIG, f"field {key}: {error}") from error


def _address(key: str, word: object) -> Prefix:
    try:
        return _host(str(word))
    except ValueError as error:
        raise CniError(Code.INVALID_CONFIG, f"field {key}: {error}") from error


def _host(word: str) -> Prefix:
    """An address, with or without a length behind it. Raises ValueError."""
    return Prefix.host(*parse_address(word.partition("/")[0]))
