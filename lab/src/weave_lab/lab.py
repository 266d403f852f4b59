"""A whole lab: up, found again by name, down."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import stat
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Self

from weave_lab import cgroups, interpreter, processes, services, wire
from weave_lab.errors import LabError
from weave_lab.executable import ensure_executable, host_executable
from weave_lab.layout import (
    DEFAULT_NAME,
    DISK_ROOT,
    MAX_NODES,
    NETNS_ROOT,
    RUN_ROOT,
    LabLayout,
    NodeLayout,
    node_number,
)
from weave_lab.namespaces import HeldNamespaces
from weave_lab.node import Node

# The default of the services, too.
DEFAULT_RANGE = "10.32.0.0/12"
# A process that starts others as fast as they are ended is nothing the lab knows to end.
_GONE_TIMEOUT_S = 20.0

Progress = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class LabSpec:
    """How a lab is made. Environment and arguments come on top of what the lab gives services."""

    name: str = DEFAULT_NAME
    nodes: int = 3
    address_range: str = DEFAULT_RANGE
    environment: Mapping[str, str] = field(default_factory=dict)
    # Per service name.
    arguments: Mapping[str, Sequence[str]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if not 1 <= self.nodes <= MAX_NODES:
            raise LabError(f"a lab has 1 to {MAX_NODES} nodes, not {self.nodes}")
        known = {service.name for service in services.SERVICES}
        if unknown := sorted(self.arguments.keys() - known):
            raise LabError(f"{unknown[0]!r} is no service")


class Lab:
    """A running lab. As a context manager it goes down at the end.

    with Lab.up(LabSpec(name="try", nodes=2)) as lab:
        pod = lab.node("n1").add_pod("a")
    """

    def __init__(self, spec: LabSpec) -> None:
        self.spec = spec
        self.layout = LabLayout(spec.name)

    @classmethod
    def create(cls, spec: LabSpec, progress: Progress = lambda _: None) -> Lab:
        """Makes wire, nodes and folders, but starts no service. On failure nothing is left."""
        _require_root()
        layout = LabLayout(spec.name)
        ensure_executable()
        _make_root(DISK_ROOT)
        _make_root(RUN_ROOT)
        lab = cls(spec)
        if layout.run_dir.exists():
            raise _already_there(spec.name)
        lab._check_free()
        lab._claim_name()
        try:
            # Files of a lab that a reboot ended.
            shutil.rmtree(layout.disk_dir, ignore_errors=True)
            progress(f"making the wire and {spec.nodes} nodes")
            wire.create(layout)
            for node in lab.nodes():
                wire.plug_in(layout, node.layout)
                node.create()
            interpreter.verify(lab.node("n1").enter(), services.GOSSIP)
        except BaseException:
            lab.down()
            raise
        return lab

    @classmethod
    def up(cls, spec: LabSpec, progress: Progress = lambda _: None) -> Lab:
        """Makes a lab, starts all services and waits until pods can be added.

        On failure nothing is left. Raises LabError.
        """
        lab = cls.create(spec, progress)
        try:
            lab.start(progress)
        except BaseException:
            lab.down()
            raise
        return lab

    @classmethod
    def open(cls, name: str = DEFAULT_NAME) -> Lab:
        """Finds a lab that is up. Raises LabError."""
        _require_root()
        try:
            raw = json.loads((LabLayout(name).control_dir / "lab.json").read_text())
        except FileNotFoundError:
            raise LabError(f"there is no lab {name!r}; `weave-lab up --name {name}`") from None
        return cls(LabSpec(**raw))

    @staticmethod
    def names() -> list[str]:
        """Names of all labs that are up, sorted."""
        names = (path.parent.parent.name for path in RUN_ROOT.glob("*/.lab/lab.json"))
        return sorted(name for name in names if not name.startswith("."))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.down()

    @property
    def name(self) -> str:
        """The lab's name."""
        return self.spec.name

    def node(self, name: str) -> Node:
        """The node of that name. Raises LabError."""
        number = node_number(name)
        if number > self.spec.nodes:
            raise LabError(f"lab {self.name!r} has the nodes n1 to n{self.spec.nodes}, no {name}")
        return Node(self.layout.node(number), self._environment(number), self.spec.arguments)

    def nodes(self) -> list[Node]:
        """All nodes in order."""
        return [self.node(f"n{number}") for number in range(1, self.spec.nodes + 1)]

    def start(self, progress: Progress = lambda _: None) -> None:
        """Starts what does not run on all nodes and waits until pods can be added."""
        progress("starting " + ", ".join(service.name for service in services.SERVICES))
        for node in self.nodes():
            node.launch()
        for node in self.nodes():
            for service in services.SERVICES:
                node.wait_serving(service)
        progress("waiting until pods can be added")
        for node in self.nodes():
            node.wait_ready()

    def cut(self, one: str, other: str) -> None:
        """Stops all underlay packets between two nodes. Idempotent."""
        wire.cut(self.layout, *self._two(one, other))

    def heal(self, one: str, other: str) -> None:
        """Undoes `cut`. Idempotent."""
        wire.heal(self.layout, *self._two(one, other))

    def cuts(self) -> list[tuple[str, str]]:
        """Pairs of nodes that are cut off from each other."""
        return wire.cuts(self.layout)

    def namespaces(self) -> HeldNamespaces:
        """All network and mount namespaces of the lab, those of pods included; close it."""
        names = [self.layout.wire_netns, *(node.layout.netns for node in self.nodes())]
        paths = [NETNS_ROOT / name for name in names]
        for node in self.nodes():
            with contextlib.suppress(LabError, OSError):
                process = Path(f"/proc/{node.holder.pid}")
                paths.append(process / "ns" / "mnt")
                # The node's own /run, seen through its first process.
                paths.extend((process / "root/run/netns").iterdir())
        return HeldNamespaces(paths)

    def down(self) -> None:
        """Ends all processes and removes everything. Idempotent."""
        with self.namespaces() as namespaces:
            deadline = time.monotonic() + _GONE_TIMEOUT_S
            # More than once: something may have been starting another process meanwhile.
            while found := processes.inside(namespaces.numbers):
                processes.kill_all(found)
                if time.monotonic() > deadline:
                    raise LabError(f"processes of lab {self.name!r} keep coming: {found[0]}")
            for node in self.nodes():
                node.reap()
            wire.remove(self.layout, [node.layout for node in self.nodes()])
        cgroups.remove(self.name)
        shutil.rmtree(self.layout.disk_dir, ignore_errors=True)
        # At one stroke, too: while its folder is there a lab can be opened and taken down.
        with contextlib.suppress(FileNotFoundError):
            self.layout.run_dir.rename(self._draft_dir)
        shutil.rmtree(self._draft_dir, ignore_errors=True)
        for root in (DISK_ROOT, RUN_ROOT):
            with contextlib.suppress(OSError):
                root.rmdir()

    @property
    def _draft_dir(self) -> Path:
        """A folder that is no lab yet or any more; no lab's name begins with a dot."""
        return RUN_ROOT / f".{self.name}.{os.getpid()}"

    def _claim_name(self) -> None:
        """Makes the lab known, at one stroke, so that it can be taken down from now on."""
        control_dir = self._draft_dir / self.layout.control_dir.name
        control_dir.mkdir(parents=True)
        (control_dir / "lab.json").write_text(json.dumps(asdict(self.spec)))
        try:
            self._draft_dir.rename(self.layout.run_dir)
        except OSError:
            shutil.rmtree(self._draft_dir)
            raise _already_there(self.name) from None

    def _environment(self, number: int) -> dict[str, str]:
        others = [self.layout.node(n).address for n in range(1, self.spec.nodes + 1) if n != number]
        environment = {
            "KUBE_PEERS": " ".join(others),
            # Told to gossip too: peers with another range are refused at once.
            "IPALLOC_RANGE": self.spec.address_range,
            "IPALLOC_INIT": f"consensus={self.spec.nodes}",
            "WEAVE_EXECUTABLE": str(host_executable()),
        }
        return environment | dict(self.spec.environment)

    def _two(self, one: str, other: str) -> tuple[NodeLayout, NodeLayout]:
        if one == other:
            raise LabError(f"{one} cannot be cut off from itself")
        return self.node(one).layout, self.node(other).layout

    def _check_free(self) -> None:
        for name in [self.layout.wire_netns, *(node.layout.netns for node in self.nodes())]:
            if (NETNS_ROOT / name).exists():
                raise LabError(
                    f"the network namespace {name} is already there and not of this lab;"
                    f" choose another --name or `ip netns delete {name}`"
                )


def _already_there(name: str) -> LabError:
    return LabError(
        f"a lab {name!r} is already there; take it down with"
        f" `weave-lab down --name {name}` or choose another --name"
    )


def _require_root() -> None:
    if os.geteuid() != 0:
        raise LabError("a lab makes network namespaces and needs root; run it as root")


def _make_root(path: Path) -> None:
    """Makes one of the two roots; refuses one that another user has put there."""
    path.mkdir(mode=0o755, exist_ok=True)
    facts = path.lstat()
    if not stat.S_ISDIR(facts.st_mode) or facts.st_uid != 0 or facts.st_mode & 0o022:
        raise LabError(f"{path} must be a folder that root alone can write; remove it")
