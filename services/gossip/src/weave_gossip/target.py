"""Targets: where to look for peers, as people write them."""

from __future__ import annotations

import ipaddress
import re
from dataclasses import dataclass

# RFC 1123 section 2.1; underscores are common inside clusters.
_LABEL = re.compile(r"[A-Za-z0-9_]([A-Za-z0-9_-]{0,61}[A-Za-z0-9_])?")
MAX_HOST_BYTES = 253


@dataclass(frozen=True, slots=True, order=True)
class Target:
    """A host, by address or name, and a TCP port."""

    host: str
    port: int

    @property
    def is_address(self) -> bool:
        """Is the host an IP address rather than a name?"""
        return is_address(self.host)

    def __str__(self) -> str:
        return format_endpoint(self.host, self.port)


def parse_target(text: str, default_port: int) -> Target:
    """Reads `host`, `host:port`, `[v6]:port` or a bare IPv6 address. Raises ValueError."""
    host, port = _split(text.strip())
    if is_address(host):
        host = str(ipaddress.ip_address(host))
    elif not _is_host_name(host):
        raise ValueError(f"{text!r} is no peer address (host, host:port or [IPv6 address]:port)")
    if port is None:
        return Target(host, default_port)
    if not port.isdecimal() or not 0 < int(port) < 1 << 16:
        raise ValueError(f"{text!r} has a port that is not between 1 and 65535")
    return Target(host, int(port))


def format_endpoint(host: str, port: int) -> str:
    """`10.0.0.2:6783`, `[fd00::2]:6783`."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def is_address(host: str) -> bool:
    """Is this an IPv4 or IPv6 address?"""
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True


def _split(text: str) -> tuple[str, str | None]:
    if text.startswith("["):
        host, bracket, rest = text[1:].partition("]")
        if not bracket or (rest and not rest.startswith(":")) or ":" not in host:
            return "", None
        return host, rest[1:] if rest else None
    if text.count(":") > 1:
        return text, None
    host, colon, port = text.partition(":")
    return host, port if colon else None


def _is_host_name(host: str) -> bool:
    labels = host.removesuffix(".").split(".")
    return (
        len(host) <= MAX_HOST_BYTES
        and all(_LABEL.fullmatch(label) for label in labels)
        # "10.0.0.256" is a mistyped address, not a name (RFC 3696 section 2).
        and not labels[-1].isdecimal()
    )
