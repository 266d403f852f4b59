"""What a lab has left behind on the host: looked for, not assumed.

A snapshot taken before the lab says what was there already. Afterwards everything that only a lab
or the product makes is looked for anew: by name, by the lab's namespaces, by the mark in the
environment of its processes. Other programs of the machine come and go; they are not looked at.
"""

from __future__ import annotations

import contextlib
import json
import re
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from pathlib import Path

from weave_lab import cgroups, processes
from weave_lab.command import run
from weave_lab.layout import DISK_ROOT, NETNS_ROOT, RUN_ROOT, LabLayout

# Names and numbers that the product uses in a node; on the host they must not appear.
_LINK = re.compile(r"weave.*|vethwe.*|vxlan6?-6784|wire")
_ROUTE_PROTOCOL = "84"
_TABLE = "6784"
_PORTS = range(6781, 6789)
_HOST_FOLDERS = ("/run/weave", "/var/lib/weave", "/etc/cni", "/opt/cni")


@dataclass(frozen=True, slots=True)
class Snapshot:
    """Everything of the kinds a lab could leave, each as a line of text."""

    items: frozenset[str]

    @classmethod
    def take(cls, lab: LabLayout, namespaces: Collection[int] = frozenset()) -> Snapshot:
        """Looks now. `namespaces` are the numbers of those the lab had, which must be held."""
        return cls(frozenset(_everything(lab, namespaces)))

    def since(self, before: Snapshot) -> list[str]:
        """What is here and was not there before, sorted."""
        return sorted(self.items - before.items)


def _everything(lab: LabLayout, namespaces: Collection[int]) -> Iterator[str]:
    yield from _namespaces(lab)
    yield from _mounts(lab, namespaces)
    yield from _processes(lab, namespaces)
    yield from _kernel_objects()
    yield from _sockets(lab)
    yield from _files(lab)
    yield from (f"control group {path}" for path in cgroups.left(lab.name))


def _namespaces(lab: LabLayout) -> Iterator[str]:
    ours = re.compile(rf"{re.escape(lab.name)}-(wire|n\d+)")
    for path in NETNS_ROOT.glob(f"{lab.name}-*"):
        if ours.fullmatch(path.name):
            yield f"namespace {path.name}"


def _mounts(lab: LabLayout, namespaces: Collection[int]) -> Iterator[str]:
    """A namespace lives on while any mount table names it, also that of a bystander's copy."""
    points = re.compile(
        rf" ({NETNS_ROOT}/{re.escape(lab.name)}-(?:wire|n\d+)|{RUN_ROOT / lab.name}/\S*) "
    )
    for pid in processes.living():
        with contextlib.suppress(OSError):
            mounts = Path(f"/proc/{pid}/mountinfo").read_text()
            for point in sorted(set(points.findall(mounts))):
                yield f"mount {point} in process {pid}"
            for number in set(re.findall(r"net:\[(\d+)\]", mounts)):
                if int(number) in namespaces:
                    yield f"namespace net:[{number}] held by the mounts of process {pid}"


def _processes(lab: LabLayout, namespaces: Collection[int]) -> Iterator[str]:
    mark = f"WEAVE_LAB={lab.name}".encode()
    inside = {record.pid for record in processes.inside(namespaces)}
    for pid in processes.living():
        with contextlib.suppress(OSError):
            environment = Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")
            if pid in inside or mark in environment:
                command = Path(f"/proc/{pid}/cmdline").read_text().replace("\0", " ")
                yield f"process {pid} {command.strip()}"


def _kernel_objects() -> Iterator[str]:
    for link in _json(["ip", "-j", "link", "show"]):
        if _LINK.fullmatch(link["ifname"]):
            yield f"link {link['ifname']}"
    for family in ("-4", "-6"):
        for route in _json(["ip", "-j", family, "route", "show", "table", "all"]):
            protocol, table = str(route.get("protocol")), str(route.get("table"))
            if protocol == _ROUTE_PROTOCOL or table == _TABLE:
                yield f"route {route['dst']} table {table} protocol {protocol}"
        for rule in _json(["ip", "-j", family, "rule", "show"]):
            if str(rule.get("priority")) == _TABLE or str(rule.get("table")) == _TABLE:
                yield f"rule {rule}"
    listing = run(["nft", "-j", "list", "tables"])
    for item in json.loads(listing.stdout or "{}").get("nftables", []):
        table = item.get("table", {})
        if table.get("name", "").startswith("weave"):
            yield f"nftables table {table['family']} {table['name']}"


def _sockets(lab: LabLayout) -> Iterator[str]:
    ours = (f"{RUN_ROOT / lab.name}/", "/run/weave/")
    for line in Path("/proc/net/unix").read_text().splitlines():
        path = line.split(maxsplit=7)[7:]
        if path and path[0].startswith(ours):
            yield f"socket {path[0]}"
    for kind in ("tcp", "tcp6", "udp", "udp6"):
        table = Path("/proc/net") / kind
        for line in table.read_text().splitlines()[1:] if table.exists() else ():
            port = int(line.split()[1].rpartition(":")[2], 16)
            if port in _PORTS:
                yield f"socket {kind} {port}"


def _files(lab: LabLayout) -> Iterator[str]:
    for top in (DISK_ROOT / lab.name, RUN_ROOT / lab.name, *map(Path, _HOST_FOLDERS)):
        if top.exists():
            yield f"file {top}"
            yield from (f"file {path}" for path in top.rglob("*"))


def _json(argv: list[str]) -> list[dict[str, str]]:
    """The objects an `ip -j` command lists; it prints nothing at all when there are none."""
    listed: list[dict[str, str]] = json.loads(run(argv).stdout or "[]")
    return [item for item in listed if item]
