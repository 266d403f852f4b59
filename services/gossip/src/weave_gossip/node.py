"""Wires the gossip service together and runs it until it is asked to stop."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import random
import socket
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from weave.gossip.v1 import gossip_pb2_grpc
from weave_gossip import __version__
from weave_gossip.codec.facts import FactsCodec
from weave_gossip.config import Config
from weave_gossip.coordination.backend import Coordination
from weave_gossip.core.facts import PeerFacts
from weave_gossip.core.mesh import Mesh
from weave_gossip.core.options import MeshOptions
from weave_gossip.link.credentials import request_credentials
from weave_gossip.link.greeting import MAX_PROTOCOL, MIN_PROTOCOL, Greeting
from weave_gossip.link.listener import ACCEPT_REFILL_S, ACCEPT_TOKENS, Listener, TokenBucket, bind
from weave_gossip.link.tls import make_contexts
from weave_gossip.loop import Driver
from weave_gossip.network import TcpNetwork
from weave_gossip.service import CoordinationService, GossipService
from weave_gossip.settings import Settings
from weave_gossip.state import Loaded, SeenDocuments, begin_life
from weave_gossip.target import Target, parse_target
from weave_gossip.underlay import Underlay, show_addresses
from weave_gossip.views import Views
from weave_gossip.witness import name_in_kernel
from weave_runtime import removal
from weave_runtime.http import HttpServer
from weave_runtime.process import Supervisor
from weave_runtime.server import Server
from weave_runtime.store import Store, open_store

if TYPE_CHECKING:
    from prometheus_client.registry import Collector

    from weave_gossip.kubernetes.cluster import Cluster

log = logging.getLogger(__name__)

INSTANCE_BYTES = 8
# A node's address changes with a lease or a reboot; looking costs two sockets.
UNDERLAY_PERIOD_S = 15.0
# What a peer remembers of others is old, and after the loss of its state it knows nobody. Watchers
# would take that for the truth and drop what they hold; so they wait for the first link and what
# comes over it, but not for long, since the first peer of a mesh has nobody to wait for.
FIRST_LINK_S = 3.0
FIRST_DOCUMENTS_S = 0.5


async def run(config: Config, supervisor: Supervisor) -> None:
    """Serves until the supervisor says stop. Raises DomainError where it cannot start."""
    async with contextlib.AsyncExitStack() as stack:
        nickname = config.shown_nickname
        sockets = bind(config.host, config.port)
        stack.callback(_close_all, sockets)
        owner = f"gossip:{config.name or nickname}"
        store = await open_store(
            config.store_url,
            config.state_dir,
            owner=owner,
            is_last_life=lambda: removal.is_marked(config.run_dir),
        )
        await stack.enter_async_context(store)
        loaded = await begin_life(store, config.name, name_in_kernel())
        settings = Settings(
            name=loaded.name,
            nickname=nickname,
            port=sockets[0].getsockname()[1],
            version=__version__,
            is_encrypted=bool(config.password_set),
            discovery=not config.no_discovery,
        )
        contexts = {
            each.key_id: make_contexts(each)
            for each in await request_credentials(
                config.password_set, config.cluster_id, str(loaded.name)
            )
        }
        _log_start(settings, loaded)
        cluster = await _find_cluster(config, settings, store)
        config = cluster.configured(config) if cluster else config
        targets = _choose_targets(config, loaded)

        views = Views()
        seen = SeenDocuments(store, loaded.name)
        stack.push_async_callback(seen.flush)
        underlay = Underlay(config.underlay_address, targets)
        facts = _make_facts(config, settings, underlay.find())
        mesh = _make_mesh(config, loaded, facts, targets)
        driver = Driver(mesh, store, views, seen)
        stack.push_async_callback(driver.close)
        greeting = Greeting(cluster_id=config.cluster_id, key_ids=tuple(contexts))
        network = TcpNetwork(driver, greeting, contexts, settings.port)
        stack.push_async_callback(network.shut_down)
        coordination = _open_coordination(config, store)
        stack.push_async_callback(coordination.close)

        driver.start(network)
        listener = Listener(
            network.serve,
            bucket=TokenBucket(ACCEPT_TOKENS, ACCEPT_REFILL_S, asyncio.get_running_loop().time()),
        )
        stack.push_async_callback(listener.stop)
        for each in sockets:
            supervisor.start(f"listen {each.getsockname()[0]}", listener.run(each))
        supervisor.start("underlay", _follow_underlay(underlay, driver, facts))
        supervisor.start("coordination", coordination.follow())
        supervisor.start("seen documents", seen.run())
        if cluster:
            cluster.begin(supervisor, driver, views)
        supervisor.start("first view", _complete(driver, views, network, wait=bool(targets)))
        await _serve(config, supervisor, stack, driver, views, settings, network, coordination)


async def _serve(
    config: Config,
    supervisor: Supervisor,
    stack: contextlib.AsyncExitStack,
    driver: Driver,
    views: Views,
    settings: Settings,
    network: TcpNetwork,
    coordination: Coordination,
) -> None:
    def ready() -> str:
        return driver.store_error

    def metrics() -> Collector:
        from weave_gossip.metrics import MeshCollector

        return MeshCollector(driver, is_encrypted=settings.is_encrypted)

    server = Server(config.socket_path, group=config.socket_group, ready=ready)
    server.add(
        gossip_pb2_grpc.add_GossipServicer_to_server,
        GossipService(driver, views, settings, network.failures),
    )
    server.add(
        gossip_pb2_grpc.add_CoordinationServicer_to_server, CoordinationService(coordination)
    )
    await stack.enter_async_context(server)
    if config.http_addr:
        http = HttpServer(config.http_addr, ready=ready, metrics=metrics)
        await stack.enter_async_context(http)
    await supervisor.stopped()


async def _complete(driver: Driver, views: Views, network: TcpNetwork, *, wait: bool) -> None:
    # A view without this peer itself would not be one: first let the core's first effects happen.
    await driver.call_durably(lambda mesh, now: mesh.tick(now))
    if wait:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(FIRST_LINK_S):
                await network.first_link.wait()
                await asyncio.sleep(FIRST_DOCUMENTS_S)
    views.complete()


async def _find_cluster(config: Config, settings: Settings, store: Store) -> Cluster | None:
    if not config.kube_node:
        return None
    from weave_gossip.kubernetes.cluster import Cluster

    return await Cluster.find(config, settings.port, store)


def _close_all(sockets: Iterable[socket.socket]) -> None:
    for each in sockets:
        each.close()


def _choose_targets(config: Config, loaded: Loaded) -> list[Target]:
    if config.resume:
        targets = [parse_target(text, config.port) for text in loaded.targets]
        what = "Restart/resume detected - using persisted peer list"
    else:
        targets = list(config.targets)
        what = "Launch detected - using supplied peer list"
    log.info("%s: [%s]", what, " ".join(map(str, targets)))
    return targets


def _make_facts(
    config: Config, settings: Settings, underlay_addresses: tuple[bytes, ...]
) -> PeerFacts:
    return PeerFacts(
        nickname=settings.nickname,
        instance=os.urandom(INSTANCE_BYTES),
        listen_port=settings.port,
        node_uid=config.node_uid,
        universes=config.universes,
        underlay_addresses=underlay_addresses,
        min_protocol=MIN_PROTOCOL,
        max_protocol=MAX_PROTOCOL,
        software_version=settings.version,
    )


async def _follow_underlay(underlay: Underlay, driver: Driver, facts: PeerFacts) -> None:
    """Tells the mesh when this node's address is another, or is there at last."""
    while True:
        await asyncio.sleep(UNDERLAY_PERIOD_S)
        found = underlay.find()
        # Without any route the last known address is still the best guess.
        if found and found != facts.underlay_addresses:
            log.info("underlay addresses are now %s", show_addresses(found))
            facts = replace(facts, underlay_addresses=found)
            driver.update_facts(facts)


