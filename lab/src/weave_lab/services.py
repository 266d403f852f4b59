"""The services of a node as docs/adr/0004 starts them: uid, groups, capabilities, folders.

Whoever starts services makes their folders; here that is the lab, in production the chart.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from weave_lab.errors import LabError
from weave_lab.layout import NodeLayout

# docs/adr/0004: uid = gid = group of the socket.
GOSSIP_ID = 56786
IPAM_ID = 56787
ROUTER_ID = 56784
CNI_ID = 56788
NPC_ID = 56781


@dataclass(frozen=True, slots=True)
class Service:
    """One service process. `folder` names its sockets' and its state's folder."""

    name: str
    module: str
    folder: str
    uid: int
    gid: int
    # Groups of the sockets it may call.
    groups: tuple[int, ...] = ()
    capabilities: tuple[str, ...] = ()

    def command(self) -> list[str]:
        """Becomes the service with nothing but what the decision grants."""
        wanted = ",".join(f"+{name}" for name in self.capabilities)
        bounding = f"-all,{wanted}" if wanted else "-all"
        raised = [f"--ambient-caps={wanted}"] if wanted else []
        groups = f"--groups={','.join(map(str, self.groups))}" if self.groups else "--clear-groups"
        return [
            "setpriv",
            f"--reuid={self.uid}",
            f"--regid={self.gid}",
            groups,
            "--no-new-privs",
            f"--inh-caps={bounding}",
            *raised,
            f"--bounding-set={bounding}",
            "--",
            sys.executable,
            "-m",
            self.module,
        ]


GOSSIP = Service("gossip", "weave_gossip", "gossip", GOSSIP_ID, GOSSIP_ID)
IPAM = Service("ipam", "weave_ipam", "ipam", IPAM_ID, IPAM_ID, (GOSSIP_ID, ROUTER_ID))
ROUTER = Service(
    "router",
    "weave_router",
    "router",
    ROUTER_ID,
    ROUTER_ID,
    (GOSSIP_ID, IPAM_ID),
    ("net_admin", "sys_admin"),
)
CNI_SHIM = Service(
    "cni-shim",
    "weave_cni_shim",
    "cni",
    0,
    CNI_ID,
    (GOSSIP_ID, IPAM_ID, ROUTER_ID, NPC_ID),
)

SERVICES = (GOSSIP, IPAM, ROUTER, CNI_SHIM)
ALL = "all"


def selected(name: str) -> tuple[Service, ...]:
    """The service of that name, or every one for `all`. Raises LabError."""
    if name == ALL:
        return SERVICES
    for service in SERVICES:
        if service.name == name:
            return (service,)
    names = ", ".join(service.name for service in SERVICES)
    raise LabError(f"{name!r} is no service; there are {names}, and `{ALL}`")


def make_folders(node: NodeLayout) -> None:
    """Makes a node's folders with the owners and modes of docs/adr/0004. Idempotent."""
    for path in (node.conf_dir, node.bin_dir, node.log_dir, node.pod_dir, node.state_dir):
        path.mkdir(parents=True, exist_ok=True)
    for service in SERVICES:
        _ensure_owned(node.run_dir / service.folder, service.uid, service.gid, 0o750)
        _ensure_owned(node.state_dir / service.folder, service.uid, service.gid, 0o700)


def base_environment(lab: str, extra: Mapping[str, str]) -> dict[str, str]:
    """What a process inside a lab sees of the caller's environment: hardly anything.

    WEAVE_LAB marks every process of a lab, so that leftovers are recognised.
    """
    return {
        "PATH": f"{sys.prefix}/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
        "LANG": "C.UTF-8",
        "WEAVE_LAB": lab,
        **extra,
    }


def _ensure_owned(path: Path, uid: int, gid: int, mode: int) -> None:
    path.mkdir(parents=True, exist_ok=True)
    os.chown(path, uid, gid)
    path.chmod(mode)
