"""What Prometheus reads: counts that the core keeps anyway, so that a scrape costs next to nothing.

Imports `prometheus_client`: import this module only when somebody scrapes.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.registry import Collector

from weave_gossip.core.status import ConnectionState
from weave_gossip.loop import Driver

Family = GaugeMetricFamily | CounterMetricFamily


class MeshCollector(Collector):
    """Reads the driver at each scrape."""

    def __init__(self, driver: Driver, *, is_encrypted: bool) -> None:
        self._driver = driver
        self._encryption = "yes" if is_encrypted else ""

    def collect(self) -> Iterator[Family]:
        """All families, each complete."""
        status = self._driver.ask(lambda mesh: mesh.status())
        states = Counter(each.state for each in self._driver.ask(lambda mesh: mesh.connections()))
        connections = GaugeMetricFamily(
            "weave_gossip_connections",
            "Links and addresses where one is wanted.",
            labels=["state", "encryption"],
        )
        for state in ConnectionState:
            connections.add_metric([state.value, self._encryption], states[state])
        yield connections
        yield CounterMetricFamily(
            "weave_gossip_connection_terminations",
            "Links that have ended.",
            value=status.terminated_connections,
        )
        peers = GaugeMetricFamily(
            "weave_gossip_peers", "Known peers, this one included.", labels=["reachable"]
        )
        peers.add_metric(["yes"], status.reachable_peers)
        peers.add_metric(["no"], status.known_peers - status.reachable_peers)
        yield peers
        yield GaugeMetricFamily(
            "weave_gossip_documents", "Replicated documents held.", value=status.documents
        )
        yield GaugeMetricFamily(
            "weave_gossip_documents_quarantined",
            "Versions that a consumer could not read.",
            value=len(self._driver.ask(lambda mesh: mesh.quarantined())),
        )
