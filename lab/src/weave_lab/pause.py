"""The image of the container that holds a pod's namespaces, made without builder or registry."""

from __future__ import annotations

import subprocess
from pathlib import Path

from weave_lab import oci

NAME = "localhost/pause:1"
_SOURCE = """
#include <signal.h>
#include <unistd.h>
static void stop(int number) { (void)number; _exit(0); }
int main(void) {
  signal(SIGTERM, stop);
  signal(SIGINT, stop);
  signal(SIGCHLD, SIG_IGN);
  for (;;) pause();
}
"""


def write_archive(path: Path) -> None:
    """An OCI archive that containerd imports under NAME. Idempotent."""
    if path.exists():
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    program = path.with_name("pause")
    command = ["cc", "-O2", "-static", "-s", "-x", "c", "-", "-o", str(program)]
    subprocess.run(command, input=_SOURCE.encode(), check=True)
    oci.write_archive(path, NAME, {"pause": program.read_bytes()}, ["/pause"])
