"""Numbers for Prometheus, with Weave Net's names where it had one. Imported at the first scrape."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING

from weave_ipam.core.results import Status

if TYPE_CHECKING:
    from prometheus_client.metrics_core import Metric
    from prometheus_client.registry import Collector

# Seconds: from one fsync of a fast disk to what a container runtime waits at most.
LATENCY_BUCKETS_S = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1.0, 5.0, 30.0, 120.0)


class Latency:
    """A histogram that costs nothing but integers while nobody scrapes."""

    def __init__(self) -> None:
        self._counts = [0] * (len(LATENCY_BUCKETS_S) + 1)
        self.sum_s = 0.0

    def observe(self, seconds: float) -> None:
        """Counts one."""
        self._counts[bisect_left(LATENCY_BUCKETS_S, seconds)] += 1
        self.sum_s += seconds

    @property
    def buckets(self) -> list[tuple[str, float]]:
        """Cumulated counts by upper bound, as Prometheus has them."""
        total, cumulated = 0, []
        for bound, count in zip((*map(str, LATENCY_BUCKETS_S), "+Inf"), self._counts, strict=True):
            total += count
            cumulated.append((bound, float(total)))
        return cumulated


def collector(status: Callable[[], Status | None], latency: Latency) -> Collector:
    """What a scrape collects; `status` is asked each time."""
    from prometheus_client.registry import Collector

    class IpamCollector(Collector):
        """Reads the status; keeps nothing."""

        def collect(self) -> Iterable[Metric]:
            """The families of metrics."""
            return _collect(status(), latency)

    return IpamCollector()


def _collect(status: Status | None, latency: Latency) -> Iterable[Metric]:
    from prometheus_client.core import GaugeMetricFamily, HistogramMetricFamily

    families = status.families if status else ()
    ips = GaugeMetricFamily("weave_ips", "Number of IP addresses.", labels=["state"])
    for state, count in (
        ("local-used", sum(family.active for family in families)),
        ("local-free", sum(family.free for family in families)),
        ("local-quarantined", sum(family.quarantined for family in families)),
        ("local-conflicting", sum(len(family.conflicting) for family in families)),
    ):
        ips.add_metric([state], float(count))
    yield ips

    def gauge(name: str, text: str, value: float) -> Metric:
        return GaugeMetricFamily(name, text, value=value)

    unreachable = [
        share
        for family in families
        for share in family.shares
        if not share.reachable and share.addresses
    ]
    total = sum(family.universe.size for family in families)
    yield gauge("weave_max_ips", "Size of the IP address space used by IPAM.", float(total))
    yield gauge(
        "weave_ipam_unreachable_count",
        "Number of peers owning IP addresses which are unreachable.",
        float(len({share.peer for share in unreachable})),
    )
    yield gauge(
        "weave_ipam_unreachable_percentage",
        "Percentage of all IP addresses owned by unreachable peers.",
        100.0 * sum(share.addresses for share in unreachable) / total if total else 0.0,
    )
    yield gauge(
        "weave_ipam_pending_allocates",
        "Number of pending allocates.",
        float(sum(family.pending_allocates for family in families)),
    )
    yield gauge(
        "weave_ipam_pending_claims",
        "Number of pending claims.",
        float(sum(family.pending_claims for family in families)),
    )
    histogram = HistogramMetricFamily(
        "weave_ipam_allocation_seconds", "Time from a call of Allocate to its answer."
    )
    histogram.add_metric([], latency.buckets, latency.sum_s)
    yield histogram
