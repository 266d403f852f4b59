"""ADD, DEL and STATUS beside the reference plugins, call by call in turn."""

from __future__ import annotations

from collections.abc import Callable

from bench.figures import Row, ms, percentile
from bench.plugin import Plugin

# The first calls pay for what later ones find: the bridge, caches, imports.
WARM_UP = 3


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
    for verb, times, goal in (("ADD", adds, 0.75), ("DEL", dels, None)):
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
            "STATUS p50", ms(percentile(times, 50)), "", percentile(times, 50) * 1000, 5, unit=" ms"
        )
    ]
