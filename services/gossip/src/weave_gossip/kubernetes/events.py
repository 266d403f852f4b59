"""Events at this agent's Node: what `kubectl describe node` shows of the pod network."""

from __future__ import annotations

import asyncio
import logging
import uuid
from collections.abc import Callable
from datetime import UTC, datetime

from weave_gossip.core.status import Connection, ConnectionState
from weave_gossip.kubernetes.api import ApiAway, ApiClient, ApiRefused
from weave_gossip.kubernetes.membership import Membership
from weave_gossip.kubernetes.node_status import why_not_ready
from weave_gossip.kubernetes.nodes import NodeFacts
from weave_gossip.kubernetes.notices import Notice, Notices, Sight
from weave_gossip.loop import Driver
from weave_gossip.views import Views
from weave_runtime.logs import once_per

log = logging.getLogger(__name__)
log.addFilter(once_per(60))

# Nodes have no namespace; Kubernetes keeps their Events here.
EVENTS = "/api/v1/namespaces/default/events"
COMPONENT = "weave-net"
_PERIOD_S = 10.0
_CONFLICT = 409


class EventWriter:
    """Tells notices as Events. Those that the API server does not take are only logged."""

    def __init__(self, api: ApiClient, node: str, node_uid: Callable[[], str]) -> None:
        self._api = api
        self._node = node
        self._node_uid = node_uid

    async def tell(self, notice: Notice) -> None:
        """Writes one; who of several agents comes second with the same key finds it told."""
        level = logging.WARNING if notice.is_warning else logging.INFO
        log.log(level, "%s", notice.message, extra={"event": notice.reason})
        try:
            await self._api.request("POST", EVENTS, self._event(notice))
        except ApiRefused as error:
            if not (notice.key and error.status == _CONFLICT):
                log.warning("no Event was made: %s", error)
        except ApiAway as error:
            log.warning("no Event was made: %s", error)

    def _event(self, notice: Notice) -> dict[str, object]:
        moment = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")  # noqa: TID251 - wall clock is meant
        # Without the Node's name: both together could be longer than a name may be.
        suffix = notice.key or uuid.uuid4().hex[:16]
        return {
            "apiVersion": "v1",
            "kind": "Event",
            "metadata": {"name": f"{COMPONENT}.{suffix}", "namespace": "default"},
            "involvedObject": {
                "apiVersion": "v1",
                "kind": "Node",
                "name": self._node,
                "uid": self._node_uid(),
            },
            "type": "Warning" if notice.is_warning else "Normal",
            "reason": notice.reason,
            "message": notice.message,
            "source": {"component": COMPONENT, "host": self._node},
            "reportingComponent": COMPONENT,
            "reportingInstance": self._node,
            "firstTimestamp": moment,
            "lastTimestamp": moment,
            "count": 1,
        }


class Observer:
    """Looks at readiness, at the mesh and at the Nodes, again and again."""

    def __init__(self, membership: Membership, writer: EventWriter, ready_port: int) -> None:
        self._membership = membership
        self._writer = writer
        self._ready_port = ready_port

    async def run(self, views: Views, driver: Driver) -> None:
        """Until cancelled."""
        notices = Notices()
        while True:
            for notice in notices.look(await self._see(views, driver), driver.now()):
                await self._writer.tell(notice)
            await asyncio.sleep(_PERIOD_S)

    async def _see(self, views: Views, driver: Driver) -> Sight:
        peers = list(views.peers.items.values())
        unreached = self._membership.unreached(peers) if views.is_complete else []
        connections = driver.ask(lambda mesh: mesh.connections()) if unreached else []
        return Sight(
            why_not_ready=await why_not_ready(self._ready_port),
            unreached={node.name: _failure(node, connections) for node in unreached},
            departed=dict(self._membership.departures),
        )


def _failure(node: NodeFacts, connections: list[Connection]) -> str:
    """What the last try to reach it ended with."""
    wanted = (ConnectionState.RETRYING, ConnectionState.FAILED)
    for connection in connections:
        host = connection.address.rpartition(":")[0].strip("[]")
        if connection.state in wanted and host in node.addresses and connection.last_error:
            return f"{connection.address}: {connection.last_error}"
    return ""
