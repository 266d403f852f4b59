"""Netlink ports of this process: by them our own changes are told from others'."""

from __future__ import annotations

import os
from pathlib import Path

_TABLE = Path("/proc/thread-self/net/netlink")
_PROTOCOL_COLUMN, _PORT_COLUMN, _INODE_COLUMN = 1, 2, 9


def own_ports(protocol: int) -> frozenset[int]:
    """Ports of all netlink sockets of this process in this namespace, those of libraries
    included."""
    inodes = _own_sockets()
    lines = _TABLE.read_text().splitlines()[1:]
    columns = (line.split() for line in lines)
    return frozenset(
        int(row[_PORT_COLUMN])
        for row in columns
        if int(row[_PROTOCOL_COLUMN]) == protocol and row[_INODE_COLUMN] in inodes
    )


def _own_sockets() -> set[str]:
    inodes = set()
    for entry in os.scandir("/proc/self/fd"):
        try:
            target = os.readlink(entry.path)  # noqa: PTH115 - hundreds of times
        except FileNotFoundError:
            continue  # the folder's own descriptor
        if target.startswith("socket:["):
            inodes.add(target[8:-1])
    return inodes
