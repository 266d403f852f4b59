"""What passes between the steps of an attach."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from weave_cni_shim.core.address import InterfaceAddress
from weave_model.attachment import AttachmentKey, Route, Workload
from weave_model.prefix import Prefix


@dataclass(frozen=True, slots=True)
class Allocated:
    """Addresses of an attachment, with the generation that orders ADD against DEL."""

    addresses: tuple[InterfaceAddress, ...]
    generation: int
    # The attachment had these addresses before it asked.
    existed: bool = False
    # What another IPAM plugin gave besides; routes None: nothing.
    routes: tuple[Route, ...] | None = None
    dns: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Port:
    """What to make in the sandbox."""

    key: AttachmentKey
    netns: str
    # /32 and /128.
    addresses: tuple[Prefix, ...]
    generation: int
    workload: Workload
    # None: the default routes; empty: none at all.
    routes: tuple[Route, ...] | None = None
    mtu: int = 0
    mac: bytes = b""


@dataclass(frozen=True, slots=True)
class PreparedPort:
    """What was made in the sandbox; closed until activated, unless that was asked for, too."""

    host_interface: str
    host_mac: bytes
    mac: bytes
    mtu: int
    routes: tuple[Route, ...]
    # One per address.
    gateways: tuple[Prefix, ...]
    is_open: bool = False


@dataclass(frozen=True, slots=True)
class LiveAttachment:
    """An attachment the router has."""

    key: AttachmentKey
    # False: its network namespace is gone, so it is provably dead.
    sandbox_exists: bool
    # False: prepared, and never opened.
    is_open: bool
