"""The cluster this agent belongs to: what the rest of the service needs of Kubernetes."""

from __future__ import annotations

import os
from dataclasses import replace

from weave_gossip.config import Config
from weave_gossip.kubernetes.api import ApiClient
from weave_gossip.kubernetes.events import EventWriter, Observer
from weave_gossip.kubernetes.membership import Membership, Start
from weave_gossip.kubernetes.node_status import READY_PORT, NodeStatus
from weave_gossip.loop import Driver
from weave_gossip.views import Views
from weave_runtime.process import Supervisor
from weave_runtime.store import Store


class Cluster:
    """Nodes as peers, this Node's status, and Events at it."""

    def __init__(
        self, membership: Membership, status: NodeStatus, observer: Observer, start: Start
    ) -> None:
        self._membership = membership
        self._status = status
        self._observer = observer
        self._start = start

    @classmethod
    async def find(cls, config: Config, port: int, store: Store) -> Cluster:
        """Asks the API server for a short while. Raises ApiAway outside of a cluster."""
        api = ApiClient.in_cluster(os.environ)
        membership = Membership(api, config.kube_node, port, store)
        taint = config.kube_startup_taint
        status = NodeStatus(api, config.kube_node, membership.own_uid, taint, READY_PORT)
        writer = EventWriter(api, config.kube_node, membership.own_uid)
        observer = Observer(membership, writer, READY_PORT)
        return cls(membership, status, observer, await membership.start())

    def configured(self, config: Config) -> Config:
        """The options, with what the cluster knows where nothing was set."""
        return replace(
            config,
            node_uid=config.node_uid or self._start.node_uid,
            peers=config.peers or self._start.targets,
            underlay_address=config.underlay_address or self._start.underlay_addresses,
        )

    def begin(self, supervisor: Supervisor, driver: Driver, views: Views) -> None:
        """Follows the cluster from here on."""
        supervisor.start("nodes", self._membership.follow())
        supervisor.start("node targets", self._membership.apply(driver))
        supervisor.start("node status", self._status.run())
        supervisor.start("events", self._observer.run(views, driver))
        supervisor.start(
            "departed nodes", self._membership.judge(views, driver.now, views.declare_departed)
        )
