"""An image of the Redis of this machine, as nothing is pulled."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

from tests.k8s.cluster import ClusterError
from weave_lab import oci

NAME = "localhost/redis:1"


def write_archive(path: Path) -> None:
    """Server and client, and what its preStop needs, with their libraries."""
    files: dict[str, bytes] = {}
    for program in ("redis-server", "redis-cli", "sh", "rm"):
        found = shutil.which(program)
        if found is None:
            raise ClusterError(f"{program} is missing; `make setup` installs it")
        needed = subprocess.run(["ldd", found], capture_output=True, text=True, check=True).stdout
        for each in (found, *re.findall(r"(/\S+) \(0x", needed)):
            files[each.removeprefix("/")] = Path(each).read_bytes()
    oci.write_archive(path, NAME, files)
