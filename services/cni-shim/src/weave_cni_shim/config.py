"""Options of cni-shim."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

from weave_cni_shim.core.conflist import CHAINABLE
from weave_cni_shim.core.wishes import MTU_RANGE
from weave_runtime.config import option, parse_int
from weave_runtime.options import CommonOptions


def parse_chained(text: str) -> str:
    """Reads the name of a reference plugin that can be chained behind ours."""
    if text not in CHAINABLE:
        raise ValueError(f"expected one of {', '.join(CHAINABLE)}")
    return text


def parse_mtu(text: str) -> int:
    """Reads an MTU, or 0."""
    lowest, highest = MTU_RANGE
    mtu = parse_int(text)
    if mtu and not lowest <= mtu <= highest:
        raise ValueError(f"expected 0, or {lowest} to {highest}")
    return mtu


@dataclass(frozen=True, kw_only=True)
class Config(CommonOptions):
    """Options of cni-shim; paths are those the process sees, which may be mounts of the host's."""

    socket_path: Path = option(
        Path("/run/weave/cni/api.sock"), help="unix socket of the gRPC interface"
    )
    state_dir: Path = option(Path("/var/lib/weave/cni"), help="directory of the durable state")
    exec_socket: Path = option(
        Path("/run/weave/cni/exec.sock"), help="socket of the host executable"
    )
    expect_npc: bool = option(
        False, env="EXPECT_NPC", help="wait for npc to judge a pod before its port opens"
    )
    conf_dir: Path = option(Path("/etc/cni/net.d"), help="where the runtime looks for conflists")
    bin_dir: Path = option(Path("/opt/cni/bin"), help="where the runtime looks for executables")
    executable: Path = option(
        Path("/usr/libexec/weave/weave-net"), help="the host executable to install in --bin-dir"
    )
    chain: tuple[str, ...] = option(
        (), parse=parse_chained, help="reference plugins behind ours in the conflist"
    )
    mtu: int = option(
        0, env="WEAVE_MTU", parse=parse_mtu, help="MTU of pods; 0: what the overlay allows"
    )
    collect_interval: timedelta = option(
        timedelta(seconds=30), help="how often attachments of vanished namespaces are looked for"
    )
    kube_node: str = option(
        "", help="Kubernetes Node this is; an uninstall that gossip tells of is then carried out"
    )
    add_timeout: timedelta = option(
        timedelta(seconds=60),
        help="after this an ADD is undone and fails (a kubelet waits for 2 minutes)",
    )
