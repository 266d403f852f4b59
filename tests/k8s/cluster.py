"""A real Kubernetes of some nodes on one machine, and nothing is pulled.

Each node is a network, mount and process namespace of its own with containerd and kubelet; one
control plane runs on the host.

    python -m tests.k8s.cluster up 3 | down | kubectl ARGS... | helm ARGS...
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.k8s import certificates
from tests.k8s.binaries import PACKAGES, find, find_all
from weave_lab import containerd, pause, processes

ROOT = Path(__file__).resolve().parents[2]
FOLDER = Path("/var/tmp/weave-kube")
BRIDGE = "wk0"
UNDERLAY = "10.98.0"
HOST = f"{UNDERLAY}.254"
SERVICES = "10.96.0.0/16"
API_SERVICE = "10.96.0.1"
ETCD = "http://127.0.0.1:23791"
TOKEN = "admin-of-a-test-cluster"


class ClusterError(Exception):
    """Something did not happen in time, or a command failed."""


def run(*argv: str, check: bool = True, stdin: str = "", timeout_s: float = 120) -> str:
    """Standard output. Raises ClusterError with what was said on standard error."""
    done = subprocess.run(
        argv, input=stdin, capture_output=True, text=True, check=False, timeout=timeout_s
    )
    if check and done.returncode:
        raise ClusterError(f"{' '.join(argv)}: {done.stderr.strip() or done.stdout.strip()}")
    return done.stdout


def wait(what: str, condition: Callable[[], object], timeout_s: float = 60) -> float:
    """Seconds until it was true. Raises ClusterError."""
    start = time.monotonic()
    while not condition():
        if time.monotonic() - start > timeout_s:
            raise ClusterError(f"not after {timeout_s:g} s: {what}")
        time.sleep(0.2)
    return time.monotonic() - start


@dataclass(frozen=True)
class KubeNode:
    """One node. `number` counts from 1."""

    number: int

    @property
    def name(self) -> str:
        return f"node{self.number}"

    @property
    def netns(self) -> str:
        return f"wk-{self.number}"

    @property
    def address(self) -> str:
        return f"{UNDERLAY}.{self.number}"

    @property
    def folder(self) -> Path:
        return FOLDER / self.name

    def enter(self) -> list[str]:
        """The command that enters the node's namespaces, without the program to run."""
        # Started by nsenter, unshare --fork: the child of the recorded process is the node's first.
        parent = (self.folder / "pid").read_text().strip()
        (first,) = Path(f"/proc/{parent}/task/{parent}/children").read_text().split()
        return ["nsenter", f"--target={first}", "--mount", "--net", "--pid", "--"]

    def exec(self, *argv: str, check: bool = True, timeout_s: float = 60) -> str:
        """Runs a program in the node's namespaces."""
        return run(*self.enter(), *argv, check=check, timeout_s=timeout_s)


