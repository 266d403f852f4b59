"""Where everything of a lab is: names, paths and underlay addresses. Touches nothing."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from weave_lab.errors import LabError

DISK_ROOT = Path("/var/tmp/weave-lab")  # noqa: S108  kept over reboots, checked to be root's
RUN_ROOT = Path("/run/weave-lab")
NETNS_ROOT = Path("/run/netns")

DEFAULT_NAME = "lab"
# The longest socket path, /run/weave-lab/<lab>/n<node>/gossip/api.sock, must fit into 108 bytes.
_LAB_NAME = re.compile(r"[a-z][a-z0-9-]{0,23}")
_POD_NAME = re.compile(r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?")
_NODE_NAME = re.compile(r"n([1-9][0-9]{0,2})")

# 10.99.0.254 is the wire itself, 10.99.0.255 broadcast.
MAX_NODES = 253
UNDERLAY_IPV4 = "10.99.0"
UNDERLAY_IPV6 = "fd99:"
WIRE_HOST = 254


@dataclass(frozen=True, slots=True)
class NodeLayout:
    """Names and paths of one node; `number` counts from 1. `lab` is the lab's name."""

    lab: str
    number: int

    @property
    def name(self) -> str:
        """`n1`."""
        return f"n{self.number}"

    @property
    def run_dir(self) -> Path:
        """What the node sees as /run/weave: one folder with sockets per service."""
        return RUN_ROOT / self.lab / self.name

    @property
    def disk_dir(self) -> Path:
        """All that the node keeps on disk."""
        return DISK_ROOT / self.lab / self.name

    @property
    def state_dir(self) -> Path:
        """What the node sees as /var/lib/weave."""
        return self.disk_dir / "state"

    @property
    def conf_dir(self) -> Path:
        """What the node sees as /etc/cni/net.d."""
        return self.disk_dir / "cni" / "net.d"

    @property
    def bin_dir(self) -> Path:
        """What the node sees as /opt/cni/bin."""
        return self.disk_dir / "cni" / "bin"

    @property
    def log_dir(self) -> Path:
        """One log file per service."""
        return self.disk_dir / "logs"

    @property
    def pod_dir(self) -> Path:
        """What the runtime remembers: one file per pod."""
        return self.disk_dir / "pods"

    @property
    def control_dir(self) -> Path:
        """What the lab knows of running processes; not seen inside the node."""
        return LabLayout(self.lab).control_dir / self.name

    @property
    def netns(self) -> str:
        """Name of the node's network namespace on the host."""
        return f"{self.lab}-{self.name}"

    @property
    def address(self) -> str:
        """IPv4 address on the wire."""
        return f"{UNDERLAY_IPV4}.{self.number}"

    @property
    def address6(self) -> str:
        """IPv6 address on the wire."""
        return f"{UNDERLAY_IPV6}:{self.number}"


@dataclass(frozen=True, slots=True)
class LabLayout:
    """Names and paths of a whole lab. Raises LabError for a name that cannot be one."""

    name: str

    def __post_init__(self) -> None:
        if not _LAB_NAME.fullmatch(self.name):
            raise LabError(
                f"{self.name!r} cannot be the name of a lab:"
                " up to 24 of a-z, 0-9 and '-', a letter first"
            )

    @property
    def run_dir(self) -> Path:
        """Sockets and run-time facts of all nodes."""
        return RUN_ROOT / self.name

    @property
    def disk_dir(self) -> Path:
        """Files of all nodes."""
        return DISK_ROOT / self.name

    @property
    def control_dir(self) -> Path:
        """The lab's own facts; a node is never called `.lab`."""
        return self.run_dir / ".lab"

    @property
    def wire_netns(self) -> str:
        """Name of the namespace that is the underlay."""
        return f"{self.name}-wire"

    def node(self, number: int) -> NodeLayout:
        """The layout of node `n<number>`."""
        return NodeLayout(self.name, number)


def node_number(name: str) -> int:
    """The number in `n3`. Raises LabError."""
    match = _NODE_NAME.fullmatch(name)
    if match is None or not 1 <= int(match[1]) <= MAX_NODES:
        raise LabError(f"{name!r} is no node; nodes are called n1, n2, ...")
    return int(match[1])


def checked_pod_name(name: str) -> str:
    """The name itself, if Kubernetes would take it for a pod (RFC 1123 label). Raises LabError."""
    if not _POD_NAME.fullmatch(name):
        raise LabError(
            f"{name!r} cannot be the name of a pod:"
            " up to 63 of a-z, 0-9 and '-', no '-' at the ends"
        )
    return name