def _make_mesh(config: Config, loaded: Loaded, facts: PeerFacts, targets: list[Target]) -> Mesh:
    rng = random.SystemRandom()
    return Mesh(
        name=loaded.name,
        incarnation=loaded.incarnation,
        facts=facts,
        codec=FactsCodec(),
        options=MeshOptions(connection_limit=config.conn_limit, discovery=not config.no_discovery),
        rng=random.Random(rng.getrandbits(64)),
        now=asyncio.get_running_loop().time(),
        documents=loaded.documents,
        targets=[str(target) for target in targets],
    )


def _open_coordination(config: Config, store: Store) -> Coordination:
    scheme, _, path = config.coordination.partition(":")
    if scheme == "redis":
        from weave_gossip.coordination.redis import RedisCoordination

        return RedisCoordination(config.coordination, config.cluster_id)
    if scheme == "configmap":
        from weave_gossip.kubernetes.api import ApiClient
        from weave_gossip.kubernetes.configmap import ConfigMapCoordination
        from weave_gossip.kubernetes.kept import KeptEntries

        namespace, _, name = path.partition("/")
        api = ApiClient.in_cluster(os.environ)
        return ConfigMapCoordination(api, namespace, name, kept=KeptEntries(store))
    from weave_gossip.coordination.file import FileCoordination

    return FileCoordination(Path(path) if path else config.state_dir / "coordination.json")


def _log_start(settings: Settings, loaded: Loaded) -> None:
    if settings.is_encrypted:
        log.info("Communication between peers via untrusted networks is encrypted.")
    else:
        log.info("Communication between peers is unencrypted.")
    log.info("Our name is %s(%s)", settings.name, settings.nickname)
    if loaded.former_name is not None:
        log.warning(
            "the name was %s before: documents of that name stay until that peer is removed",
            loaded.former_name,
        )
