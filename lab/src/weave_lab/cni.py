"""What a container runtime does for the network of a pod, as libcni does it (CNI 1.1).

Reads the network configuration, builds each plugin's input, runs the executables with the CNI
environment and remembers results for DEL. Nothing here knows weave.
"""

from __future__ import annotations

import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from weave_lab.command import run
from weave_lab.errors import LabError

# What this runtime speaks, preferred first (libcni picks the highest common version).
RUNTIME_VERSIONS = ("1.1.0", "1.0.0", "0.4.0", "0.3.1", "0.3.0")
STATUS_VERSION = "1.1.0"
# Where a node's executables are, as the node sees it.
BIN_DIR = "/opt/cni/bin"
# The daemon gives up on an ADD after 60 s, the host executable on the daemon after 90 s.
CALL_TIMEOUT_S = 100.0
DEFAULT_INTERFACE = "eth0"

Json = dict[str, Any]


class CniError(LabError):
    """A plugin answered with a CNI error object. `code` 999 when it gave none."""

    def __init__(self, command: str, plugin: str, code: int, message: str) -> None:
        super().__init__(f"{plugin} {command} failed with code {code}: {message}")
        self.code = code
        self.message = message


@dataclass(frozen=True, slots=True)
class Network:
    """A conflist: the version both sides speak and the plugins in order."""

    name: str
    version: str
    plugins: tuple[Json, ...]

    def plugin_input(self, index: int, previous: Json | None) -> str:
        """Standard input of one plugin, as libcni builds it."""
        config = {key: value for key, value in self.plugins[index].items() if key != "capabilities"}
        config |= {"name": self.name, "cniVersion": self.version}
        if previous is not None:
            config["prevResult"] = previous
        return json.dumps(config)


@dataclass(frozen=True, slots=True)
class Sandbox:
    """A pod as its runtime knows it; paths are the node's."""

    pod: str
    container_id: str
    netns: str
    interface: str = DEFAULT_INTERFACE
    namespace: str = "default"
    uid: str = ""

    def environment(self, command: str) -> dict[str, str]:
        """The CNI variables for one call."""
        arguments = {
            "IgnoreUnknown": "1",
            "K8S_POD_NAMESPACE": self.namespace,
            "K8S_POD_NAME": self.pod,
            "K8S_POD_INFRA_CONTAINER_ID": self.container_id,
            "K8S_POD_UID": self.uid,
        }
        return {
            "CNI_COMMAND": command,
            "CNI_CONTAINERID": self.container_id,
            "CNI_NETNS": self.netns,
            "CNI_IFNAME": self.interface,
            "CNI_PATH": BIN_DIR,
            "CNI_ARGS": ";".join(f"{key}={value}" for key, value in arguments.items()),
        }


@dataclass(frozen=True, slots=True)
class Outcome:
    """One call of one executable."""

    status: int
    stdout: str
    stderr: str
    elapsed_s: float


@dataclass(frozen=True, slots=True)
class PodRecord:
    """What the runtime keeps of a pod, also after its deletion, for a repeated DEL."""

    sandbox: Sandbox
    # The configuration it was added with (CNI 1.1, "deletion uses the cached one").
    network: Network
    result: Json | None = None
    # How long the executables took for the last ADD and DEL.
    add_s: float = 0.0
    del_s: float = 0.0
    deleted: bool = False

    @classmethod
    def load(cls, path: Path) -> PodRecord | None:
        """Reads a record; none where there is no file."""
        try:
            raw = json.loads(path.read_text())
        except FileNotFoundError:
            return None
        network = raw.pop("network")
        network["plugins"] = tuple(network["plugins"])
        return cls(Sandbox(**raw.pop("sandbox")), Network(**network), **raw)

    def save(self, path: Path) -> None:
        """Writes the record; a reader sees the old or the new one."""
        temporary = path.with_suffix(".new")
        temporary.write_text(json.dumps(asdict(self)))
        temporary.rename(path)

    @property
    def addresses(self) -> list[str]:
        """Addresses without prefix length, IPv4 first as given."""
        return [item["address"].partition("/")[0] for item in (self.result or {}).get("ips", [])]


