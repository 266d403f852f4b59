"""What a kubelet does with a runtime: sandboxes through the CRI, and nothing else."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import grpc

from weave_lab import Node
from weave_lab.containerd import Containerd
from weave_lab.processes import ProcessRecord

# A kubelet waits for two minutes.
CALL_S = 60.0
_STARTING = "server is not initialized yet"

_messages, _services = grpc.protos_and_services(str(Path("tests/cri/cri.proto")))


@dataclass(frozen=True)
class Sandbox:
    """A sandbox that runs, or ran, on a node. `addresses` as the runtime reported them."""

    node: Node
    id: str
    config: Any
    addresses: tuple[str, ...]
    pid: int
    netns: str

    @property
    def address(self) -> str:
        """Its first address."""
        return self.addresses[0]

    def enter(self) -> list[str]:
        """The command that puts another into its network namespace."""
        return [*self.node.enter(), "nsenter", f"--net={self.netns}", "--"]

    def reaches(self, address: str) -> bool:
        """Does a ping come back?"""
        command = [*self.enter(), "ping", "-n", "-c1", "-W3", address]
        return subprocess.run(command, capture_output=True, check=False).returncode == 0

    def end_processes(self) -> None:
        """Kills its first process, as the kernel does when memory runs out."""
        record = ProcessRecord.of(self.pid)
        record.send(signal.SIGKILL)
        record.wait_gone(CALL_S)


@dataclass
class Cri:
    """The CRI of one node's containerd."""

    containerd: Containerd
    # Sandboxes that were run and not removed.
    open: list[Sandbox] = field(default_factory=list)

    def run(self, name: str, *, ports: Sequence[tuple[int, int]] = (), attempt: int = 0) -> Sandbox:
        """Runs a sandbox; `ports` are pairs of host and container port. Raises grpc.RpcError."""
        config = _messages.PodSandboxConfig(
            metadata=_messages.PodSandboxMetadata(
                name=name, uid=str(uuid.uuid4()), namespace="default", attempt=attempt
            ),
            hostname=name,
            port_mappings=[
                _messages.PortMapping(host_port=host, container_port=inside)
                for host, inside in ports
            ],
            linux=_messages.LinuxPodSandboxConfig(cgroup_parent=self.containerd.cgroup_parent),
        )
        answer = self._call("RunPodSandbox", _messages.RunPodSandboxRequest(config=config))
        status = self.status(answer.pod_sandbox_id)
        info = json.loads(status.info["info"])
        spaces = {each["type"]: each for each in info["runtimeSpec"]["linux"]["namespaces"]}
        network = status.status.network
        sandbox = Sandbox(
            self.containerd.node,
            answer.pod_sandbox_id,
            config,
            (network.ip, *(each.ip for each in network.additional_ips)),
            info["pid"],
            spaces["network"]["path"],
        )
        self.open.append(sandbox)
        return sandbox

    def status(self, sandbox_id: str) -> Any:
        """PodSandboxStatusResponse, verbose. Raises grpc.RpcError."""
        request = _messages.PodSandboxStatusRequest(pod_sandbox_id=sandbox_id, verbose=True)
        return self._call("PodSandboxStatus", request)

    def is_ready(self, sandbox: Sandbox) -> bool:
        """Does the runtime hold the sandbox for running?"""
        state = self.status(sandbox.id).status.state
        return bool(state == _messages.SANDBOX_READY)

    def stop(self, sandbox: Sandbox) -> None:
        """Stops it and gives its network back. Raises grpc.RpcError."""
        self._call("StopPodSandbox", _messages.StopPodSandboxRequest(pod_sandbox_id=sandbox.id))

    def remove(self, sandbox: Sandbox) -> None:
        """Stops and forgets it. Raises grpc.RpcError."""
        self.stop(sandbox)
        self._call("RemovePodSandbox", _messages.RemovePodSandboxRequest(pod_sandbox_id=sandbox.id))
        if sandbox in self.open:
            self.open.remove(sandbox)

    def remove_all(self) -> None:
        """Removes what a test has left."""
        for sandbox in list(self.open):
            self.remove(sandbox)

    def network_is_ready(self) -> bool:
        """The condition NetworkReady, as a kubelet asks for it every five seconds."""
        conditions = self._call("Status", _messages.StatusRequest()).status.conditions
        return any(each.type == "NetworkReady" and each.status for each in conditions)

    def _call(self, method: str, request: Any) -> Any:
        # Go's server refuses the socket's path as an authority.
        options = [("grpc.default_authority", "localhost")]
        with grpc.insecure_channel(f"unix://{self.containerd.socket}", options) as channel:
            call = getattr(_services.RuntimeServiceStub(channel), method)
            deadline = time.monotonic() + CALL_S
            while True:
                try:
                    return call(request, timeout=CALL_S, wait_for_ready=True)
                except grpc.RpcError as error:
                    # Right after a start it listens already, and does nothing yet.
                    is_early = _STARTING in (error.details() or "")
                    if not is_early or time.monotonic() > deadline:
                        raise
                    time.sleep(0.1)


class Served:
    """An HTTP server in a sandbox during a `with` block."""

    def __init__(self, sandbox: Sandbox, port: int) -> None:
        command = [sys.executable, "-I", "-m", "weave_lab.transfer", "serve", str(port), "1000"]
        self._process = subprocess.Popen(
            [*sandbox.enter(), *command],
            stdout=subprocess.PIPE,
            text=True,
            env=sandbox.node.environment(),
        )

    def __enter__(self) -> None:
        assert self._process.stdout
        assert self._process.stdout.readline().startswith("{")

    def __exit__(self, *_: object) -> None:
        self._process.kill()
        self._process.communicate()


def fetches(enter: Sequence[str], url: str) -> bool:
    """Does a download from there come back whole?"""
    command = [*enter, sys.executable, "-I", "-m", "weave_lab.transfer", "fetch", url]
    done = subprocess.run(command, capture_output=True, text=True, timeout=30, check=False)
    return done.returncode == 0 and json.loads(done.stdout)["bytes"] == 1000
