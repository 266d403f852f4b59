"""What a node that was reset still has on disk: removed when nobody uses it any more.

Works without services, also for an install whose services cannot be started again.
"""

from __future__ import annotations

import contextlib
import shutil
import socket
from dataclasses import dataclass
from pathlib import Path

from weave_cli import sandboxes
from weave_cli.node import Failure

# docs/adr/0004 and the plugin's own names.
_PLUGIN = ("10-weave.conflist",)
_EXECUTABLES = ("weave-net", "weave-ipam")
_BRIDGE = "weave"


@dataclass(frozen=True, slots=True)
class Places:
    """Where an install keeps its files."""

    run_dir: Path
    state_dir: Path = Path("/var/lib/weave")
    conf_dir: Path = Path("/etc/cni/net.d")
    bin_dir: Path = Path("/opt/cni/bin")
    devices: Path = Path("/sys/class/net")


def remove(places: Places, *, force: bool) -> str:
    """Removes all of them; one line for each. Idempotent.

    Raises Failure while a service runs, and unless `force` while the data path is in the kernel:
    without its state nothing would take it out.
    """
    if running := _running(places.run_dir):
        raise Failure(f"{', '.join(running)} runs still; stop the services first")
    if not force and (places.devices / _BRIDGE).exists():
        raise Failure(
            f"the device {_BRIDGE} is there: start the services and run `weave reset` first,"
            " or --force"
        )
    paths = [
        *(places.conf_dir / name for name in _PLUGIN),
        *(places.bin_dir / name for name in _EXECUTABLES),
        *_children(places.state_dir),
        *_children(places.run_dir),
    ]
    lines = []
    for path in paths:
        try:
            if _remove(path):
                lines.append(f"removed: {path}")
        except OSError as error:
            raise Failure(f"{path} cannot be removed: {error.strerror}") from error
    lines += [f"removed: {path}" for path in sandboxes.let_go_of_all()]
    for folder in (places.state_dir, places.run_dir):
        # A mount, perhaps: what matters is that it is empty.
        with contextlib.suppress(OSError):
            folder.rmdir()
    return "\n".join(lines)


def _running(run_dir: Path) -> list[str]:
    return [path.parent.name for path in sorted(run_dir.glob("*/api.sock")) if _accepts(path)]


def _accepts(path: Path) -> bool:
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        return probe.connect_ex(str(path)) == 0


def _children(folder: Path) -> list[Path]:
    return sorted(folder.iterdir()) if folder.is_dir() else []


def _remove(path: Path) -> bool:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
        return True
    try:
        path.unlink()
    except FileNotFoundError:
        return False
    return True
