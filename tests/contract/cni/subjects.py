"""The plugins that the kit is run against by default, and one given on the command line.

`bridge` and `ptp` of the reference plugins calibrate it: what they do right must pass, and what
they do not is listed in deviations.py.
"""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc

from tests.contract.cni.place import Place, fresh, standing_in
from tests.contract.cni.runtime import Subject
from weave.ipam.v1 import ipam_pb2, ipam_pb2_grpc
from weave.types.v1 import types_pb2
from weave_lab import Lab, LabSpec
from weave_lab.cni import BIN_DIR

REFERENCE_DIR = "/usr/lib/cni"
NAMES = ("bridge", "ptp", "weave-net")
# The data plane is watched but not repaired, so that CHECK has something to find.
OBSERVE = {"router": ("--drift=observe",)}

_HOST_LOCAL = {
    "type": "host-local",
    "ranges": [[{"subnet": "10.250.0.0/16"}]],
    "routes": [{"dst": "0.0.0.0/0"}],
}
_REFERENCE_CONFIGS: dict[str, dict[str, Any]] = {
    "bridge": {"type": "bridge", "bridge": "kit0", "isGateway": True, "ipam": _HOST_LOCAL},
    "ptp": {"type": "ptp", "ipam": _HOST_LOCAL},
}


def lab_name(prefix: str) -> str:
    """A name of this process: several runs may share a machine."""
    return f"{prefix}-{os.getpid()}"


@contextlib.contextmanager
def subject(name: str) -> Iterator[Subject]:
    """One of NAMES, or the path of a JSON file that describes another plugin."""
    if name == "weave-net":
        with (
            Lab.up(LabSpec(name=lab_name("t-cni"), nodes=1, arguments=OBSERVE)) as lab,
            weave(lab) as made,
        ):
            yield made
    elif name in _REFERENCE_CONFIGS:
        with fresh() as place:
            yield reference(name, place)
    else:
        with fresh() as place:
            yield given(Path(name), place)


def reference(name: str, place: Place) -> Subject:
    """A reference plugin with host-local."""
    return Subject(
        name=name,
        place=place,
        executable=f"{REFERENCE_DIR}/{name}",
        path=REFERENCE_DIR,
        config=_REFERENCE_CONFIGS[name],
        # A bridge has one gateway address for ever.
        delegating={"bridge": "kit1", "isGateway": False} if name == "bridge" else {},
        holders=lambda network: set(_host_local_files(place, network).values()),
        forget=lambda network, container: _forget_host_local(place, network, container),
    )


def given(description: Path, place: Place) -> Subject:
    """A plugin described by a file: {"executable", "path", "config", "version", "versions"}."""
    raw = json.loads(description.read_text())
    raw["versions"] = tuple(raw.get("versions", ("1.0.0",)))
    return Subject(name=description.stem, place=place, **raw)


@contextlib.contextmanager
def weave(lab: Lab) -> Iterator[Subject]:
    """weave-net on the first node of a lab."""
    node = lab.node("n1")
    socket = node.layout.run_dir / "ipam" / "api.sock"
    with (
        standing_in(node.enter()) as place,
        grpc.insecure_channel(f"unix://{socket}") as channel,
    ):
        ipam = ipam_pb2_grpc.IpamStub(channel)

        def allocations(network: str) -> list[Any]:
            request = ipam_pb2.ListRequest(network=network)
            return list(ipam.List(request, timeout=10).allocations)

        def forget(network: str, container: str) -> None:
            key = types_pb2.AttachmentKey(network=network, container_id=container, interface="eth0")
            ipam.Release(ipam_pb2.ReleaseRequest(key=key), timeout=10)

        yield Subject(
            name="weave-net",
            place=place,
            executable=f"{BIN_DIR}/weave-net",
            path=f"{BIN_DIR}:{REFERENCE_DIR}",
            config={"type": "weave-net"},
            length=32,
            gateway="169.254.1.1",
            version="1.1.0",
            versions=("0.3.0", "0.3.1", "0.4.0", "1.0.0", "1.1.0"),
            holders=lambda network: {item.key.container_id for item in allocations(network)},
            forget=forget,
        )


def _host_local_files(place: Place, network: str) -> dict[str, str]:
    """Address files of host-local: path to the container id in the first line."""
    script = 'cd /var/lib/cni/networks/$0 2>/dev/null && grep -H "" [0-9]* || true'
    lines = place.shell("bash", "-c", script, network).splitlines()
    held: dict[str, str] = {}
    for line in lines:
        name, _, content = line.partition(":")
        held.setdefault(f"/var/lib/cni/networks/{network}/{name}", content.strip())
    return held


def _forget_host_local(place: Place, network: str, container: str) -> None:
    for path, holder in _host_local_files(place, network).items():
        if holder == container:
            place.shell("rm", path)
