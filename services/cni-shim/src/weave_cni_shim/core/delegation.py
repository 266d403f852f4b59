"""Another IPAM plugin that gives the addresses of our network (CNI 1.1, section 4).

It gets the environment and the configuration as they came, and answers with a result that has
addresses but no interfaces. Its gateways and on-link subnets mean nothing here: every pod's traffic
goes by its node.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from weave_cni_shim.core.failure import CniError, Code
from weave_model.attachment import Route
from weave_model.prefix import Prefix, parse_address

# A plain file name: the runtime's plugin directories are searched for it, nothing else.
_NAME = re.compile(r"[a-zA-Z0-9][a-zA-Z0-9_.\-]*")
_OWN_NAMES = ("weave-net", "weave-ipam")
# Of its stderr and of an error that is no JSON, this much is passed on.
_TEXT_LIMIT = 4096


@dataclass(frozen=True, slots=True)
class Delegated:
    """What another IPAM plugin gave."""

    # /32 and /128, in its order.
    addresses: tuple[Prefix, ...]
    # Empty: none were given, which leaves them to us.
    routes: tuple[Route, ...]
    dns: Mapping[str, Any]


def check_name(name: str) -> str:
    """The name itself, if a plugin may be called so. Raises CniError."""
    if not _NAME.fullmatch(name) or name in _OWN_NAMES:
        raise CniError(Code.INVALID_CONFIG, f"field ipam.type={name!r} names no IPAM plugin")
    return name


def parse_delegated(name: str, stdout: bytes) -> Delegated:
    """Reads the result of its ADD. Raises CniError."""
    try:
        raw = json.loads(stdout)
        addresses = tuple(_host(entry["address"]) for entry in raw.get("ips") or ())
        # Gateways of its subnet cannot be reached from a /32: all goes by ours.
        routes = tuple(Route(Prefix.parse(entry["dst"])) for entry in raw.get("routes") or ())
        dns = raw.get("dns") or {}
    except (ValueError, RecursionError, KeyError, TypeError, AttributeError) as error:
        raise CniError(Code.DECODING_FAILURE, f"{name}: result cannot be read: {error}") from error
    if not addresses or not isinstance(dns, dict):
        raise CniError(Code.DECODING_FAILURE, f"{name}: result has no address")
    return Delegated(addresses, routes, dns)


def parse_error(name: str, stdout: bytes, stderr: bytes) -> CniError:
    """What its failure means to our caller: the same code and message, with its name before."""
    try:
        raw = json.loads(stdout)
        code, message, details = int(raw["code"]), str(raw["msg"]), str(raw.get("details", ""))
    except (ValueError, RecursionError, KeyError, TypeError, AttributeError):
        text = (stdout.strip() or stderr.strip()).decode("utf-8", "replace")[:_TEXT_LIMIT]
        return CniError(Code.INTERNAL, f"{name} failed: {text or 'no reason given'}")
    return CniError(_known(code), f"{name}: {message}", details)


def _known(code: int) -> Code:
    try:
        return Code(code)
    except ValueError:
        return Code.INTERNAL


def _host(word: str) -> Prefix:
    return Prefix.host(*parse_address(word.partition("/")[0]))
