"""The image of the container that holds a pod's namespaces, made without builder or registry."""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import subprocess
import tarfile
from pathlib import Path

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
    layer = _tar({"pause": program.read_bytes()})
    packed = gzip.compress(layer)
    config = {
        "architecture": "amd64",
        "os": "linux",
        "config": {"Entrypoint": ["/pause"]},
        "rootfs": {"type": "layers", "diff_ids": [_digest(layer)]},
    }
    blobs = [json.dumps(config).encode(), packed]
    manifest = {
        "schemaVersion": 2,
        "mediaType": "application/vnd.oci.image.manifest.v1+json",
        "config": _descriptor("application/vnd.oci.image.config.v1+json", blobs[0]),
        "layers": [_descriptor("application/vnd.oci.image.layer.v1.tar+gzip", packed)],
    }
    blobs.append(json.dumps(manifest).encode())
    top = _descriptor("application/vnd.oci.image.manifest.v1+json", blobs[-1])
    top["annotations"] = {"io.containerd.image.name": NAME}
    files = {f"blobs/sha256/{_digest(blob)[7:]}": blob for blob in blobs}
    files["oci-layout"] = b'{"imageLayoutVersion":"1.0.0"}'
    files["index.json"] = json.dumps({"schemaVersion": 2, "manifests": [top]}).encode()
    path.write_bytes(_tar(files))


def _tar(files: dict[str, bytes]) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        for name, content in files.items():
            entry = tarfile.TarInfo(name)
            entry.size, entry.mode = len(content), 0o755
            archive.addfile(entry, io.BytesIO(content))
    return buffer.getvalue()


def _digest(content: bytes) -> str:
    return f"sha256:{hashlib.sha256(content).hexdigest()}"


def _descriptor(kind: str, content: bytes) -> dict[str, object]:
    return {"mediaType": kind, "digest": _digest(content), "size": len(content)}
