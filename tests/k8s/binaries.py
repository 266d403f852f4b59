"""The programs of the end-to-end tests: from KUBE_BIN_DIR, or built once from `tools/go.mod`.

    python -m tests.k8s.binaries helm kubectl ...     builds what is missing, prints where it is
    python -m tests.k8s.binaries --why-not            prints what hinders that; nothing: it can be

Builds are kept by the content of go.mod and go.sum. A Go that is older than they ask for fetches
the right one as a module; that takes Go 1.21.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Sequence
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
# Debuggers have no use for these programs: without their tables the compiler writes a third less.
_COMPILER_FLAGS = "all=-dwarf=false"
_FIRST_GO_THAT_FETCHES_OTHERS = (1, 21)
_DOWNLOAD_S = 300


class Unavailable(Exception):
    """A program can be neither found nor built here; the text says what to do."""


def find(name: str) -> Path:
    """The program, built if need be. Raises Unavailable, CalledProcessError."""
    return find_all([name])[0]


def find_all(names: Sequence[str]) -> list[Path]:
    """The programs; what is missing is built at once. Raises Unavailable, CalledProcessError."""
    if any(not _place(name).is_file() for name in names):
        folder = cache_dir()
        folder.mkdir(parents=True, exist_ok=True)
        with (folder / ".lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            missing = [name for name in names if not _place(name).is_file()]
            if missing:
                _build(missing, folder)
    return [_place(name) for name in names]


def why_not() -> str:
    """What stands against the use of the programs here; empty: nothing."""
    if all(_place(name).is_file() for name in PACKAGES):
        return ""
    if shutil.which("go") is None:
        return "there is no Go, and no KUBE_BIN_DIR with the programs of Kubernetes 1.30 or later"
    said = _go("env", "GOVERSION", local=True).stdout.strip()
    version = tuple(map(int, re.findall(r"\d+", said)[:2]))
    if version < _FIRST_GO_THAT_FETCHES_OTHERS:
        return f"Go is {said}; 1.21 is the first that fetches the one that go.mod asks for"
    try:
        fetched = _go("mod", "download")
    except subprocess.TimeoutExpired:
        return f"modules cannot be fetched within {_DOWNLOAD_S} s"
    return f"modules cannot be fetched: {fetched.stderr.strip()}" if fetched.returncode else ""


def _place(name: str) -> Path:
    given = os.environ.get("KUBE_BIN_DIR")
    if given and (program := Path(given) / name).is_file():
        return program
    return cache_dir() / name


def cache_dir() -> Path:
    """Where builds of this very go.mod are kept."""
    content = (TOOLS / "go.mod").read_bytes() + (TOOLS / "go.sum").read_bytes()
    root = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return root / "weave-net" / "kubernetes" / hashlib.sha256(content).hexdigest()[:16]


def _build(names: Sequence[str], folder: Path) -> None:
    if shutil.which("go") is None:
        raise Unavailable(
            f"{', '.join(names)}: neither in KUBE_BIN_DIR nor can it be built: install Go, "
            "or set KUBE_BIN_DIR to a folder with the programs of Kubernetes 1.30 or later"
        )
    print(f"building {', '.join(names)} (once; several minutes)", file=sys.stderr)
    fresh = folder / "new"
    fresh.mkdir(exist_ok=True)
    # One call for all: they share most packages, and linking one takes one processor.
    subprocess.run(
        [
            *("nice", "-n", "10", "go", "build", "-p", _PARALLEL, "-trimpath", "-mod=readonly"),
            *(f"-gcflags={_COMPILER_FLAGS}", "-ldflags", _link_flags(), "-o", f"{fresh}/"),
            *(PACKAGES[name] for name in names),
        ],
        cwd=TOOLS,
        env=_environment(),
        check=True,
    )
    for name in names:
        (fresh / name).rename(folder / name)
    fresh.rmdir()


def _environment() -> dict[str, str]:
    flags = {"CGO_ENABLED": "0", "GOFLAGS": "-buildvcs=false", "GOTOOLCHAIN": "auto"}
    return {**os.environ, **flags}


def _go(*argv: str, local: bool = False) -> subprocess.CompletedProcess[str]:
    environment = _environment()
    if local:
        environment["GOTOOLCHAIN"] = "local"
    return subprocess.run(
        ["go", *argv],
        cwd=TOOLS,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=_DOWNLOAD_S,
    )


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


def main() -> None:
    """The command line."""
    if sys.argv[1:] == ["--why-not"]:
        print(why_not())
        return
    try:
        for program in find_all(sys.argv[1:] or list(PACKAGES)):
            print(program)
    except (Unavailable, subprocess.CalledProcessError) as failure:
        sys.exit(str(failure))


if __name__ == "__main__":
    main()
