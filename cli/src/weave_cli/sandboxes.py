"""Where a running network namespace is: by path, by name, by process, by container.

The identity that an attachment gets follows from the words alone wherever that is possible, so that
it can be detached after its namespace is gone. The path must be one that the router may open: below
/proc it may not, so a process stands for the name that its namespace has.
"""

from __future__ import annotations

import contextlib
import os
import re
from dataclasses import dataclass
from pathlib import Path

from weave_cli.node import Failure

NAMED = Path("/run/netns")
DOCKER = Path("/run/docker/netns")
# Where containerd's shims keep a folder per running container, Docker's (`moby`) among them.
CONTAINERS = Path("/run/containerd/io.containerd.runtime.v2.task")
PROC = Path("/proc")

# Process ids have seven digits at most; container ids are longer.
_PID = re.compile(r"[0-9]{1,7}")
_FORBIDDEN = re.compile(r"[^a-zA-Z0-9_.\-]")


@dataclass(frozen=True, slots=True)
class Sandbox:
    """A network namespace: the container id of its attachments, and its path; "" when gone."""

    container_id: str
    netns: str


def find(word: str) -> Sandbox:
    """What `word` means; a namespace that is gone is found too. Raises Failure."""
    if "/" in word:
        return _at(_absolute(word))
    if _PID.fullmatch(word):
        path = _name_of(word)
        return _at(path) if path else Sandbox(f"pid-{word}", "")
    if (NAMED / word).exists():
        return _named(word)
    return _container(word) or _named(word)


def find_running(word: str) -> Sandbox:
    """As `find`, for one that is there. Raises Failure."""
    sandbox = find(word)
    if not sandbox.netns:
        raise Failure(
            f"{word} is neither a network namespace (a path, a name below {NAMED}, a process)"
            " nor a running container of containerd"
        )
    return sandbox


def _at(path: Path) -> Sandbox:
    if path.parent == NAMED:
        return _named(path.name)
    return Sandbox(_identity("netns", str(path).strip("/")), _existing(path))


def _named(name: str) -> Sandbox:
    return Sandbox(_identity("netns", name), _existing(NAMED / name))


def _container(beginning: str) -> Sandbox | None:
    found = sorted(CONTAINERS.glob(f"*/{_FORBIDDEN.sub('?', beginning)}*/init.pid"))
    if len(found) > 1:
        names = ", ".join(path.parent.name[:12] for path in found)
        raise Failure(f"{beginning} is the beginning of more than one container: {names}")
    if not found:
        return None
    path = _name_of(found[0].read_text().strip())
    return Sandbox(found[0].parent.name, str(path or ""))


def _name_of(pid: str) -> Path | None:
    """The file below NAMED or DOCKER that is the namespace of a process; none when it is gone.

    Raises Failure for a namespace without a name.
    """
    try:
        wanted = (PROC / pid / "ns" / "net").stat()
    except OSError:
        return None
    for path in (*sorted(NAMED.glob("*")), *sorted(DOCKER.glob("*"))):
        with contextlib.suppress(OSError):
            if os.path.samestat(path.stat(), wanted):
                return path
    raise Failure(
        f"the network namespace of process {pid} has no name: `ip netns attach NAME {pid}` gives"
        " it one"
    )


def _absolute(word: str) -> Path:
    path = Path(word).absolute()
    # /var/run is a link to /run; the last part may be a link of /proc that leads nowhere.
    return Path(os.path.realpath(path.parent)) / path.name


def _existing(path: Path) -> str:
    return str(path) if path.exists() else ""


def _identity(kind: str, name: str) -> str:
    return f"{kind}-{_FORBIDDEN.sub('-', name)}"
