"""First process of a node: makes its mount and host name namespaces and then holds them.

Runs inside the node's network namespace with a JSON `NodePlan` as its only argument, says `ready`
on standard output, and becomes a sleeping process. All mounts are private to it and to what enters
its namespaces; on the host nothing appears.

Each product default path holds inside: /run/weave, /var/lib/weave, /etc/cni/net.d and /opt/cni/bin
are the node's own folders. Where such a path does not exist on the host, an overlay over its
nearest existing ancestor makes it appear. Folders on the way to the interpreter that other users
may not enter (a home of mode 0700) are covered by one that shows the needed paths only.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

from weave_lab import syscalls
from weave_lab.covers import OPEN_PATH, bind, cover
from weave_lab.node_plan import READY, NodePlan

CGROUPS = Path("/sys/fs/cgroup")


def main() -> None:
    plan = NodePlan.from_json(sys.argv[1])
    build(plan)
    print(READY, end="", flush=True)
    null = os.open(os.devnull, os.O_RDWR)
    for stream in (0, 1, 2):
        os.dup2(null, stream)
    os.chdir("/")
    os.execv("/bin/sleep", [f"weave-lab-{plan.host_name}", "infinity"])  # noqa: S606


def build(plan: NodePlan) -> None:
    """Makes the namespaces and mounts. Raises OSError."""
    syscalls.unshare(syscalls.CLONE_NEWNS | syscalls.CLONE_NEWUTS)
    syscalls.set_hostname(plan.host_name)
    syscalls.mount("none", Path("/"), flags=syscalls.MS_REC | syscalls.MS_PRIVATE)
    # The copies of the host's named namespaces would keep those alive as long as this node.
    syscalls.detach(Path("/run/netns"))
    sources = {target: os.open(source, OPEN_PATH) for target, source in plan.binds.items()}
    run_source = os.open(plan.run_dir, OPEN_PATH)
    cgroups = os.open(CGROUPS, OPEN_PATH) if CGROUPS.is_dir() else None
    scratch = Path(plan.scratch)
    syscalls.mount("tmpfs", scratch, "tmpfs", options="mode=0755")

    for closed, needed in plan.covers.items():
        cover(Path(closed), [Path(path) for path in needed])
    for target, source in sources.items():
        _ensure_directory(Path(target), scratch)
        bind(source, Path(target))
    # A sysfs shows the network namespace it was mounted in.
    syscalls.mount("sysfs", Path("/sys"), "sysfs", syscalls.MS_NOSUID | syscalls.MS_NODEV)
    # Container runtimes need the control groups, which that sysfs does not show.
    if cgroups is not None:
        bind(cgroups, CGROUPS)
    _replace_run(scratch, run_source)


def _ensure_directory(target: Path, scratch: Path) -> None:
    """Makes `target` exist, and its surroundings writable, for this mount namespace only."""
    ancestor = next(parent for parent in target.parents if parent.is_dir())
    if ancestor == Path("/"):
        raise FileNotFoundError(f"{target.parents[-2]} is missing on this host; make that folder")
    layer = scratch / str(ancestor).strip("/").replace("/", "-")
    for part in ("upper", "work"):
        (layer / part).mkdir(parents=True)
    syscalls.mount(
        "overlay",
        ancestor,
        "overlay",
        options=f"lowerdir={ancestor},upperdir={layer / 'upper'},workdir={layer / 'work'}",
    )
    target.mkdir(parents=True, exist_ok=True)


def _replace_run(scratch: Path, run_source: int) -> None:
    """Gives the node a /run of its own; last, since the scratch folder lies below the old one."""
    run = scratch / "run"
    run.mkdir()
    syscalls.mount("tmpfs", run, "tmpfs", options="mode=0755")
    for name in ("weave", "netns", "lock"):
        (run / name).mkdir()
    bind(run_source, run / "weave")
    syscalls.mount(str(run), Path("/run"), flags=syscalls.MS_MOVE)


if __name__ == "__main__":
    main()
