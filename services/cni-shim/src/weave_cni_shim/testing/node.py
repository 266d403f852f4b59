"""A node's CNI daemon between fakes, put together as the process does it."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from weave_cni_shim.attach import Attacher
from weave_cni_shim.collector import Collector
from weave_cni_shim.core.conflist import FILE_NAME, render
from weave_cni_shim.delegations import Delegations
from weave_cni_shim.install import Conflist
from weave_cni_shim.readiness import Readiness
from weave_cni_shim.spool import Spool
from weave_cni_shim.testing.services import FakeIpam, FakeNpc, FakeRouter, Stage
from weave_cni_shim.verbs import Verbs


@dataclass
class Node:
    """All parts; `folder` holds its spool and its conflist."""

    folder: Path
    timeout_s: float = 30.0
    stage: Stage = field(default_factory=Stage)

    def __post_init__(self) -> None:
        self.ipam, self.router = FakeIpam(self.stage), FakeRouter(self.stage)
        self.npc = FakeNpc(self.stage)
        self.spool = Spool(self.folder / "spool", retry_s=0.01, patience_s=0.5)
        self.attacher = Attacher(
            self.router, self.npc, timeout_s=self.timeout_s, owe=self.spool.keep
        )
        self.delegations = Delegations(self.folder / "delegated")
        self.collector = Collector(
            self.attacher,
            self.ipam,
            self.router,
            self.delegations,
            plugin_dir=self.folder / "bin",
        )
        self.conflist = Conflist(self.folder / "net.d" / FILE_NAME, render(mtu=0, chain=()))
        self.readiness = Readiness(
            [self.ipam.why_not_ready, self.router.why_not_ready, self.npc.why_not_ready],
            self.conflist,
            patience_s=0.0,
        )
        self.verbs = Verbs(
            self.attacher,
            self.collector,
            self.ipam,
            self.router,
            self.readiness,
            self.spool,
            self.delegations,
            mtu=0,
            plugin_dir=self.folder / "bin",
        )

    @property
    def is_empty(self) -> bool:
        """Does no service hold anything?"""
        return not (self.ipam.held or self.router.ports or self.npc.admitted)