class Cluster:
    """All facts are on disk: any number of these may exist."""

    def __init__(self, count: int = 3) -> None:
        self.nodes = [KubeNode(number) for number in range(1, count + 1)]
        self.kubeconfig = FOLDER / "kubeconfig"
        self.images = FOLDER / "images"

    def kubectl(self, *argv: str, check: bool = True, stdin: str = "") -> str:
        """Asks the API server."""
        program = str(find("kubectl"))
        return run(program, "--kubeconfig", str(self.kubeconfig), *argv, check=check, stdin=stdin)

    def get(self, *argv: str) -> Any:
        """`kubectl get -o json`."""
        return json.loads(self.kubectl("get", *argv, "-o", "json"))

    def helm(self, *argv: str, timeout_s: float = 300) -> str:
        """Runs Helm against the cluster."""
        options = ["--kubeconfig", str(self.kubeconfig), "-n", "kube-system"]
        return run(str(find("helm")), *argv, *options, timeout_s=timeout_s)

    # Life

    def up(self, images: Sequence[Path]) -> None:
        """Makes everything; nodes are registered, and not ready for want of a network."""
        find_all(list(PACKAGES))
        self.down()
        FOLDER.mkdir(mode=0o755)
        certificates.write(FOLDER, [API_SERVICE, HOST, "127.0.0.1"])
        (FOLDER / "tokens.csv").write_text(f"{TOKEN},admin,admin,system:masters\n")
        self.kubeconfig.write_text(_kubeconfig())
        pause.write_archive(self.images / "pause.tar")
        for image in images:
            (self.images / image.name).symlink_to(image)
        run("ip", "link", "add", BRIDGE, "type", "bridge")
        run("ip", "addr", "add", f"{HOST}/24", "dev", BRIDGE)
        run("ip", "link", "set", BRIDGE, "up")
        self._start_control_plane()
        for node in self.nodes:
            self.start_node(node)
        wait("nodes are registered", lambda: len(self.get("nodes")["items"]) == len(self.nodes))

    def down(self) -> None:
        """Removes everything. Idempotent."""
        for path in FOLDER.glob("**/pid*"):
            with contextlib.suppress(ValueError, ProcessLookupError):
                os.kill(int(path.read_text()), signal.SIGKILL)
                # Of ours if this process has started it.
                with contextlib.suppress(ChildProcessError):
                    os.waitpid(int(path.read_text()), 0)
        for path in Path("/run/netns").glob("wk-*"):
            run("ip", "netns", "del", path.name, check=False)
        run("ip", "link", "del", BRIDGE, check=False)
        time.sleep(0.5)
        for group in sorted(Path("/sys/fs/cgroup").glob("**/k8s.io/**/"), reverse=True):
            # Only empty ones can be removed: those of other runtimes stay.
            with contextlib.suppress(OSError):
                group.rmdir()
        for mounts in sorted(_mounts_below(FOLDER), reverse=True):
            run("umount", "--lazy", mounts, check=False)
        shutil.rmtree(FOLDER, ignore_errors=True)

    def start_node(self, node: KubeNode) -> None:
        """A new machine: namespaces, containerd with the images, kubelet."""
        node.folder.mkdir()
        for folder in (*_BINDS.values(), "manifests"):
            (node.folder / folder).mkdir()
        for plugin in Path("/usr/lib/cni").iterdir():
            shutil.copy(plugin, node.folder / "cni-bin")
        (node.folder / "containerd.toml").write_text(
            containerd.configuration(Path("/var/lib/containerd"))
        )
        kubelet = f"{_KUBELET}staticPodPath: {node.folder / 'manifests'}\n"
        (node.folder / "kubelet.yaml").write_text(kubelet)
        netns, veth = node.netns, f"wku{node.number}"
        run("ip", "netns", "add", netns)
        run("ip", "-n", netns, "link", "set", "lo", "up")
        run("ip", "link", "add", veth, "type", "veth", "peer", "name", "eth0", "netns", netns)
        run("ip", "link", "set", veth, "master", BRIDGE, "up")
        run("ip", "-n", netns, "addr", "add", f"{node.address}/24", "dev", "eth0")
        run("ip", "-n", netns, "link", "set", "eth0", "up")
        run("ip", "-n", netns, "route", "add", "default", "via", HOST)
        enter = ["nsenter", f"--net=/run/netns/{netns}"]
        run(*enter, "nft", "-f", "-", stdin=_API_SERVICE_RULES)
        boot = node.folder / "boot.sh"
        boot.write_text(_boot_script(node, sorted(self.images.glob("*.tar"))))
        private = [
            "unshare",
            "--mount",
            "--pid",
            "--fork",
            "--kill-child",
            "--propagation",
            "private",
        ]
        self._spawn(
            node.folder / "boot.log", node.folder / "pid", *enter, *private, "bash", str(boot)
        )

    def remove_machine(self, node: KubeNode) -> None:
        """Power off, disk and all; its Node stays."""
        pid = int((node.folder / "pid").read_text())
        os.kill(pid, signal.SIGKILL)
        with contextlib.suppress(ChildProcessError):
            os.waitpid(pid, 0)
        # The first process of a pid namespace takes all others along, in its own time.
        wait(f"processes of {node.name} end", lambda: not _uses(node.folder))
        run("ip", "netns", "del", node.netns)
        shutil.rmtree(node.folder)

    def restart_kubelet(self, node: KubeNode) -> None:
        """Kills it; the node starts it again. Containers go on."""
        # Process ids of the node's own namespace: nothing outside of it is found.
        node.exec("pkill", "-9", "-x", "kubelet")

    def _start_control_plane(self) -> None:
        (FOLDER / "etcd").mkdir(mode=0o700)
        peer = "http://127.0.0.1:23801"
        self._spawn(
            FOLDER / "etcd.log",
            FOLDER / "pid.etcd",
            *("etcd", "--data-dir", str(FOLDER / "etcd"), "--listen-client-urls", ETCD),
            *("--advertise-client-urls", ETCD, "--listen-peer-urls", peer, "--unsafe-no-fsync"),
        )
        self.start_api_server()
        common = [f"--kubeconfig={self.kubeconfig}", "--leader-elect=false"]
        self._spawn(
            FOLDER / "controllers.log",
            FOLDER / "pid.controllers",
            str(find("kube-controller-manager")),
            *common,
            f"--service-account-private-key-file={FOLDER}/sa.key",
            f"--root-ca-file={FOLDER}/ca.crt",
            "--use-service-account-credentials=true",
        )
        self._spawn(
            FOLDER / "scheduler.log", FOLDER / "pid.scheduler", str(find("kube-scheduler")), *common
        )

    def start_api_server(self) -> None:
        """Starts it, also again, and waits until it answers."""
        self._spawn(
            FOLDER / "api.log",
            FOLDER / "pid.api",
            str(find("kube-apiserver")),
            f"--etcd-servers={ETCD}",
            f"--service-cluster-ip-range={SERVICES}",
            f"--tls-cert-file={FOLDER}/api.crt",
            f"--tls-private-key-file={FOLDER}/api.key",
            f"--client-ca-file={FOLDER}/ca.crt",
            f"--bind-address={HOST}",
            f"--advertise-address={HOST}",
            f"--token-auth-file={FOLDER}/tokens.csv",
            "--authorization-mode=Node,RBAC",
            "--service-account-issuer=https://kubernetes.default.svc",
            f"--service-account-key-file={FOLDER}/sa.pub",
            f"--service-account-signing-key-file={FOLDER}/sa.key",
            "--kubelet-preferred-address-types=InternalIP",
        )
        wait(
            "the API server is ready",
            lambda: self.kubectl("get", "--raw", "/readyz", check=False) == "ok",
            120,
        )

    def stop_api_server(self) -> None:
        """Kills it."""
        os.kill(int((FOLDER / "pid.api").read_text()), signal.SIGKILL)

    def _spawn(self, log: Path, pid: Path, *argv: str) -> None:
        with log.open("ab") as output:
            number = output.fileno()
            started = processes.spawn(list(argv), dict(os.environ), stdout=number, stderr=number)
        pid.write_text(str(started))


