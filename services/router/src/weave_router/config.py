"""The options of the router, with the environment names of Weave Net."""

from __future__ import annotations

import enum
import socket
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

from weave_model.prefix import Prefix
from weave_runtime.config import option, parse_bool, parse_count
from weave_runtime.options import CommonOptions

DEFAULT_RANGE = Prefix.parse("10.32.0.0/12")
# The smallest range that ipam shares out.
MIN_RANGE_ADDRESSES = 4
# What every IPv4 link can carry (RFC 791) and the most a device takes.
MIN_MTU = 576
MAX_MTU = 65535


class Drift(enum.Enum):
    """What happens when the kernel no longer holds what it should."""

    REPAIR = "repair"
    OBSERVE = "observe"


def parse_range(text: str) -> Prefix:
    """Reads an address range. Raises ValueError."""
    prefix = Prefix.parse(text)
    if prefix.size < MIN_RANGE_ADDRESSES:
        raise ValueError(
            f"{prefix} has {prefix.size} addresses, at least {MIN_RANGE_ADDRESSES} are needed"
        )
    return prefix


def parse_mtu(text: str) -> int:
    """Reads the MTU of the overlay; 0: from the underlay. Raises ValueError."""
    mtu = parse_count(text)
    if mtu and not MIN_MTU <= mtu <= MAX_MTU:
        raise ValueError(f"expected 0 or {MIN_MTU} to {MAX_MTU}")
    return mtu


@dataclass(frozen=True, kw_only=True)
class Config(CommonOptions):
    """What the router can be told."""

    socket_path: Path = option(
        Path("/run/weave/router/api.sock"), help="unix socket of the gRPC interface"
    )
    state_dir: Path = option(Path("/var/lib/weave/router"), help="directory of the durable state")
    http_addr: str = option(
        "127.0.0.1:6784",
        env="WEAVE_HTTP_ADDR",
        help="host:port of health, readiness and metrics; empty: off",
    )
    metrics_addr: str = option(
        "", env="WEAVE_METRICS_ADDR", help="another host:port of metrics; empty: off"
    )
    ipalloc_range: tuple[Prefix, ...] = option(
        (DEFAULT_RANGE,),
        env="IPALLOC_RANGE",
        parse=parse_range,
        help="range of addresses shared out to pods, one per family, the same on all nodes",
    )
    nickname: str = option(
        "", help="name of this node where nodes share a store; default: the host's name"
    )
    mtu: int = option(
        0,
        env="WEAVE_MTU",
        parse=parse_mtu,
        help="MTU of the overlay; 0: that of the underlay less the tunnel's header",
    )
    no_masq_local: bool = option(
        True,
        env="NO_MASQ_LOCAL",
        parse=parse_bool,
        help="pods see the addresses of clients outside the range",
    )
    direct: bool = option(
        False,
        env="WEAVE_DIRECT",
        parse=parse_bool,
        help="without a tunnel to peers on the same link that allow it too, as soon as probes pass",
    )
    proc_sys: Path = option(
        Path("/proc/sys"),
        help="where the kernel's switches may be written; in a container a mount of the host's",
    )
    drift: Drift = option(Drift.REPAIR, help="when the kernel changes: repair or only observe it")
    resync_interval: timedelta = option(
        timedelta(seconds=60), help="how often all of the kernel's state is compared"
    )

    @property
    def store_owner(self) -> str:
        """Keeps the state apart from that of other nodes in the same store."""
        return f"router:{self.nickname or socket.gethostname()}"

    def __post_init__(self) -> None:
        families = [prefix.family for prefix in self.ipalloc_range]
        if len(families) != len(set(families)):
            ranges = ", ".join(map(str, self.ipalloc_range))
            raise ValueError(f"option ipalloc-range: {ranges} has two ranges of one family")
