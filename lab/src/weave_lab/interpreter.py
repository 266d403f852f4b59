"""Can the services' uids reach the interpreter and the packages?

A checkout below a home of mode 0700 (Debian's /root) is out of reach for them. Inside a node's own
mount namespace such a folder is covered by an open one that shows the needed paths only; see
node_init.
"""

from __future__ import annotations

import importlib.util
import stat
import sys
from pathlib import Path

from weave_lab.command import run
from weave_lab.errors import LabError
from weave_lab.executable import host_executable
from weave_lab.services import SERVICES, Service

PACKAGES = (
    "weave",
    "weave_model",
    "weave_runtime",
    "weave_cli",
    "weave_lab",
    *(service.module for service in SERVICES),
)


def needed_folders() -> list[Path]:
    """Folders that must be readable to run a service: interpreter, libraries, our packages."""
    folders = {Path(sys.prefix), Path(sys.base_prefix), Path(sys.executable).resolve().parent}
    # Not there before the first build; who needs it builds it first.
    folders |= {host_executable().parent} if host_executable().exists() else set()
    for name in PACKAGES:
        spec = importlib.util.find_spec(name)
        if spec is None or spec.origin is None:
            raise LabError(f"the package {name} is not installed here; run `make setup`")
        folders.add(Path(spec.origin).resolve().parent)
    return sorted(
        folder for folder in folders if not any(other in folder.parents for other in folders)
    )


def covers(folders: list[Path]) -> dict[str, list[str]]:
    """Maps each closed folder on the way to the needed ones to what it must still show."""
    found: dict[str, list[str]] = {}
    for folder in folders:
        for ancestor in reversed(folder.parents):
            if not ancestor.stat().st_mode & stat.S_IXOTH:
                found.setdefault(str(ancestor), []).append(str(folder))
                break
    return found


def verify(enter: list[str], service: Service) -> None:
    """Tries to load a service's package with its uid inside a node (entered by `enter`).

    Raises LabError that names the first path in the way.
    """
    probe = [*enter, *service.command()[: service.command().index(sys.executable)]]
    paths = [path for folder in needed_folders() for path in (*reversed(folder.parents), folder)]
    first_closed = 'for path; do test -x "$path" || { echo "$path"; exit; }; done'
    closed = run([*probe, "sh", "-c", first_closed, "sh", *map(str, paths)]).stdout.strip()
    if closed:
        raise LabError(
            f"uid {service.uid} ({service.name}) may not enter {closed};"
            f" run `chmod o+rx {closed}` or put the checkout elsewhere"
        )
    done = run([*probe, sys.executable, "-c", f"import {service.module}, weave_runtime"])
    if done.returncode != 0:
        reason = (done.stderr.strip() or f"status {done.returncode}").splitlines()[-1]
        raise LabError(
            f"uid {service.uid} ({service.name}) cannot load {service.module}"
            f" with {sys.executable}: {reason}"
        )
