"""What parts of a packet's path cost: TCP with one of them away beside TCP with all of them.

The routers are ended meanwhile, or they would put back what is taken. Rates of a busy machine say
little; the time on processors that a gigabyte takes at both ends says more.
"""

from __future__ import annotations

import contextlib
import functools
import json
import resource
import statistics
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from bench import handmade
from bench.plugin import BenchError
from bench.throughput import PORT, Way
from weave_lab import Lab, Node
from weave_model.prefix import Family
from weave_router.core import naming

AMOUNT = "1G"
_TABLE = "inet weave"
_CHAINS = ("guard", "guard_in", "guard_out", "new_from", "new_out", "nat")
_UNTRACKED = "notrack accept"


@dataclass(frozen=True, slots=True)
class Part:
    """A change of the path: the commands of nft that make it, given the table as it is listed."""

    name: str
    commands: Callable[[str], str]


def _anew(listing: str) -> str:
    return f"table {_TABLE}\ndelete table {_TABLE}\n{listing}"


def _tracked(listing: str) -> str:
    return _anew("\n".join(line for line in listing.splitlines() if _UNTRACKED not in line) + "\n")


def _without(what: str) -> Callable[[str], str]:
    return lambda _: f"delete {what}\n"


PARTS = (
    Part("no table", _without(f"table {_TABLE}")),
    *(Part(f"no chain {chain}", _without(f"chain {_TABLE} {chain}")) for chain in _CHAINS),
    Part("packets of the underlay tracked", _tracked),
)
# Measured after all others: a kernel that ever had a rule looks up as if it had one for ever.
_RULE = "a policy rule"


def table(lab: Lab, rounds: int, tell: Callable[[str], None]) -> str:
    """Markdown: each part's share of the processor time between nodes and on one node."""
    nodes = [lab.node("n1"), lab.node("n2")]
    server, near = (nodes[0].add_pod(name) for name in ("server", "near"))
    far = nodes[1].add_pod("far")
    between = Way("between nodes", server.enter(), far.enter(), server.address)
    within = Way("on one node", server.enter(), near.enter(), server.address)
    for node in nodes:
        node.kill("router")
    handmade.make_bare(lab.layout.wire_netns)
    costs: dict[tuple[str, str], list[float]] = {}
    with handmade.vxlan() as by_hand:
        for number in range(rounds):
            for way in (between, within):
                costs.setdefault(("as it is", way.name), []).append(processor_s(way))
            costs.setdefault(("by hand", between.name), []).append(processor_s(by_hand))
            for part in PARTS:
                with _changed(nodes, part):
                    for way in (between, within):
                        costs.setdefault((part.name, way.name), []).append(processor_s(way))
            tell(f"  {number + 1} of {rounds}")
    for node in nodes:
        _run(node, "ip", "rule", "add", "iif", naming.VXLAN[Family.IPV4], "lookup", "99")
    for _ in range(rounds):
        for way in (between, within):
            costs.setdefault((_RULE, way.name), []).append(processor_s(way))
    lines = ["| path | between nodes, s/GB | on one node, s/GB |", "|---|---|---|"]
    for name in ("as it is", *(part.name for part in PARTS), _RULE, "by hand"):
        cells = [_cell(costs, name, way.name) for way in (between, within)]
        lines.append(f"| {name} | {' | '.join(cells)} |")
    return "\n".join(lines)


def processor_s(way: Way) -> float:
    """Processor time per gigabyte of both ends and of the kernel's threads for packets. Raises
    BenchError."""
    before = _used_s()
    server = subprocess.Popen(
        [*way.server, "iperf3", "--server", "--one-off", "--port", str(PORT), "--forceflush"],
        stdout=subprocess.PIPE,
        text=True,
    )
    assert server.stdout
    try:
        for line in server.stdout:
            if "listening" in line:
                break
        client = ["iperf3", "--client", way.address, "--port", str(PORT), "--json"]
        command = [*way.client, *client, "--bytes", AMOUNT]
        done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
        report = json.loads(done.stdout or "{}")
        if done.returncode or "error" in report:
            raise BenchError(f"{way.name}: {report.get('error') or done.stderr.strip()}")
        server.communicate(timeout=10)
    finally:
        server.kill()
        server.wait()
    return (_used_s() - before) / (float(report["end"]["sum_received"]["bytes"]) / 1e9)


def _used_s() -> float:
    children = resource.getrusage(resource.RUSAGE_CHILDREN)
    return children.ru_utime + children.ru_stime + sum(map(_thread_s, _packet_threads()))


@functools.cache
def _packet_threads() -> list[Path]:
    found = []
    for name in Path("/proc").glob("[0-9]*/comm"):
        # Others come and go meanwhile.
        with contextlib.suppress(OSError):
            if name.read_text().startswith("ksoftirqd"):
                found.append(name.parent)
    return found


def _thread_s(process: Path) -> float:
    return int((process / "schedstat").read_text().split()[0]) / 1e9


@contextlib.contextmanager
def _changed(nodes: list[Node], part: Part) -> Iterator[None]:
    listings = [_run(node, "nft", "list", "table", *_TABLE.split()) for node in nodes]
    for node, listing in zip(nodes, listings, strict=True):
        _run(node, "nft", "-f", "-", stdin=part.commands(listing))
    yield
    for node, listing in zip(nodes, listings, strict=True):
        _run(node, "nft", "-f", "-", stdin=_anew(listing))


def _run(node: Node, *command: str, stdin: str | None = None) -> str:
    done = node.exec(command, stdin=stdin)
    if done.returncode:
        raise BenchError(f"{' '.join(command)}: {done.stderr.strip()}")
    return done.stdout


def _cell(costs: dict[tuple[str, str], list[float]], name: str, way: str) -> str:
    found, whole = costs.get((name, way)), costs["as it is", way]
    if found is None:
        return "-"
    ratio = statistics.median(a / b for a, b in zip(found, whole, strict=True))
    return f"{statistics.median(found):.3f} ({ratio - 1:+.1%})"
