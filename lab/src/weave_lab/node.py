"""One node of a lab: its namespaces, its services and its pods."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from weave_lab import cni, interpreter, pods, processes, services
from weave_lab.cni import Network, Runtime
from weave_lab.command import run
from weave_lab.errors import LabError
from weave_lab.layout import NETNS_ROOT, NodeLayout
from weave_lab.node_plan import READY, NodePlan
from weave_lab.pods import Pod
from weave_lab.processes import ProcessRecord
from weave_lab.services import ALL, Service

# Cold start of a service is below 1 s; several nodes start at once on two cores.
START_TIMEOUT_S = 30.0
READY_TIMEOUT_S = 60.0
STOP_TIMEOUT_S = 20.0
_POLL_S = 0.05
_LOG_LINES_IN_ERROR = 3


@dataclass(frozen=True, slots=True)
class Node:
    """A node that runs. All facts are on disk or in the kernel: any number of these may exist."""

    layout: NodeLayout
    # Environment of its services, beyond what every process of a lab gets.
    service_environment: Mapping[str, str]
    service_arguments: Mapping[str, Sequence[str]]

    @property
    def name(self) -> str:
        """`n1`."""
        return self.layout.name

    @property
    def address(self) -> str:
        """IPv4 address on the underlay."""
        return self.layout.address

    # Life of the namespaces

    def create(self) -> None:
        """Makes folders and mount namespace in an existing network namespace. Raises LabError."""
        layout = self.layout
        layout.control_dir.mkdir(parents=True)
        services.make_folders(layout)
        scratch = layout.control_dir / "scratch"
        scratch.mkdir()
        plan = NodePlan(
            host_name=self.name,
            scratch=str(scratch),
            run_dir=str(layout.run_dir),
            binds={
                "/var/lib/weave": str(layout.state_dir),
                "/etc/cni/net.d": str(layout.conf_dir),
                cni.BIN_DIR: str(layout.bin_dir),
            },
            covers=interpreter.covers(interpreter.needed_folders()),
        )
        command = [
            *("nsenter", f"--net={NETNS_ROOT / layout.netns}", "--"),
            *(sys.executable, "-I", "-m", "weave_lab.node_init", plan.to_json()),
        ]
        reader, writer = os.pipe()
        with os.fdopen(reader) as said:
            try:
                pid = processes.spawn(command, self.environment(), stdout=writer, stderr=writer)
            finally:
                os.close(writer)
            line = said.readline()
            if line != READY:
                reason = [line, *said][-1].strip() or "no reason given"
                raise LabError(f"cannot make the file system of {self.name}: {reason}")
        ProcessRecord.of(pid).save(self._record_path("holder"))

    @property
    def holder(self) -> ProcessRecord:
        """The process that keeps the namespaces. Raises LabError when it is gone."""
        record = ProcessRecord.load(self._record_path("holder"))
        if record is None or not record.is_alive:
            raise LabError(
                f"node {self.name} of lab {self.layout.lab!r} is gone; run `weave-lab down`"
            )
        return record

    def enter(self) -> list[str]:
        """The command that puts another into this node's namespaces. Raises LabError."""
        return ["nsenter", f"--target={self.holder.pid}", "--mount", "--net", "--uts", "--"]

    def environment(self) -> dict[str, str]:
        """Environment of everything that runs inside the node but its services."""
        return services.base_environment(self.layout.lab, {})

    def exec(
        self, argv: Sequence[str], *, stdin: str | None = None, timeout_s: float = 60.0
    ) -> subprocess.CompletedProcess[str]:
        """Runs a program in the node to its end; its failure is for the caller to judge."""
        return run(
            [*self.enter(), *argv],
            stdin=stdin,
            timeout_s=timeout_s,
            environment=self.environment(),
        )

    def reap(self) -> None:
        """Forgets what this process has started in the node, after all of it has ended."""
        for path in self.layout.control_dir.glob("*.json"):
            if (record := ProcessRecord.load(path)) is not None:
                record.reap()

    # Services

    def launch(
        self,
        name: str = ALL,
        *,
        arguments: Sequence[str] = (),
        environment: Mapping[str, str] | None = None,
    ) -> None:
        """Starts a service, or all, without waiting. What runs already is left alone.

        `arguments` and `environment` come on top of the lab's, for this start only.
        """
        variables = self._service_variables(environment)
        for service in services.selected(name):
            if self.service_process(service.name) is not None:
                continue
            command = self._service_command(service, arguments)
            with self._log_path(service).open("ab") as log:
                output = log.fileno()
                pid = processes.spawn(command, variables, stdout=output, stderr=output)
            # Gone at once is seen by wait_serving, which can show its log.
            with contextlib.suppress(LabError):
                ProcessRecord.of(pid).save(self._record_path(service.name))

    def start(
        self,
        name: str = ALL,
        *,
        arguments: Sequence[str] = (),
        environment: Mapping[str, str] | None = None,
    ) -> None:
        """Starts a service, or all, and returns when each accepts connections. Raises LabError."""
        self.launch(name, arguments=arguments, environment=environment)
        for service in services.selected(name):
            self.wait_serving(service)

    def try_out(
        self,
        name: str,
        *,
        arguments: Sequence[str] = (),
        environment: Mapping[str, str] | None = None,
        timeout_s: float = START_TIMEOUT_S,
    ) -> subprocess.CompletedProcess[str]:
        """Runs a service that is expected to refuse to start, and returns what it said.

        Raises CommandFailed when it still runs after the deadline; it is ended then.
        """
        (service,) = services.selected(name)
        return run(
            self._service_command(service, arguments),
            timeout_s=timeout_s,
            environment=self._service_variables(environment),
        )

    def kill(self, name: str = ALL) -> None:
        """Ends a service, or all at one time, by SIGKILL. Idempotent."""
        self._end(name, signal.SIGKILL)

    def stop(self, name: str = ALL) -> None:
        """Ends a service, or all, by SIGTERM, as Kubernetes does on an upgrade. Idempotent."""
        self._end(name, signal.SIGTERM)

    def service_process(self, name: str) -> ProcessRecord | None:
        """The living process of a service, none while it is down."""
        record = ProcessRecord.load(self._record_path(name))
        return record if record is not None and record.is_alive else None

    def wait_serving(self, service: Service, timeout_s: float = START_TIMEOUT_S) -> None:
        """Returns when the service accepts connections. Raises LabError with its last log lines."""
        path = self.layout.run_dir / service.folder / "api.sock"
        deadline = time.monotonic() + timeout_s
        while not _accepts(str(path)):
            if self.service_process(service.name) is None:
                raise LabError(
                    f"{service.name} on {self.name} has ended: {self._last_lines(service)}"
                )
            if time.monotonic() > deadline:
                raise LabError(
                    f"{service.name} on {self.name} does not serve {path} after {timeout_s:g} s:"
                    f" {self._last_lines(service)}"
                )
            time.sleep(_POLL_S)

    def log(self, name: str) -> str:
        """All that a service has logged in this lab. Raises LabError."""
        (service,) = services.selected(name) if name != ALL else (None,)
        if service is None:
            raise LabError("logs are kept per service; name one")
        try:
            return self._log_path(service).read_text(errors="replace")
        except FileNotFoundError:
            return ""

    # The runtime's part

    def runtime(self) -> Runtime:
        """Runs this node's CNI executables."""
        return Runtime(self.enter(), self.environment())

    def network(self) -> Network:
        """The node's network configuration. Raises LabError while there is none."""
        network = cni.load_network(self.layout.conf_dir)
        if network is None:
            raise LabError(
                f"{self.name} has no network configuration in {self.layout.conf_dir} yet;"
                f" `weave-lab status` shows which service is missing"
            )
        return network

    def not_ready_reason(self) -> str | None:
        """Why an ADD would fail now, asked as a runtime asks; none when it would succeed."""
        try:
            self.runtime().status(self.network())
        except LabError as error:
            return str(error)
        return None

    def wait_ready(self, timeout_s: float = READY_TIMEOUT_S) -> None:
        """Returns when an ADD would succeed. Raises LabError with the reason after the deadline."""
        deadline = time.monotonic() + timeout_s
        while (reason := self.not_ready_reason()) is not None:
            for service in services.SERVICES:
                if self.service_process(service.name) is None:
                    raise LabError(
                        f"{service.name} on {self.name} has ended: {self._last_lines(service)}"
                    )
            if time.monotonic() > deadline:
                raise LabError(f"{self.name} is not ready after {timeout_s:g} s: {reason}")
            time.sleep(_POLL_S)

    def add_pod(self, name: str) -> Pod:
        """Adds a pod by the node's CNI executable. Raises CniError or LabError."""
        return pods.add(self, name)

    def delete_pod(self, name: str) -> None:
        """Deletes a pod; again is fine. Raises CniError or LabError."""
        pods.delete(self, name)

    def pod(self, name: str) -> Pod:
        """A pod that was added. Raises LabError."""
        pod = Pod(self, name)
        if pod.record.deleted:
            raise LabError(f"pod {name!r} of {self.name} is deleted")
        return pod

    def pods(self) -> list[Pod]:
        """The pods that are there."""
        return pods.listing(self)

    def _service_command(self, service: Service, arguments: Sequence[str]) -> list[str]:
        given = self.service_arguments.get(service.name, ())
        return [*self.enter(), *service.command(), *given, *arguments]

    def _service_variables(self, environment: Mapping[str, str] | None) -> dict[str, str]:
        extra = {**self.service_environment, **(environment or {})}
        return services.base_environment(self.layout.lab, extra)

    def _end(self, name: str, number: signal.Signals) -> None:
        running = [
            (service, record)
            for service in services.selected(name)
            if (record := self.service_process(service.name)) is not None
        ]
        for _, record in running:
            record.send(number)
        for service, record in running:
            record.wait_gone(STOP_TIMEOUT_S)
            record.reap()
            self._record_path(service.name).unlink(missing_ok=True)

    def _last_lines(self, service: Service) -> str:
        lines = self.log(service.name).strip().splitlines()[-_LOG_LINES_IN_ERROR:]
        return " / ".join(line.strip() for line in lines) or "it logged nothing"

    def _log_path(self, service: Service) -> Path:
        return self.layout.log_dir / f"{service.name}.log"

    def _record_path(self, name: str) -> Path:
        return self.layout.control_dir / f"{name}.json"


def _accepts(path: str) -> bool:
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.settimeout(1.0)
        try:
            probe.connect(path)
        except OSError:
            return False
    return True
