"""Attachments: one interface of one sandbox in one network."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import NewType

from weave_model.prefix import Prefix

ContainerId = NewType("ContainerId", str)

# CNI 1.1 section 2: names of networks and container ids.
_NAME = re.compile(r"[a-zA-Z0-9][a-zA-Z0-9_.\-]*")
# What ipam and router use for the node's own overlay address, as Weave Net does.
NODE_CONTAINER_ID = ContainerId("weave:expose")
# Linux: IFNAMSIZ less the terminating zero.
MAX_INTERFACE_LENGTH = 15


@dataclass(frozen=True, slots=True, order=True)
class AttachmentKey:
    """What identifies an attachment everywhere. Raises ValueError for names CNI forbids."""

    network: str
    container_id: ContainerId
    interface: str

    def __post_init__(self) -> None:
        if not _NAME.fullmatch(self.network):
            raise ValueError(f"network name {self.network!r} is not allowed")
        if self.container_id != NODE_CONTAINER_ID and not _NAME.fullmatch(self.container_id):
            raise ValueError(f"container id {self.container_id!r} is not allowed")
        if not is_interface_name(self.interface):
            raise ValueError(f"interface name {self.interface!r} is not allowed")

    def __str__(self) -> str:
        return f"{self.network}/{self.container_id}/{self.interface}"


@dataclass(frozen=True, slots=True)
class Workload:
    """What the orchestrator calls the thing behind an attachment; all may be empty."""

    namespace: str = ""
    name: str = ""
    uid: str = ""


@dataclass(frozen=True, slots=True)
class Route:
    """A route inside a sandbox; without a gateway it is on link. `gateway` is a host prefix."""

    destination: Prefix
    gateway: Prefix | None = None


def is_interface_name(name: str) -> bool:
    """Would the kernel take this as an interface name (CNI 1.1, CNI_IFNAME)?"""
    # The kernel counts bytes, and file names may hold bytes that are no UTF-8.
    length = len(name.encode("utf-8", "surrogateescape"))
    return (
        0 < length <= MAX_INTERFACE_LENGTH
        and name not in (".", "..")
        and not any(c in "/:\0" or c.isspace() for c in name)
    )
