"""The network configuration on stdin: decoded, and the parts that every verb may need.

A verb reads no more than it needs, so that a configuration which an ADD refuses, or which was
edited since the ADD, never blocks a removal (S30). What an ADD asks for: `core.wishes`.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from weave_cni_shim.core.failure import CniError, Code
from weave_cni_shim.core.versions import IMPLIED, NEWEST, SUPPORTED

OWN_IPAM = "weave-ipam"

_NAME = re.compile(r"[a-zA-Z0-9][a-zA-Z0-9_.\-]*")
# libcni sends a second, older spelling too; the specified one wins (S43).
_VALID_ATTACHMENTS = ("cni.dev/valid-attachments", "cni.dev/attachments")


@dataclass(frozen=True, slots=True)
class NetworkConfig:
    """One plugin's configuration as the runtime passes it; `raw` is all of it."""

    cni_version: str
    name: str
    raw: Mapping[str, Any]

    @property
    def ipam_type(self) -> str:
        """The IPAM plugin it names; ours if it names none that could be one."""
        ipam = self.raw.get("ipam")
        name = ipam.get("type") if isinstance(ipam, dict) else None
        return name if isinstance(name, str) and name else OWN_IPAM

    def previous(self) -> Mapping[str, Any] | None:
        """The result of the plugin before us, or of our ADD. Raises CniError."""
        result = read_mapping(self.raw, "prevResult")
        for key in ("interfaces", "ips", "routes"):
            read_list(result, key)
        return result or None

    def valid_attachments(self) -> frozenset[tuple[str, str]] | None:
        """Container ids and interfaces that live, for GC. Raises CniError.

        None: the runtime sent no list, which is not the same as an empty one (S45).
        """
        for key in _VALID_ATTACHMENTS:
            if self.raw.get(key) is None:
                continue
            entries = read_list(self.raw, key)
            try:
                return frozenset((str(e["containerID"]), str(e["ifname"])) for e in entries)
            except (TypeError, KeyError) as error:
                raise CniError(
                    Code.INVALID_CONFIG, f"field {key}: an entry lacks containerID or ifname"
                ) from error
        return None


def parse_config(stdin: bytes, *, name_required: bool) -> NetworkConfig:
    """Reads stdin. Raises CniError: 6 undecodable, 7 name missing or invalid (S07)."""
    raw = {} if not name_required and not stdin.strip() else _decode(stdin)
    name = read_text(raw, "name")
    if name_required and not _NAME.fullmatch(name):
        problem = f"invalid characters in network name {name!r}" if name else "missing network name"
        raise CniError(Code.INVALID_CONFIG, problem)
    return NetworkConfig(read_text(raw, "cniVersion") or IMPLIED, name, raw)


def version_in(stdin: bytes) -> str:
    """The version an error must repeat, whatever else is wrong with the configuration."""
    try:
        version = _decode(stdin).get("cniVersion")
    except CniError:
        return NEWEST
    return version if isinstance(version, str) and version in SUPPORTED else NEWEST


def read_text(raw: Mapping[str, Any], key: str) -> str:
    """A text field; empty when absent. Raises CniError."""
    value = raw.get(key)
    if value is not None and not isinstance(value, str):
        raise CniError(Code.DECODING_FAILURE, f"field {key}={value!r} is no text")
    return value or ""


def read_mapping(raw: Mapping[str, Any], key: str) -> Mapping[str, Any]:
    """An object field; empty when absent. Raises CniError."""
    value = raw.get(key)
    if value is not None and not isinstance(value, dict):
        raise CniError(Code.DECODING_FAILURE, f"field {key}={value!r} is no object")
    return value or {}


def read_list(raw: Mapping[str, Any], key: str) -> Sequence[Any]:
    """A list field; empty when absent. Raises CniError."""
    value = raw.get(key)
    if value is not None and not isinstance(value, list):
        raise CniError(Code.DECODING_FAILURE, f"field {key}={value!r} is no list")
    return value or []


def _decode(stdin: bytes) -> Mapping[str, Any]:
    try:
        raw = json.loads(stdin, parse_constant=_refuse_constant)
    except (ValueError, RecursionError) as error:
        raise CniError(
            Code.DECODING_FAILURE, f"error unmarshalling network config: {error}"
        ) from error
    if not isinstance(raw, dict):
        raise CniError(
            Code.DECODING_FAILURE, f"network config is a {type(raw).__name__}, no object"
        )
    return raw


def _refuse_constant(word: str) -> None:
    # Python's JSON knows NaN and Infinity, nobody else's does.
    raise ValueError(f"{word} is no JSON")
