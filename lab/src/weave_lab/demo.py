"""`make demo`: a cluster from nothing, used, broken and taken down, every claim checked.

A step that fails does not stop the others, so that one run shows all that is wrong; the exit
status is 0 only if everything held. Whatever happens, the lab goes down and the host is searched
for leftovers.
"""

from __future__ import annotations

import json
import signal
import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any

from weave_lab import traffic
from weave_lab.cold_start import cold_start_s
from weave_lab.errors import LabError
from weave_lab.lab import Lab, LabSpec
from weave_lab.layout import LabLayout
from weave_lab.namespaces import HeldNamespaces
from weave_lab.node import Node
from weave_lab.pods import Pod
from weave_lab.residue import Snapshot
from weave_lab.services import SERVICES

DEFAULT_NAME = "demo"
NODES = 3
POD_NAMES = ("a", "b")
TRANSFER_BYTES = 100_000_000
PING_INTERVAL_S = 0.01
# With all services of a node dead: long enough for what a crash would break by then.
OUTAGE_S = 3.0
LATENCY_SAMPLES = 20
# Peers learn each other's addresses within a second of the mesh being up.
CONVERGENCE_TIMEOUT_S = 20.0
_POLL_S = 0.1
# Of all services of a node, with exporters and Kubernetes off.
MEMORY_LIMIT_KIB = 160 << 10


class Failed(LabError):
    """A claim that did not hold."""


@dataclass(frozen=True, slots=True)
class Screen:
    """Progress with the time since the start, and what failed."""

    begin: float
    failures: list[str]

    def step(self, text: str) -> None:
        """Announces what happens now."""
        print(f"\n[{time.monotonic() - self.begin:5.1f} s] {text}", flush=True)

    def show(self, text: str) -> None:
        """Shows a result below its step."""
        print("\n".join(f"  {line}".rstrip() for line in text.splitlines()), flush=True)

    @contextmanager
    def claim(self, text: str) -> Iterator[None]:
        """Runs a step; its failure is shown, counted and passed over."""
        self.step(text)
        try:
            yield
        except LabError as error:
            self.failures.append(f"{text}: {error}")
            self.show(f"FAILED: {error}")


def main(name: str = DEFAULT_NAME) -> int:
    """Runs the demo; 0 only if all of it held."""
    screen = Screen(time.monotonic(), [])
    layout = LabLayout(name)
    before = Snapshot.take(layout)
    lab: Lab | None = None
    try:
        lab = Lab.up(LabSpec(name=name, nodes=NODES), screen.step)
        _run(lab, screen)
    except LabError as error:
        screen.failures.append(str(error))
        screen.show(f"FAILED: {error}")
    except KeyboardInterrupt:
        screen.failures.append("interrupted")
    # A second Ctrl-C must not stop the cleaning up.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    screen.step("taking everything down")
    with lab.namespaces() if lab else HeldNamespaces([]) as namespaces:
        if lab:
            lab.down()
        left = Snapshot.take(layout, namespaces.numbers).since(before)
    screen.failures.extend(f"left behind: {item}" for item in left)
    for failure in screen.failures:
        screen.show(f"FAILED: {failure}")
    print("residue: " + ("; ".join(left) or "none"))
    print(
        f"demo: {'failed' if screen.failures else 'ok'} ({time.monotonic() - screen.begin:.1f} s)"
    )
    return int(bool(screen.failures))


def _run(lab: Lab, screen: Screen) -> None:
    """All claims, in the order in which a new user would try things."""
    with screen.claim(f"adding {NODES * len(POD_NAMES)} pods through /opt/cni/bin/weave-net"):
        for node in lab.nodes():
            for name in POD_NAMES:
                pod = node.add_pod(name)
                screen.show(f"{node.name}/{name}  {' '.join(pod.addresses)}")
    steps: Sequence[tuple[str, Callable[[Lab, Screen], None]]] = (
        ("the ring: who owns which range", _show_ring),
        ("peers, connections and the path to each", _show_connections),
        ("every pod pings every other", _ping_all),
        (f"{TRANSFER_BYTES // 1_000_000} MB by HTTP from n3 to n1", _transfer),
        ("all services of n2 killed while pods talk", _kill_and_adopt),
        ("a pod deleted twice", _delete_twice),
        (f"{LATENCY_SAMPLES} pods added and deleted", _latency),
        ("memory (PSS) and cold start of n1's services", _show_services),
    )
    for text, step in steps:
        with screen.claim(text):
            step(lab, screen)