def _uses(folder: Path) -> bool:
    """Does a process run whose command line names the folder?"""
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        with contextlib.suppress(OSError):
            if f"{folder}/".encode() in path.read_bytes():
                return True
    return False


def _mounts_below(folder: Path) -> list[str]:
    lines = Path("/proc/self/mounts").read_text().splitlines()
    return [line.split()[1] for line in lines if line.split()[1].startswith(f"{folder}/")]


def _kubeconfig() -> str:
    cluster = {"server": f"https://{HOST}:6443", "certificate-authority": f"{FOLDER}/ca.crt"}
    document = {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": "c", "cluster": cluster}],
        "users": [{"name": "u", "user": {"token": TOKEN}}],
        "contexts": [{"name": "c", "context": {"cluster": "c", "user": "u"}}],
        "current-context": "c",
    }
    return json.dumps(document)


# The Service of the API server without a kube-proxy: destination NAT on the node.
_API_SERVICE_RULES = f"""
table ip wk {{
  chain output {{
    type nat hook output priority -100
    ip daddr {API_SERVICE} tcp dport 443 dnat to {HOST}:6443
  }}
  chain prerouting {{
    type nat hook prerouting priority -100
    ip daddr {API_SERVICE} tcp dport 443 dnat to {HOST}:6443
  }}
}}
"""

_KUBELET = """
apiVersion: kubelet.config.k8s.io/v1beta1
kind: KubeletConfiguration
authentication: {anonymous: {enabled: true}, webhook: {enabled: false}}
authorization: {mode: AlwaysAllow}
# Machines with cgroup v1 must do as well.
failCgroupV1: false
cgroupDriver: cgroupfs
cgroupsPerQOS: false
enforceNodeAllocatable: []
containerRuntimeEndpoint: unix:///run/containerd/containerd.sock
failSwapOn: false
clusterDomain: cluster.local
nodeStatusUpdateFrequency: 2s
imageGCHighThresholdPercent: 100
evictionHard:
  {memory.available: "0%", nodefs.available: "0%", imagefs.available: "0%", nodefs.inodesFree: "0%"}
"""


# All that kubelet, containerd and agents write outside of /run is the node's own.
_BINDS = {
    "/etc/cni/net.d": "cni-conf",
    "/opt/cni/bin": "cni-bin",
    "/usr/libexec/kubernetes": "volume-plugins",
    "/var/lib/cni": "cni-cache",
    "/var/lib/containerd": "containerd",
    "/var/lib/kubelet": "kubelet",
    "/var/lib/weave": "weave",
    "/var/log/pods": "pods",
    "/var/log/containers": "containers",
}


def _boot_script(node: KubeNode, images: Sequence[Path]) -> str:
    """What the first process of a node does; all its mounts are the node's own."""
    folder = node.folder
    shown = "\n".join(
        f"mkdir -p {target}; mount --bind {folder / source} {target}"
        for target, source in _BINDS.items()
    )
    imports = "\n".join(f"ctr -n k8s.io images import {image}" for image in images)
    return f"""
set -eu
mount --make-rshared /
mount -t proc proc /proc
mount -t tmpfs tmpfs /run
mkdir -p /run/netns /run/containerd /run/lock
{shown}
sysctl -qw net.ipv4.ip_forward=1
containerd -c {folder}/containerd.toml >{folder}/containerd.log 2>&1 &
for try in $(seq 100); do [ -S /run/containerd/containerd.sock ] && break; sleep 0.1; done
{imports}
while :; do
  {find("kubelet")} --config={folder}/kubelet.yaml --kubeconfig={FOLDER}/kubeconfig \\
    --hostname-override={node.name} --node-ip={node.address} >>{folder}/kubelet.log 2>&1 || true
  sleep 1
done
"""


def main() -> None:
    """The command line."""
    cluster = Cluster()
    match sys.argv[1:]:
        case ["up", *count]:
            cluster = Cluster(int(count[0]) if count else 3)
            cluster.up([ROOT / "build" / "images" / "weave-net.tar"])
            print(cluster.kubectl("get", "nodes", "-o", "wide"))
        case ["down"]:
            cluster.down()
        case ["kubectl", *rest]:
            print(cluster.kubectl(*rest), end="")
        case ["helm", *rest]:
            print(cluster.helm(*rest), end="")
        case _:
            sys.exit(__doc__)


if __name__ == "__main__":
    main()
