"""ADD, DEL and STATUS beside the reference plugins, in turn: one by one, many at once, crowded."""

from __future__ import annotations

import contextlib
import statistics
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from bench.figures import Row, ms, percentile
from bench.plugin import Plugin

# The first calls pay for what later ones find: the bridge, caches, imports.
WARM_UP = 3
# Shares of what the reference takes.
ADD_GOAL = 0.6
DEL_GOAL = 0.3
STATUS_GOAL_MS = 5
PARALLEL = 100
PARALLEL_P99_GOAL_S = 1
CROWD = 250
CROWD_GOAL = 1.2


def latency(
    ours: Plugin, reference: Plugin, samples: int, tell: Callable[[str], None]
) -> list[Row]:
    """Times `samples` ADDs and DELs of each, in turn."""
    adds: dict[str, list[float]] = {ours.name: [], reference.name: []}
    dels: dict[str, list[float]] = {ours.name: [], reference.name: []}
    for number in range(-WARM_UP, samples):
        for plugin in (ours, reference) if number % 2 else (reference, ours):
            sandbox = f"bench{number + WARM_UP}"
            plugin.make_sandbox(sandbox)
            add_s, result = plugin.call("ADD", sandbox)
            del_s, _ = plugin.call("DEL", sandbox, result)
            plugin.remove_sandbox(sandbox)
            if number >= 0:
                adds[plugin.name].append(add_s)
                dels[plugin.name].append(del_s)
        if number % 10 == 0:
            tell(f"  {max(number, 0)} of {samples}")
    rows = []
    for verb, times, goal in (("ADD", adds, ADD_GOAL), ("DEL", dels, DEL_GOAL)):
        for percent in (50, 95):
            mine = percentile(times[ours.name], percent)
            theirs = percentile(times[reference.name], percent)
            rows.append(
                Row(
                    f"{verb} p{percent} against {reference.name}",
                    ms(mine),
                    ms(theirs),
                    mine / theirs,
                    goal if percent == 50 else None,
                )
            )
    return rows


def status(ours: Plugin, samples: int) -> list[Row]:
    """Times STATUS, which a kubelet has called every 5 s."""
    times = [ours.call("STATUS", "status")[0] for _ in range(samples)]
    return [
        Row(
            "STATUS p50",
            ms(percentile(times, 50)),
            "",
            percentile(times, 50) * 1000,
            STATUS_GOAL_MS,
            unit=" ms",
        )
    ]


def parallel(ours: Plugin, reference: Plugin, rounds: int) -> list[Row]:
    """Times PARALLEL ADDs at once, of each in turn."""
    totals: dict[str, list[float]] = {ours.name: [], reference.name: []}
    highest: dict[str, list[float]] = {ours.name: [], reference.name: []}
    for number in range(rounds):
        for plugin in (ours, reference) if number % 2 else (reference, ours):
            with sandboxes(plugin, PARALLEL) as names:
                added, total_s = plugin.calls("ADD", dict.fromkeys(names))
                results = [result for _, result in added]
                _delete(plugin, dict(zip(names, results, strict=True)))
            totals[plugin.name].append(total_s)
            highest[plugin.name].append(percentile([elapsed for elapsed, _ in added], 99))
    mine, theirs = (statistics.median(totals[plugin.name]) for plugin in (ours, reference))
    my_p99, their_p99 = (statistics.median(highest[plugin.name]) for plugin in (ours, reference))
    return [
        Row(
            f"{PARALLEL} ADDs at once, p99",
            ms(my_p99),
            ms(their_p99),
            my_p99,
            PARALLEL_P99_GOAL_S,
            unit=" s",
        ),
        Row(f"{PARALLEL} ADDs at once, all done", ms(mine), ms(theirs), mine / theirs, 1),
    ]


def crowded(full: Plugin, empty: Plugin, samples: int) -> list[Row]:
    """Times ADDs on a node with CROWD pods and on one without any, in turn."""
    times: dict[str, list[float]] = {"full": [], "empty": []}
    with sandboxes(full, CROWD, "crowd") as names:
        results = {name: full.call("ADD", name)[1] for name in names}
        for number in range(-WARM_UP, samples):
            order = [("full", full), ("empty", empty)]
            for which, plugin in order if number % 2 else reversed(order):
                add_s = _add(plugin, f"sample{number + WARM_UP}")
                if number >= 0:
                    times[which].append(add_s)
        _delete(full, results)
    last, first = (percentile(times[which], 50) for which in ("full", "empty"))
    return [
        Row(
            f"ADD p50 with {CROWD} pods against an empty node",
            ms(last),
            ms(first),
            last / first,
            CROWD_GOAL,
        )
    ]


@contextlib.contextmanager
def sandboxes(plugin: Plugin, count: int, prefix: str = "many") -> Iterator[list[str]]:
    """Empty sandboxes during a block."""
    names = [f"{prefix}{number}" for number in range(count)]
    for name in names:
        plugin.make_sandbox(name)
    yield names
    for name in names:
        plugin.remove_sandbox(name)


def _add(plugin: Plugin, sandbox: str) -> float:
    plugin.make_sandbox(sandbox)
    add_s, result = plugin.call("ADD", sandbox)
    plugin.call("DEL", sandbox, result)
    plugin.remove_sandbox(sandbox)
    return add_s


def _delete(plugin: Plugin, results: Mapping[str, Any]) -> None:
    for name, result in results.items():
        plugin.call("DEL", name, result)
