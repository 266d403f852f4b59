"""containerd in a node: a real runtime that calls the node's CNI executables by itself.

Its sockets, its state and all that it mounts live in the node's namespaces, its root among the
node's files, its control groups below one that bears the lab's name. Nothing is pulled: the one
image is that of `pause`.
"""

from __future__ import annotations

import shutil
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from weave_lab import cgroups, cni, pause, processes
from weave_lab.errors import LabError
from weave_lab.node import START_TIMEOUT_S, Node
from weave_lab.processes import ProcessRecord

STATE_DIR = Path("/run/containerd")
SOCKET = STATE_DIR / "containerd.sock"
# Where Debian's containernetworking-plugins are; containerd calls loopback itself.
REFERENCE_PLUGINS = Path("/usr/lib/cni")
_NAME = "containerd"
_IMPORT_TIMEOUT_S = 60.0
_POLL_S = 0.02


def configuration(root: Path) -> str:
    """A configuration (version 2, containerd 1.5 to 2) with the default CNI folders."""
    return f"""version = 2
root = "{root}"
state = "{STATE_DIR}"
# It would make folders below the host's /opt.
disabled_plugins = ["io.containerd.internal.v1.opt"]
[grpc]
  address = "{SOCKET}"
[plugins."io.containerd.grpc.v1.cri"]
  sandbox_image = "{pause.NAME}"
  # Machines without CAP_SYS_RESOURCE may not lower an OOM score.
  restrict_oom_score_adj = true
  [plugins."io.containerd.grpc.v1.cri".cni]
    bin_dir = "{cni.BIN_DIR}"
    conf_dir = "/etc/cni/net.d"
"""


@dataclass(frozen=True, slots=True)
class Containerd:
    """The runtime of one node; all facts are on disk."""

    node: Node

    @property
    def socket(self) -> Path:
        """Its gRPC socket, seen from outside of the node. Raises LabError when the node is gone."""
        return Path(f"/proc/{self.node.holder.pid}/root{SOCKET}")

    @property
    def cgroup_parent(self) -> str:
        """Where sandboxes shall be put, so that the lab finds and removes what is left of them."""
        return cgroups.parent(self.node.layout.lab)

    def install(self, plugins: Sequence[str] = ("loopback",)) -> None:
        """Writes the configuration and copies reference plugins beside ours. Raises LabError."""
        if shutil.which(_NAME) is None:
            raise LabError("the program `containerd` is missing; `make setup` installs it")
        self._folder.mkdir(parents=True, exist_ok=True)
        self._configuration.write_text(configuration(self._folder / "root"))
        for plugin in plugins:
            shutil.copy(REFERENCE_PLUGINS / plugin, self.node.layout.bin_dir)

    def start(self) -> None:
        """Starts the daemon and returns when it answers. Raises LabError."""
        if self._living() is not None:
            return
        command = [*self.node.enter(), _NAME, "--config", str(self._configuration)]
        with self._log.open("ab") as log:
            output = log.fileno()
            pid = processes.spawn(command, self.node.environment(), stdout=output, stderr=output)
        ProcessRecord.of(pid).save(self._record)
        deadline = time.monotonic() + START_TIMEOUT_S
        while self.node.exec(["ctr", "version"]).returncode != 0:
            if self._living() is None or time.monotonic() > deadline:
                last = self._log.read_text(errors="replace").strip().splitlines()[-1:]
                raise LabError(f"containerd on {self.node.name} does not answer: {last}")
            time.sleep(_POLL_S)

    def import_image(self, archive: Path) -> None:
        """Makes an image of an OCI archive known to the runtime. Raises LabError."""
        command = ["ctr", "--namespace", "k8s.io", "images", "import", str(archive)]
        done = self.node.exec(command, timeout_s=_IMPORT_TIMEOUT_S)
        if done.returncode != 0:
            raise LabError(f"{archive} cannot be imported: {done.stderr.strip()}")

    def kill(self) -> None:
        """Ends the daemon by SIGKILL; sandboxes live on. Idempotent."""
        if (process := self._living()) is not None:
            process.kill()
            process.reap()

    def _living(self) -> ProcessRecord | None:
        record = ProcessRecord.load(self._record)
        return record if record is not None and record.is_alive else None

    @property
    def _folder(self) -> Path:
        return self.node.layout.disk_dir / _NAME

    @property
    def _configuration(self) -> Path:
        return self._folder / "config.toml"

    @property
    def _log(self) -> Path:
        return self.node.layout.log_dir / f"{_NAME}.log"

    @property
    def _record(self) -> Path:
        return self.node.layout.control_dir / f"{_NAME}.json"
