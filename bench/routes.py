"""Processor time for many routes: found, planned, compared and applied by the router's own code."""

from __future__ import annotations

import contextlib
import subprocess
import time
from collections.abc import Iterator

from bench.figures import Row
from weave_model.peer import PeerName
from weave_model.prefix import Family, Prefix
from weave_model.ring import OwnedBlock, RingView
from weave_router.core import plan, switches
from weave_router.core.diff import diff
from weave_router.core.inputs import Inputs, Options, Peer
from weave_router.kernel import namespace
from weave_router.kernel.linux import LinuxKernel

NETNS = "weave-bench-routes"
ROUTES = 10_000
GOAL_S = 2.0
UNIVERSE = Prefix.parse("10.32.0.0/12")
SELF, *OTHERS = (PeerName(bytes([2, 0, 0, 0, 0, number])) for number in range(1, 12))


def rows() -> list[Row]:
    """All of them at once, and a round that finds everything in order."""
    with _netns(), namespace.OpenedNamespace(f"/run/netns/{NETNS}") as opened:
        first_s, again_s = namespace.run_inside(opened, _measure)
    what = f"{ROUTES:,} routes found"
    return [
        Row(
            f"{what}, compared and applied (CPU)",
            f"{first_s:.2f} s",
            "",
            first_s,
            GOAL_S,
            unit=" s",
        ),
        Row(f"{what} and in order (CPU)", f"{again_s:.2f} s", "", again_s, unit=" s"),
    ]


def _measure() -> tuple[float, float]:
    kernel = LinuxKernel()
    try:
        _round(kernel, _inputs(0))
        wanted = _inputs(ROUTES)
        begun = time.process_time()
        _round(kernel, wanted)
        applied = time.process_time()
        left = _round(kernel, wanted)
        found = time.process_time()
        if left:
            raise AssertionError(f"{left} operations were left")
    finally:
        kernel.close()
    return applied - begun, found - applied


def _round(kernel: LinuxKernel, inputs: Inputs) -> int:
    found = kernel.found(switches.paths(inputs.options))
    operations = diff(plan.plan(inputs, found), found)
    failed = kernel.apply(operations)
    if failed:
        raise AssertionError(f"the kernel refused {failed[0]}")
    return len(operations)


def _inputs(routes: int) -> Inputs:
    """Blocks of a ring in which no two neighbours have one owner: each is a route in the main table
    and one in the transit table."""
    blocks = tuple(
        OwnedBlock(Prefix(Family.IPV4, UNIVERSE.address + (number << 6), 26), OTHERS[number % 10])
        for number in range(1, routes // 2 + 1)
    )
    peers = tuple(
        Peer(name, (Prefix.parse(f"10.99.0.{number}"),))
        for number, name in enumerate((SELF, *OTHERS), 1)
    )
    return Inputs(
        options=Options(SELF, (Prefix.parse("10.99.0.1"),), 1450, (UNIVERSE,)),
        overlay=(Prefix.parse("10.32.0.1"),),
        rings={Family.IPV4: RingView(UNIVERSE, blocks)},
        peers=peers,
    )


@contextlib.contextmanager
def _netns() -> Iterator[None]:
    subprocess.run(["ip", "netns", "add", NETNS], check=True)
    try:
        yield
    finally:
        subprocess.run(["ip", "netns", "del", NETNS], check=False)
