"""The parts of one peer's mesh, and how they hang together."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from random import Random

from weave_gossip.core.candidates import Candidates
from weave_gossip.core.clock import Clock
from weave_gossip.core.connecting import Connector
from weave_gossip.core.departures import Departures
from weave_gossip.core.dialling import Dialler
from weave_gossip.core.documents import Document
from weave_gossip.core.exchange import Exchange
from weave_gossip.core.facts import PayloadCodec, PeerFacts
from weave_gossip.core.knowledge import Knowledge
from weave_gossip.core.linkkeeping import LinkKeeper
from weave_gossip.core.links import LinkTable
from weave_gossip.core.options import MeshOptions
from weave_gossip.core.outbox import Outbox
from weave_gossip.core.overlay import Overlay
from weave_gossip.core.publishing import Publisher
from weave_gossip.core.unicasting import Unicasts
from weave_model.peer import PeerName


@dataclass(frozen=True, slots=True, eq=False)
class Parts:
    """Each knows only those above it."""

    options: MeshOptions
    clock: Clock
    outbox: Outbox
    links: LinkTable
    knowledge: Knowledge
    exchange: Exchange
    publisher: Publisher
    keeper: LinkKeeper
    dialler: Dialler
    overlay: Overlay
    connector: Connector
    unicasts: Unicasts
    departures: Departures


def assemble(
    name: PeerName,
    incarnation: int,
    facts: PeerFacts,
    codec: PayloadCodec,
    options: MeshOptions,
    rng: Random,
    now: float,
    documents: Sequence[Document],
    targets: Sequence[str],
) -> Parts:
    """Makes the parts; see Mesh for the arguments."""
    outbox = Outbox(now)
    links = LinkTable()
    knowledge = Knowledge(name, codec, outbox)
    exchange = Exchange(knowledge, links, outbox)
    publisher = Publisher(
        name, incarnation, facts, codec, documents, knowledge, exchange, links, outbox
    )
    keeper = LinkKeeper(links, knowledge.replica, outbox, rng)
    dialler = Dialler(rng, targets, now)
    topology, directory = knowledge.topology, knowledge.directory
    candidates = Candidates(name, options, rng, links, topology, directory, dialler)
    overlay = Overlay(name, options, rng, links, topology, directory, dialler, candidates, now)
    connector = Connector(
        name, options, outbox, links, knowledge, publisher, keeper, dialler, overlay
    )
    return Parts(
        options=options,
        clock=Clock(now),
        outbox=outbox,
        links=links,
        knowledge=knowledge,
        exchange=exchange,
        publisher=publisher,
        keeper=keeper,
        dialler=dialler,
        overlay=overlay,
        connector=connector,
        unicasts=Unicasts(name, links, topology, exchange, outbox),
        departures=Departures(name, links, knowledge, overlay, publisher, now),
    )
