"""Pods of one node: a network namespace each, attached by the node's own CNI executables."""

from __future__ import annotations

import dataclasses
import secrets
import subprocess
import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from weave_lab import processes
from weave_lab.cni import PodRecord, Sandbox
from weave_lab.command import check, run
from weave_lab.errors import LabError
from weave_lab.layout import checked_pod_name

if TYPE_CHECKING:
    from weave_lab.node import Node


@dataclass(frozen=True, slots=True)
class Pod:
    """A pod that was added. `addresses` are its own, IPv4 first."""

    node: Node
    name: str

    @property
    def record(self) -> PodRecord:
        """What the runtime remembers of it. Raises LabError when it never was."""
        record = PodRecord.load(_record_path(self.node, self.name))
        if record is None:
            raise LabError(f"{self.node.name} never had a pod {self.name!r}")
        return record

    @property
    def addresses(self) -> list[str]:
        """Its addresses, IPv4 first."""
        return self.record.addresses

    @property
    def address(self) -> str:
        """Its first address."""
        return self.addresses[0]

    def enter(self) -> list[str]:
        """The command that puts another into this pod."""
        return [*self.node.enter(), "nsenter", f"--net={self.record.sandbox.netns}", "--"]

    def exec(
        self, argv: Sequence[str], *, timeout_s: float = 60.0
    ) -> subprocess.CompletedProcess[str]:
        """Runs a program in the pod to its end; its failure is for the caller to judge."""
        return run([*self.enter(), *argv], timeout_s=timeout_s, environment=self.node.environment())

    def spawn(self, argv: Sequence[str]) -> subprocess.Popen[str]:
        """Starts a program in the pod with its output on a pipe."""
        return subprocess.Popen(
            [*self.enter(), *argv],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            env=self.node.environment(),
        )


def add(node: Node, name: str) -> Pod:
    """Makes the namespace and runs ADD. Raises CniError (nothing is left then) or LabError."""
    path = _record_path(node, checked_pod_name(name))
    known = PodRecord.load(path)
    if known is not None and not known.deleted:
        raise LabError(f"{node.name} already has a pod {name!r}")
    network = node.network()
    sandbox = Sandbox(
        pod=name,
        container_id=secrets.token_hex(32),
        netns=f"/run/netns/{name}",
        uid=str(uuid.uuid4()),
    )
    check([*node.enter(), "ip", "netns", "add", name])
    try:
        # Known before ADD, so that a runtime that dies half-way can still run DEL.
        PodRecord(sandbox, network).save(path)
        result, add_s = node.runtime().add(network, sandbox)
    except LabError:
        _remove_namespace(node, name)
        PodRecord(sandbox, network, deleted=True).save(path)
        raise
    PodRecord(sandbox, network, result, add_s).save(path)
    return Pod(node, name)


def delete(node: Node, name: str) -> None:
    """Runs DEL, ends the pod's processes and removes its namespace.

    Repeated, it runs DEL again for the same container. Raises CniError (the pod stays, as a runtime
    would keep it) or LabError (there never was such a pod).
    """
    pod = Pod(node, checked_pod_name(name))
    record = pod.record
    if not record.deleted:
        _end_processes(node, name)
    del_s = node.runtime().delete(record.network, record.sandbox, record.result)
    if not record.deleted:
        _remove_namespace(node, name)
    dataclasses.replace(record, del_s=del_s, deleted=True).save(_record_path(node, name))


def listing(node: Node) -> list[Pod]:
    """The pods that are there, sorted by name."""
    names = sorted(path.stem for path in node.layout.pod_dir.glob("*.json"))
    return [pod for pod in (Pod(node, name) for name in names) if not pod.record.deleted]


def _record_path(node: Node, name: str) -> Path:
    return node.layout.pod_dir / f"{name}.json"


def _end_processes(node: Node, name: str) -> None:
    """What runs in the pod ends with it, as a sandbox's processes do."""
    found = run([*node.enter(), "stat", "-L", "-c", "%i", f"/run/netns/{name}"])
    if found.returncode == 0:
        processes.kill_all(processes.inside({int(found.stdout)}))


def _remove_namespace(node: Node, name: str) -> None:
    run([*node.enter(), "ip", "netns", "delete", name])
