"""The programs of the end-to-end tests: from KUBE_BIN_DIR, or built once from `tools/go.mod`.

    python -m tests.k8s.binaries helm kubectl ...

builds what is missing and prints where it is. Builds are kept by the content of go.mod and go.sum.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import shutil
import subprocess
import sys
from pathlib import Path

TOOLS = Path(__file__).parent / "tools"
PACKAGES = {
    "helm": "helm.sh/helm/v3/cmd/helm",
    "kubectl": "k8s.io/kubernetes/cmd/kubectl",
    "kubelet": "k8s.io/kubernetes/cmd/kubelet",
    "kube-apiserver": "k8s.io/kubernetes/cmd/kube-apiserver",
    "kube-controller-manager": "k8s.io/kubernetes/cmd/kube-controller-manager",
    "kube-scheduler": "k8s.io/kubernetes/cmd/kube-scheduler",
}
# The compiler takes 1 to 2 GB per package of the API server; two at a time suit small machines.
_PARALLEL = "2"


class Unavailable(Exception):
    """A program can be neither found nor built here; the text says what to do."""


def find(name: str) -> Path:
    """The program, built if need be. Raises Unavailable, CalledProcessError."""
    given = os.environ.get("KUBE_BIN_DIR")
    if given and (program := Path(given) / name).is_file():
        return program
    folder = cache_dir()
    program = folder / name
    if not program.is_file():
        folder.mkdir(parents=True, exist_ok=True)
        with (folder / ".lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            if not program.is_file():
                _build(name, program)
    return program


def cache_dir() -> Path:
    """Where builds of this very go.mod are kept."""
    content = (TOOLS / "go.mod").read_bytes() + (TOOLS / "go.sum").read_bytes()
    root = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return root / "weave-net" / "kubernetes" / hashlib.sha256(content).hexdigest()[:16]


def _build(name: str, program: Path) -> None:
    if shutil.which("go") is None:
        raise Unavailable(
            f"{name} is neither in KUBE_BIN_DIR nor can it be built: install Go, "
            "or set KUBE_BIN_DIR to a folder with the programs of Kubernetes 1.30 or later"
        )
    print(f"building {name} (once; several minutes)", file=sys.stderr)
    temporary = program.with_name(f"{name}.new")
    subprocess.run(
        [
            *("nice", "-n", "15", "go", "build", "-p", _PARALLEL, "-trimpath", "-mod=readonly"),
            *("-ldflags", _link_flags(), "-o", str(temporary), PACKAGES[name]),
        ],
        cwd=TOOLS,
        env={**os.environ, "CGO_ENABLED": "0", "GOFLAGS": "-buildvcs=false"},
        check=True,
    )
    temporary.rename(program)


def _link_flags() -> str:
    """Without them Kubernetes says that it is v0.0.0, which charts refuse."""
    version = next(
        line.split()[1]
        for line in (TOOLS / "go.mod").read_text().splitlines()
        if line.startswith("\tk8s.io/kubernetes v")
    )
    major, minor, _ = version.removeprefix("v").split(".")
    facts = {"gitVersion": version, "gitMajor": major, "gitMinor": minor}
    flags = [f"-X k8s.io/component-base/version.{key}={value}" for key, value in facts.items()]
    # What Helm takes a cluster for that it does not see.
    for package in ("chartutil", "lint/rules"):
        flags.append(f"-X helm.sh/helm/v3/pkg/{package}.k8sVersionMajor={major}")
        flags.append(f"-X helm.sh/helm/v3/pkg/{package}.k8sVersionMinor={minor}")
    return " ".join(["-s", "-w", *flags])


if __name__ == "__main__":
    try:
        for wanted in sys.argv[1:] or PACKAGES:
            print(find(wanted))
    except (Unavailable, subprocess.CalledProcessError) as failure:
        sys.exit(str(failure))