def _show_ring(lab: Lab, screen: Screen) -> None:
    report = _report(lab.node("n1"))
    entries = report["IPAM"]["Entries"]
    for entry in entries:
        screen.show(f"{entry['Token']:<15} {entry['Size']:>8} addresses  {entry['Nickname']}")
    owners = {entry["Nickname"] for entry in entries}
    _require(len(owners) == NODES, f"{len(owners)} of {NODES} peers own a part of the ring")
    total, owned = report["IPAM"]["RangeNumIPs"], sum(entry["Size"] for entry in entries)
    _require(owned == total, f"{owned} of {total} addresses have an owner")
    for node in lab.nodes()[1:]:
        others = _report(node)["IPAM"]["Entries"]
        same = [(e["Token"], e["Size"], e["Peer"]) for e in others] == [
            (e["Token"], e["Size"], e["Peer"]) for e in entries
        ]
        _require(same, f"{node.name} sees another ring than n1")


def _show_connections(lab: Lab, screen: Screen) -> None:
    for node in lab.nodes():
        _until(partial(_has_all_paths, node), f"{node.name} has a path to every peer")
        screen.show(f"{node.name}: {_weave(node, 'status', 'connections')}".replace("\n", "\n    "))
    screen.show(_weave(lab.node("n1"), "status", "peers"))


def _ping_all(lab: Lab, screen: Screen) -> None:
    pods = [pod for node in lab.nodes() for pod in node.pods()]
    pairs = len(pods) * (len(pods) - 1)
    failed = traffic.unreachable_pairs(pods)
    screen.show(f"pods: {len(pods)}, pairs: {pairs - len(failed)}/{pairs} reachable")
    names = ", ".join(f"{a.node.name}/{a.name} -> {b.node.name}/{b.name}" for a, b in failed)
    _require(not failed, f"no answer: {names}")


def _transfer(lab: Lab, screen: Screen) -> None:
    server, client = lab.node("n3").pod("a"), lab.node("n1").pod("a")
    done = traffic.transfer(server, client, TRANSFER_BYTES)
    screen.show(f"{done.size} bytes, SHA-256 {done.sha256[:16]}... verified")
    screen.show(f"{done.gbit_per_s:.2f} Gbit/s ({done.seconds:.2f} s)")


def _kill_and_adopt(lab: Lab, screen: Screen) -> None:
    victim = lab.node("n2")
    before = _addresses(lab)
    a1, a2, b2, a3 = (
        lab.node(n).pod(p) for n, p in (("n1", "a"), ("n2", "a"), ("n2", "b"), ("n3", "a"))
    )
    pairs = [(a2, b2), (a1, a2), (a2, a3), (b2, a1), (a3, b2), (a1, a3)]
    with traffic.flowing(pairs, PING_INTERVAL_S) as stop:
        time.sleep(0.5)
        victim.kill()
        screen.show(f"killed: {', '.join(service.name for service in SERVICES)}")
        time.sleep(OUTAGE_S)
        victim.launch()
        victim.wait_ready()
        screen.show("started again, ready")
        added = victim.add_pod("c")
        screen.show(f"n2/c added: {' '.join(added.addresses)}")
        _require(not traffic.unreachable_pairs([added, a1, a2]), "n2/c cannot talk to others")
        time.sleep(0.5)
        counts = stop()
    victim.delete_pod("c")
    for each in counts:
        screen.show(f"{each.source} -> {each.target}: {each.sent} pings, {each.lost} lost")
    after = _addresses(lab)
    _require(before == after, f"addresses changed: {before} became {after}")
    lost = sum(each.lost for each in counts)
    screen.show(f"lost: {lost} of {sum(each.sent for each in counts)}; no address changed")
    _require(lost == 0, f"{lost} pings were lost")


