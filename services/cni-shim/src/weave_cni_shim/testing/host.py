"""A host for the CNI executable: its fixed paths, in a mount namespace of their own.

The executable knows /run/weave/cni/exec.sock and /var/lib/weave/cni only. Here both lie in a folder
of the test, where the daemon of the test serves the socket; the machine's own are not touched.
"""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self

CALL_S = 30.0

# $1 and $2 take the places of /run and /var/lib; $3 is the name the program sees.
_ENTER = (
    'mount --bind "$1" /run && mount --bind "$2" /var/lib && shift 2 && name=$1 && shift && '
    'exec -a "$name" "$@"'
)


def build(name: str = "weave-net") -> Path:
    """The executable, made by its own recipe; "weave-net-sanitized" finds its memory errors."""
    source = next(
        path / "exec" for path in Path(__file__).parents if (path / "exec/weave-net.c").is_file()
    )
    target = Path("build") / name
    subprocess.run(["make", "--silent", "-C", str(source), str(target)], check=True, timeout=60)
    return source / target


@dataclass(frozen=True, slots=True)
class Outcome:
    """One run of the executable."""

    status: int
    stdout: bytes
    stderr: bytes

    @property
    def body(self) -> Any:
        """The JSON on stdout."""
        return json.loads(self.stdout)


class Host:
    """Folders that the executable sees as /run and /var/lib, while inside `with`."""

    def __init__(self, executable: Path) -> None:
        self._executable = executable
        # Not below pytest's tmp_path, whose names are longer than a socket path may be.
        self._folder = tempfile.TemporaryDirectory(prefix="weave-")

    def __enter__(self) -> Self:
        for path in (self.socket.parent, self.lib):
            path.mkdir(parents=True)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._folder.cleanup()

    @property
    def _top(self) -> Path:
        return Path(self._folder.name)

    @property
    def socket(self) -> Path:
        """Where the daemon serves the executable."""
        return self._top / "run/weave/cni/exec.sock"

    @property
    def lib(self) -> Path:
        """What the executable sees as /var/lib."""
        return self._top / "lib"

    @property
    def spool(self) -> Path:
        """Where the executable keeps DELs."""
        return self.lib / "weave/cni/spool"

    def command(self, name: str = "/opt/cni/bin/weave-net") -> list[str]:
        """The command that runs the executable under a name."""
        own = [] if os.geteuid() == 0 else ["--user", "--map-root-user"]
        places = [str(self._top / "run"), str(self.lib)]
        shell = ["bash", "-c", _ENTER, "bash", *places, name, str(self._executable)]
        return ["unshare", "--mount", *own, "--", *shell]

    async def run(
        self,
        environ: Mapping[str, str],
        stdin: bytes = b"",
        *,
        name: str = "/opt/cni/bin/weave-net",
        prefix: Sequence[str] = (),
    ) -> Outcome:
        """Runs the executable to its end with no environment but `environ`."""
        process = await asyncio.create_subprocess_exec(
            *prefix,
            *self.command(name),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            env={"PATH": os.environ["PATH"], **environ},
        )
        try:
            async with asyncio.timeout(CALL_S):
                stdout, stderr = await process.communicate(stdin)
        finally:
            if process.returncode is None:
                process.kill()
                await process.wait()
        assert process.returncode is not None
        return Outcome(process.returncode, stdout, stderr)
