"""Processes the lab has started: found again by pid and start time, ended for certain.

A pid alone may have gone to another program meanwhile, so every record carries the start time too.
"""

from __future__ import annotations

import contextlib
import json
import os
import select
import signal
import time
from collections.abc import Collection, Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

from weave_lab.errors import LabError

_PROC = Path("/proc")
# SIGKILL takes effect at once unless the process is inside a long system call.
_END_TIMEOUT_S = 10.0


@dataclass(frozen=True, slots=True)
class ProcessRecord:
    """One process of this machine; `start_ticks` are clock ticks since boot."""

    pid: int
    start_ticks: int

    @classmethod
    def of(cls, pid: int) -> ProcessRecord:
        """The record of a living process. Raises LabError when there is none."""
        ticks = _start_ticks(pid)
        if ticks is None:
            raise LabError(f"process {pid} ended right after its start")
        return cls(pid, ticks)

    @classmethod
    def load(cls, path: Path) -> ProcessRecord | None:
        """Reads a record; none where there is no file."""
        try:
            return cls(**json.loads(path.read_text()))
        except FileNotFoundError:
            return None

    def save(self, path: Path) -> None:
        """Writes the record; a reader sees the old or the new one."""
        temporary = path.with_suffix(".new")
        temporary.write_text(json.dumps(asdict(self)))
        temporary.rename(path)

    @property
    def is_alive(self) -> bool:
        """Does it still run? Zombies do not."""
        return _start_ticks(self.pid) == self.start_ticks

    @property
    def uptime_s(self) -> float:
        """Seconds since its start."""
        boot_s = time.clock_gettime(time.CLOCK_BOOTTIME)
        return boot_s - self.start_ticks / os.sysconf("SC_CLK_TCK")

    @property
    def memory_kib(self) -> int:
        """Proportional set size in KiB; 0 when it is gone."""
        try:
            rollup = (_PROC / str(self.pid) / "smaps_rollup").read_text()
        except OSError:
            return 0
        return next(int(line.split()[1]) for line in rollup.splitlines() if line.startswith("Pss:"))

    def send(self, number: signal.Signals) -> None:
        """Sends a signal; nothing happens when it is gone."""
        with contextlib.suppress(ProcessLookupError, _Gone), self._descriptor() as descriptor:
            signal.pidfd_send_signal(descriptor, number)

    def kill(self) -> None:
        """Ends it by SIGKILL and returns when it is gone. Idempotent."""
        self.send(signal.SIGKILL)
        self.wait_gone(_END_TIMEOUT_S)

    def wait_gone(self, timeout_s: float) -> None:
        """Returns when the process is gone. Raises LabError when it stays."""
        with contextlib.suppress(ProcessLookupError, _Gone), self._descriptor() as descriptor:
            if not select.select([descriptor], [], [], timeout_s)[0]:
                raise LabError(f"process {self.pid} still runs after {timeout_s:g} s")

    def reap(self) -> None:
        """Forgets the exit status, if this very process has started it by `spawn`. Idempotent."""
        with contextlib.suppress(ChildProcessError):
            os.waitpid(self.pid, os.WNOHANG)

    @contextlib.contextmanager
    def _descriptor(self) -> Iterator[int]:
        """A pidfd, which stays with this process whatever becomes of the number."""
        descriptor = os.pidfd_open(self.pid)
        try:
            if not self.is_alive:
                raise _Gone
            yield descriptor
        finally:
            os.close(descriptor)


class _Gone(Exception):
    """The pid belongs to another process or a zombie by now."""


def spawn(argv: list[str], environment: Mapping[str, str], *, stdout: int, stderr: int) -> int:
    """Starts a program in a session of its own that outlives this process; returns its pid."""
    return os.posix_spawnp(
        argv[0],
        argv,
        environment,
        file_actions=[
            (os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDONLY, 0),
            (os.POSIX_SPAWN_DUP2, stdout, 1),
            (os.POSIX_SPAWN_DUP2, stderr, 2),
        ],
        setsid=True,
    )


def living() -> Iterator[int]:
    """Pids of all processes that are no zombies; some may be gone when you look."""
    for entry in _PROC.iterdir():
        if entry.name.isdigit() and _start_ticks(int(entry.name)) is not None:
            yield int(entry.name)


def namespace_id(pid: int | str, kind: str) -> int:
    """Inode of a process's namespace (`net`, `mnt`), 0 when it is gone."""
    try:
        return (_PROC / str(pid) / "ns" / kind).stat().st_ino
    except OSError:
        return 0


def inside(namespaces: Collection[int]) -> list[ProcessRecord]:
    """All processes whose network or mount namespace is among these, which must be held."""
    found = []
    for pid in living():
        if namespace_id(pid, "net") in namespaces or namespace_id(pid, "mnt") in namespaces:
            with contextlib.suppress(LabError):
                found.append(ProcessRecord.of(pid))
    return found


def kill_all(records: Collection[ProcessRecord]) -> None:
    """Ends all of them by SIGKILL, together."""
    for record in records:
        record.send(signal.SIGKILL)
    for record in records:
        record.wait_gone(_END_TIMEOUT_S)


def _start_ticks(pid: int) -> int | None:
    """Field 22 of /proc/<pid>/stat; none for zombies and processes that are gone."""
    try:
        stat = (_PROC / str(pid) / "stat").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return None
    # The second field is the name in parentheses and may hold anything, parentheses too.
    fields = stat.rpartition(")")[2].split()
    return None if fields[0] in "ZX" else int(fields[19])
