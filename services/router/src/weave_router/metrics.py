"""Numbers for Prometheus, with Weave Net's names where it had one.

Imports `prometheus_client`: import this module only when somebody scrapes.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.registry import Collector

from weave_router.core.attachments import Phase
from weave_router.core.inputs import PathKind
from weave_router.core.liveness import State
from weave_router.path_status import PathStatus, path_statuses
from weave_router.router import Router

Family = GaugeMetricFamily | CounterMetricFamily

_STATES = ("established", "pending", "failed")


class RouterCollector(Collector):
    """Reads the router at each scrape; keeps nothing."""

    def __init__(self, router: Router) -> None:
        self._router = router

    def collect(self) -> Iterator[Family]:
        """All families, each complete."""
        router, node = self._router, self._router.node
        yield self._connections()
        narrow = sum(path.mtu != 0 for path in node.paths.values())
        yield _gauge("weave_paths_narrowed", "Paths with less than the overlay's MTU.", narrow)
        attachments = GaugeMetricFamily(
            "weave_attachments", "Interfaces of pods by state.", labels=["state"]
        )
        phases = Counter(record.phase for record in node.attachments)
        attachments.add_metric(["active"], phases[Phase.ACTIVE])
        attachments.add_metric(["prepared"], phases.total() - phases[Phase.ACTIVE])
        yield attachments
        report = router.reconciler.report
        yield _gauge("weave_router_ready", "1: an attach would succeed.", not router.not_ready())
        yield _gauge(
            "weave_router_refused_operations", "What the kernel refuses now.", len(report.failures)
        )
        yield _gauge(
            "weave_router_drift",
            "What others have changed in the kernel and is not repaired.",
            sum(not entry.repaired for entry in router.notes.entries),
        )
        for name, text, value in (
            (
                "weave_router_repairs",
                "What others had changed and was repaired.",
                router.notes.repairs,
            ),
            ("weave_router_rounds", "Comparisons of kernel and plan.", report.rounds),
            ("weave_path_changes", "Paths that were replaced by others.", node.path_changes),
        ):
            yield CounterMetricFamily(name, text, value=value)

    def _connections(self) -> Family:
        """Peers by state and path, as Weave Net counted its overlay connections."""
        family = GaugeMetricFamily(
            "weave_connections",
            "Peers by state of the data path to them.",
            labels=["state", "type", "encryption"],
        )
        counts = Counter(
            (self._state(status), status.kind.value) for status in path_statuses(self._router.node)
        )
        for state in _STATES:
            for kind in PathKind:
                family.add_metric([state, kind.value, ""], counts[state, kind.value])
        return family

    def _state(self, status: PathStatus) -> str:
        verdict = self._router.node.verdicts.get(status.peer)
        if status.kind is PathKind.NONE:
            return "failed"
        if verdict is None or verdict.state is State.UNKNOWN:
            return "pending"
        is_reached = verdict.state is State.UP or status.kind is PathKind.RELAY
        return "established" if is_reached else "failed"


def _gauge(name: str, text: str, value: float) -> Family:
    return GaugeMetricFamily(name, text, value=value)
