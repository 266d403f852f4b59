"""Peers from the Nodes of the cluster: found at start, followed ever after.

The API server may be away at any time. What it last said is kept in the store, so that an agent
that restarts meanwhile dials the peers it had.
"""

from __future__ import annotations

import asyncio
import json
import logging
import random
import socket
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

from weave_gossip.core.status import PeerView
from weave_gossip.kubernetes import nodes
from weave_gossip.kubernetes.api import ApiAway, ApiClient, ApiRefused
from weave_gossip.kubernetes.mirror import Mirror
from weave_gossip.kubernetes.nodes import NodeFacts, NodeSeen
from weave_gossip.loop import Driver
from weave_gossip.views import Views
from weave_model.peer import PeerName
from weave_runtime.store import Store

log = logging.getLogger(__name__)

NODES = "/api/v1/nodes"
# A restart of an agent during an outage of the API server must not take much longer for it.
FIRST_LIST_S = 8.0
_RETRY_S = 1.0
# Nodes come in crowds when a cluster is scaled.
_SETTLE_S = 0.5
# A peer whose Node is gone may still be on its way down, and one whose Node was made anew on its
# way up; Weave Net waited up to 5 s.
DEPARTED_FOR_S = 15.0
_JUDGE_PERIOD_S = 5.0
# For Events; a cluster that is scaled down loses some at a time.
MAX_DEPARTURES = 256
_KEPT = "kubernetes"


@dataclass(frozen=True, slots=True)
class Start:
    """What the mesh is told at its start."""

    node_uid: str
    targets: tuple[str, ...]
    underlay_addresses: tuple[bytes, ...]


class Membership:
    """The Nodes of the cluster as this agent knows them."""

    def __init__(self, api: ApiClient, own_node: str, port: int, store: Store) -> None:
        self._api = api
        self._own_node = own_node
        self._port = port
        self._store = store
        self._nodes: dict[str, NodeFacts] = {}
        self._serving: frozenset[str] = frozenset()
        self._changed = asyncio.Event()
        self._departed_since: dict[PeerName, float] = {}
        self._departures: dict[PeerName, str] = {}

    def own_uid(self) -> str:
        """UID of the own Node; empty while there is none."""
        own = self._nodes.get(self._own_node)
        return own.uid if own else ""

    def unreached(self, peers: Iterable[PeerView]) -> list[NodeFacts]:
        """Nodes that say that their network works, and that the mesh does not reach."""
        serving = [node for name, node in self._nodes.items() if name in self._serving]
        return nodes.unreached(serving, self._own_node, peers)

    async def start(self) -> Start:
        """Asks the API server for a short while, then goes on with what is kept."""
        try:
            async with asyncio.timeout(FIRST_LIST_S):
                await self._first_list()
            await self._keep()
        except TimeoutError:
            self._nodes = await self._kept()
            log.warning(
                "the API server does not answer: starting with the nodes known before",
                extra={"nodes": len(self._nodes)},
            )
        return Start(
            node_uid=self.own_uid(),
            targets=self._targets(),
            underlay_addresses=nodes.underlay_addresses(
                self._nodes.values(), self._own_node, _is_local
            ),
        )

    async def follow(self) -> None:
        """Keeps the copy of the Nodes in step, until cancelled."""
        await Mirror(self._api, NODES, nodes.see, self._mirrored, random.Random()).run()

    async def apply(self, driver: Driver) -> None:
        """Makes the Nodes the targets of the mesh at each change, until cancelled."""
        present = self._targets()
        while True:
            await self._changed.wait()
            await asyncio.sleep(_SETTLE_S)
            self._changed.clear()
            await self._keep()
            if (wanted := self._targets()) != present:
                present = wanted
                log.info("peers are now the nodes at [%s]", " ".join(wanted))
                await _connect(driver, wanted)

    async def judge(
        self, views: Views, now: Callable[[], float], declare: Callable[[frozenset[PeerName]], None]
    ) -> None:
        """Declares the peers whose machines are gone for good, again and again."""
        while True:
            await asyncio.sleep(_JUDGE_PERIOD_S)
            gone = self._gone_for_good(views, now())
            declare(gone)
            self._remember(views, gone)

    @property
    def departures(self) -> Mapping[PeerName, str]:
        """Peers declared departed, with the names of their Nodes; the oldest are forgotten.

        The mesh may forget such a peer as soon as its space is taken over.
        """
        return self._departures

    def _remember(self, views: Views, gone: frozenset[PeerName]) -> None:
        peers = views.peers.items
        came_back = [name for name in self._departures if name in peers and peers[name].reachable]
        for name in came_back:
            del self._departures[name]
        self._departures |= {name: peers[name].nickname for name in gone if name in peers}
        for name in list(self._departures)[:-MAX_DEPARTURES]:
            del self._departures[name]

    def _gone_for_good(self, views: Views, now: float) -> frozenset[PeerName]:
        # Without the own Node the copy is no truth: it is empty, or of another cluster.
        if self._own_node not in self._nodes or not views.is_complete:
            self._departed_since.clear()
            return frozenset()
        gone = nodes.departed(self._nodes, views.peers.items.values())
        self._departed_since = {name: self._departed_since.get(name, now) for name in gone}
        return frozenset(
            name for name, since in self._departed_since.items() if now - since >= DEPARTED_FOR_S
        )

    def _targets(self) -> tuple[str, ...]:
        return nodes.targets(self._nodes.values(), self._own_node, self._port)

    async def _first_list(self) -> None:
        while True:
            try:
                found, _ = await self._api.list_as(NODES, nodes.parse_node)
            except (ApiAway, ApiRefused) as error:
                log.warning("Failed to get peers: %s", error)
                await asyncio.sleep(_RETRY_S)
            else:
                self._nodes = {node.name: node for node in found}
                return

    def _mirrored(self, seen: Mapping[str, NodeSeen]) -> None:
        self._serving = frozenset(name for name, node in seen.items() if node.serves)
        present = {name: node.facts for name, node in seen.items()}
        if present != self._nodes:
            self._nodes = present
            self._changed.set()

    async def _keep(self) -> None:
        entry = [[node.name, node.uid, *node.addresses] for node in self._nodes.values()]
        await self._store.commit({_KEPT: json.dumps(sorted(entry)).encode()})

    async def _kept(self) -> dict[str, NodeFacts]:
        entries = await self._store.load(_KEPT)
        kept = json.loads(entries.get(_KEPT, b"[]"))
        return {name: NodeFacts(name, uid, tuple(rest)) for name, uid, *rest in kept}


async def _connect(driver: Driver, targets: tuple[str, ...]) -> None:
    await driver.call_durably(lambda mesh, now: mesh.connect(targets, replace=True, now=now))


def _is_local(address: str) -> bool:
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    with socket.socket(family, socket.SOCK_DGRAM) as probe:
        try:
            probe.bind((address, 0))
        except OSError:
            return False
    return True
