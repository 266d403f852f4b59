"""OCI images made of files of this machine, without builder or registry."""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import tarfile
from collections.abc import Mapping, Sequence
from pathlib import Path

_MANIFEST = "application/vnd.oci.image.manifest.v1+json"
_CONFIG = "application/vnd.oci.image.config.v1+json"
_LAYER = "application/vnd.oci.image.layer.v1.tar+gzip"


def write_archive(
    path: Path, name: str, files: Mapping[str, bytes], entrypoint: Sequence[str] = ()
) -> None:
    """An OCI archive of one layer that containerd imports under `name`.

    `files` are executable, named by their paths without the first slash.
    """
    layer = _tar(files)
    packed = gzip.compress(layer, compresslevel=1)
    config = {
        "architecture": "amd64",
        "os": "linux",
        "config": {"Entrypoint": list(entrypoint), "Env": ["PATH=/usr/bin:/bin"]},
        "rootfs": {"type": "layers", "diff_ids": [_digest(layer)]},
    }
    blobs = [json.dumps(config).encode(), packed]
    manifest = {
        "schemaVersion": 2,
        "mediaType": _MANIFEST,
        "config": _descriptor(_CONFIG, blobs[0]),
        "layers": [_descriptor(_LAYER, packed)],
    }
    blobs.append(json.dumps(manifest).encode())
    top = _descriptor(_MANIFEST, blobs[-1])
    top["annotations"] = {"io.containerd.image.name": name}
    content = {f"blobs/sha256/{_digest(blob)[7:]}": blob for blob in blobs}
    content["oci-layout"] = b'{"imageLayoutVersion":"1.0.0"}'
    content["index.json"] = json.dumps({"schemaVersion": 2, "manifests": [top]}).encode()
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(_tar(content))


def _tar(files: Mapping[str, bytes]) -> bytes:
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