@dataclass(frozen=True, slots=True)
class Runtime:
    """Runs CNI executables inside a node. `enter` is the command that gets there."""

    enter: Sequence[str]
    base_environment: Mapping[str, str] = field(default_factory=dict)

    def call(self, executable: str, environment: Mapping[str, str], stdin: str) -> Outcome:
        """One call with exactly these CNI variables; never raises for what the plugin says."""
        begin = time.perf_counter()
        done = run(
            [*self.enter, f"{BIN_DIR}/{executable}"],
            stdin=stdin,
            timeout_s=CALL_TIMEOUT_S,
            environment={**self.base_environment, **environment},
        )
        return Outcome(done.returncode, done.stdout, done.stderr, time.perf_counter() - begin)

    def add(self, network: Network, sandbox: Sandbox) -> tuple[Json, float]:
        """ADD through the whole chain; returns the last result and the seconds spent.

        Raises CniError, after a DEL.
        """
        result: Json | None = None
        elapsed_s = 0.0
        try:
            for index in range(len(network.plugins)):
                outcome = self._run(network, index, sandbox, "ADD", result)
                result = _decoded(outcome.stdout)
                elapsed_s += outcome.elapsed_s
        except CniError:
            # CNI 1.1 section 2: a failed ADD must be followed by a DEL; its error adds nothing.
            self._delete_quietly(network, sandbox)
            raise
        if result is None:
            raise CniError("ADD", network.name, 999, "no plugin gave a result")
        return result, elapsed_s

    def check(self, network: Network, sandbox: Sandbox, result: Json) -> None:
        """CHECK through the whole chain. Raises CniError."""
        for index in range(len(network.plugins)):
            self._run(network, index, sandbox, "CHECK", result)

    def delete(self, network: Network, sandbox: Sandbox, result: Json | None) -> float:
        """DEL through the chain in reverse; returns the seconds spent. Raises CniError."""
        indexes = reversed(range(len(network.plugins)))
        return sum(self._run(network, i, sandbox, "DEL", result).elapsed_s for i in indexes)

    def status(self, network: Network) -> None:
        """STATUS of every plugin that knows it. Raises CniError: an ADD would fail now."""
        for index in range(len(network.plugins)):
            executable = network.plugins[index]["type"]
            environment = {"CNI_COMMAND": "STATUS", "CNI_PATH": BIN_DIR}
            config = network
            if network.version != STATUS_VERSION:
                # Chained plugins may be older than STATUS; the first one is asked all the same.
                if index:
                    continue
                config = replace(network, version=STATUS_VERSION)
            outcome = self.call(executable, environment, config.plugin_input(index, None))
            _raise_for(outcome, "STATUS", executable)

    def _run(
        self, network: Network, index: int, sandbox: Sandbox, command: str, previous: Json | None
    ) -> Outcome:
        executable = network.plugins[index]["type"]
        outcome = self.call(
            executable, sandbox.environment(command), network.plugin_input(index, previous)
        )
        _raise_for(outcome, command, executable)
        return outcome

    def _delete_quietly(self, network: Network, sandbox: Sandbox) -> None:
        try:
            self.delete(network, sandbox, None)
        except CniError:
            return


def load_network(conf_dir: Path) -> Network | None:
    """The first conflist by name, as containerd takes it; none while there is none."""
    for path in sorted(conf_dir.glob("*.conflist")):
        raw = json.loads(path.read_text())
        offered = {raw.get("cniVersion"), *raw.get("cniVersions", [])}
        version = next((v for v in RUNTIME_VERSIONS if v in offered), None)
        if version is None:
            raise LabError(f"{path} offers only CNI versions {sorted(map(str, offered))}")
        return Network(raw["name"], version, tuple(raw["plugins"]))
    return None


def _raise_for(outcome: Outcome, command: str, executable: str) -> None:
    if outcome.status == 0:
        return
    error = _decoded(outcome.stdout) or {}
    message = error.get("msg") or outcome.stderr.strip() or f"exit status {outcome.status}"
    if error.get("details"):
        message = f"{message}; {error['details']}"
    raise CniError(command, executable, int(error.get("code", 999)), message)


def _decoded(text: str) -> Json | None:
    try:
        value = json.loads(text)
    except ValueError:
        return None
    return value if isinstance(value, dict) else None
