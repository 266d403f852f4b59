"""Where a running network namespace is: by path, by name, by process, by container.

The identity that an attachment gets follows from the words alone wherever that is possible, so that
it can be detached after its namespace is gone. The path must be one that the router may open: below
/proc it may not, so a process stands for the name that its namespace has, or is given here. Such a
name keeps the namespace alive, as `ip netns` does, until the last attachment is taken away.
"""

from __future__ import annotations

import contextlib
import os
import re
import subprocess
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
# Names that were given here; nobody else's are taken away.
_OF_PROCESS = "weave-pid-"
_OF_CONTAINER = "weave-container-"
_GIVEN = (_OF_PROCESS, _OF_CONTAINER)
_COMMAND_TIMEOUT_S = 10


@dataclass(frozen=True, slots=True)
class Sandbox:
    """A network namespace: the container id of its attachments, and its path; "" when it has none.

    `process` runs in it, where that is known; `name` is what a namespace without one gets.
    """

    container_id: str
    netns: str
    process: str = ""
    name: str = ""


def find(word: str) -> Sandbox:
    """What `word` means; a namespace that is gone is found too. Raises Failure."""
    if "/" in word:
        return _at(_absolute(word))
    if _PID.fullmatch(word):
        return _process(word)
    if (NAMED / word).exists():
        return _named(word)
    return _container(word) or _named(word)


def find_running(word: str) -> Sandbox:
    """As `find`, for one that is there; one without a name gets one. Raises Failure."""
    sandbox = find(word)
    if sandbox.process and not sandbox.netns:
        return _name(sandbox)
    if not sandbox.netns:
        raise Failure(
            f"{word} is neither a network namespace (a path, a name below {NAMED}, a process)"
            " nor a running container of containerd"
        )
    if sandbox.process and not _is_in(sandbox.process, Path(sandbox.netns)):
        raise Failure(
            f"{sandbox.netns} is what an earlier process {word} was in: `weave detach {word}` first"
        )
    return sandbox


def let_go(sandbox: Sandbox) -> None:
    """Takes the name away that its namespace was given here. Idempotent."""
    path = Path(sandbox.netns)
    if is_named_here(sandbox) and path.exists():
        _ip_netns("delete", path.name)


def let_go_of_all() -> list[Path]:
    """Takes all such names away, as when nobody attaches anything any more; gives them."""
    names = sorted(path for prefix in _GIVEN for path in NAMED.glob(f"{prefix}*"))
    for path in names:
        _ip_netns("delete", path.name)
    return names


def is_named_here(sandbox: Sandbox) -> bool:
    """Was its namespace given a name here?"""
    path = Path(sandbox.netns)
    return path.parent == NAMED and path.name.startswith(_GIVEN)


def _at(path: Path) -> Sandbox:
    if path.parent == NAMED:
        return _named(path.name)
    return Sandbox(_identity("netns", str(path).strip("/")), _existing(path))


def _named(name: str) -> Sandbox:
    return Sandbox(_identity("netns", name), _existing(NAMED / name))


def _process(pid: str) -> Sandbox:
    path, given = _path_of(pid), f"{_OF_PROCESS}{pid}"
    found = _at(path) if path else _named(given)
    return Sandbox(found.container_id, found.netns, pid if _runs(pid) else "", given)


def _container(beginning: str) -> Sandbox | None:
    safe = _FORBIDDEN.sub("?", beginning)
    running = {path.parent.name: path for path in sorted(CONTAINERS.glob(f"*/{safe}*/init.pid"))}
    # One that has ended since may still have the name that it was given.
    ended = {
        path.name.removeprefix(_OF_CONTAINER) for path in NAMED.glob(f"{_OF_CONTAINER}{safe}*")
    }
    found = sorted(running.keys() | ended)
    if len(found) > 1:
        names = ", ".join(name[:12] for name in found)
        raise Failure(f"{beginning} is the beginning of more than one container: {names}")
    if not found:
        return None
    (container,) = found
    given = f"{_OF_CONTAINER}{container}"
    if container not in running:
        return Sandbox(container, _existing(NAMED / given), name=given)
    pid = running[container].read_text().strip()
    path = _path_of(pid)
    return Sandbox(container, str(path or ""), pid if _runs(pid) else "", given)


def _path_of(pid: str) -> Path | None:
    """The file below NAMED or DOCKER that is the namespace of a process; none without a name."""
    for path in (*sorted(NAMED.glob("*")), *sorted(DOCKER.glob("*"))):
        if _is_in(pid, path):
            return path
    return None


def _is_in(pid: str, path: Path) -> bool:
    with contextlib.suppress(OSError):
        return os.path.samestat(path.stat(), _namespace(pid).stat())
    return False


def _runs(pid: str) -> bool:
    with contextlib.suppress(OSError):
        return bool(_namespace(pid).stat())
    return False


def _namespace(pid: str) -> Path:
    return PROC / pid / "ns" / "net"


def _name(sandbox: Sandbox) -> Sandbox:
    _ip_netns("attach", sandbox.name, sandbox.process)
    return Sandbox(sandbox.container_id, str(NAMED / sandbox.name), sandbox.process, sandbox.name)


def _ip_netns(*argv: str) -> None:
    command = ["ip", "netns", *argv]
    try:
        subprocess.run(
            command, check=True, capture_output=True, text=True, timeout=_COMMAND_TIMEOUT_S
        )
    except (OSError, subprocess.SubprocessError) as error:
        said = getattr(error, "stderr", "") or str(error)
        raise Failure(f"`{' '.join(command)}` failed: {said.strip()}") from error


def _absolute(word: str) -> Path:
    path = Path(word).absolute()
    # /var/run is a link to /run; the last part may be a link of /proc that leads nowhere.
    return Path(os.path.realpath(path.parent)) / path.name


def _existing(path: Path) -> str:
    return str(path) if path.exists() else ""


def _identity(kind: str, name: str) -> str:
    return f"{kind}-{_FORBIDDEN.sub('-', name)}"