def _delete_twice(lab: Lab, screen: Screen) -> None:
    node = lab.node("n1")
    address = node.add_pod("twice").address
    node.delete_pod("twice")
    node.delete_pod("twice")
    screen.show("second DEL succeeded")
    following = [node.add_pod(f"next{number}") for number in range(3)]
    addresses = [pod.address for pod in following]
    for pod in following:
        node.delete_pod(pod.name)
    screen.show(f"{address} was given back; the next pods got {', '.join(addresses)}")
    _require(address not in addresses, f"{address} was given out again at once")


def _latency(lab: Lab, screen: Screen) -> None:
    node = lab.node("n1")
    adds, dels, entries = [], [], []
    for number in range(LATENCY_SAMPLES):
        begin = time.perf_counter()
        node.exec(["true"])
        entries.append(time.perf_counter() - begin)
        pod = node.add_pod(f"sample{number}")
        node.delete_pod(pod.name)
        adds.append(pod.record.add_s)
        dels.append(pod.record.del_s)
    screen.show(f"ADD {_percentiles(adds)}")
    screen.show(f"DEL {_percentiles(dels)}")
    entry_ms = statistics.median(entries) * 1e3
    screen.show(f"of each, {entry_ms:.1f} ms go into entering the node's namespaces")


def _show_services(lab: Lab, screen: Screen) -> None:
    node = lab.node("n1")
    total_kib = 0
    for service in SERVICES:
        process = node.service_process(service.name)
        if process is None:
            raise Failed(f"{service.name} on n1 is down")
        total_kib += process.memory_kib
        memory = f"{process.memory_kib / 1024:6.1f} MiB"
        screen.show(
            f"{service.name:<10} {memory}, serves after {cold_start_s(node, service):.2f} s"
        )
    node.wait_ready()
    screen.show(f"{'together':<10} {total_kib / 1024:6.1f} MiB")
    _require(total_kib <= MEMORY_LIMIT_KIB, f"more than {MEMORY_LIMIT_KIB >> 10} MiB")


def _weave(node: Node, *argv: str) -> str:
    done = node.exec(["weave", *argv])
    if done.returncode != 0:
        raise Failed(f"`weave {' '.join(argv)}` on {node.name}: {done.stdout}{done.stderr}".strip())
    return done.stdout.rstrip("\n")


def _report(node: Node) -> dict[str, Any]:
    report: dict[str, Any] = json.loads(_weave(node, "report"))
    return report


def _has_all_paths(node: Node) -> bool:
    router = _report(node)["Router"]
    established = {c["Peer"] for c in router["Connections"] if c["State"] == "established"}
    working = {path["Peer"] for path in router["Paths"] if path["Kind"] not in ("none", "?")}
    return len(established) == len(working) == NODES - 1


def _addresses(lab: Lab) -> dict[str, str]:
    """Addresses as the kernel has them in pods and on the nodes, not as anybody remembers them."""
    show = ["ip", "-o", "addr", "show", "scope", "global"]
    found = {f"{pod.node.name}/{pod.name}": pod.exec(show).stdout for pod in _pods(lab)}
    overlay = [*show, "dev", "weave"]
    return found | {node.name: node.exec(overlay).stdout for node in lab.nodes()}


def _pods(lab: Lab) -> list[Pod]:
    return [pod for node in lab.nodes() for pod in node.pods()]


def _percentiles(seconds: Sequence[float]) -> str:
    cuts = statistics.quantiles(seconds, n=20, method="inclusive")
    return f"p50 {statistics.median(seconds) * 1e3:.1f} ms, p95 {cuts[18] * 1e3:.1f} ms"


def _until(holds: Callable[[], bool], text: str) -> None:
    deadline = time.monotonic() + CONVERGENCE_TIMEOUT_S
    while not holds():
        if time.monotonic() > deadline:
            raise Failed(f"not after {CONVERGENCE_TIMEOUT_S:g} s: {text}")
        time.sleep(_POLL_S)


def _require(holds: bool, otherwise: str) -> None:
    if not holds:
        raise Failed(otherwise)
