"""What one core takes in memory when it knows many peers."""

from __future__ import annotations

import gc
import tracemalloc
from random import Random

from tests.sim.codec import SimCodec
from weave_gossip.core.documents import Document, DocumentId
from weave_gossip.core.effects import LinkId
from weave_gossip.core.facts import Link, PeerFacts
from weave_gossip.core.mesh import Mesh
from weave_gossip.core.messages import Documents, Hello
from weave_gossip.core.options import MeshOptions
from weave_model.peer import PeerName

LINKS_PER_PEER = 10
# As many documents as a peer writes: facts, links, ring of two families, space, endpoints, paths.
OTHER_TOPICS = (("ring", "4"), ("ring", "6"), ("ipam-space", ""), ("endpoints", ""), ("paths", ""))
OTHER_BYTES = 200


def core_megabytes(peers: int) -> float:
    """Megabytes that stay allocated once everything about `peers` peers has been received."""
    rng = Random(1)
    names = [PeerName(b"\x02" + number.to_bytes(5, "big")) for number in range(1, peers + 1)]
    was_enabled = gc.isenabled()
    gc.collect()
    tracemalloc.start()
    before, _ = tracemalloc.get_traced_memory()
    mesh = _fill(names, rng)
    gc.collect()
    after, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    if not was_enabled:
        gc.disable()
    assert mesh.status().known_peers == peers
    assert mesh.status().reachable_peers > peers // 2
    return (after - before) / 1e6


def _fill(names: list[PeerName], rng: Random) -> Mesh:
    codec = SimCodec()
    mesh = Mesh(
        name=names[0],
        incarnation=1,
        facts=_facts(0, rng),
        codec=codec,
        options=MeshOptions(),
        rng=Random(2),
        now=0.0,
    )
    for number, name in enumerate(names[1 : 1 + LINKS_PER_PEER], start=1):
        hello = Hello(name, f"node{number}", 1, rng.randbytes(8), 6783)
        mesh.link_established(
            LinkId(number), hello, outbound=True, address="10.0.0.1:6783", epoch=1, now=0.0
        )
    for number, name in enumerate(names[1:], start=1):
        # A ring with chords: everybody links to the next ones on both sides.
        linked = [names[(number + step) % len(names)] for step in range(-5, 6) if step]
        links = codec.encode_links(tuple(Link(each, outbound=True) for each in linked))
        documents = [
            Document(DocumentId("peers", name, ""), 1, 1, codec.encode_facts(_facts(number, rng))),
            Document(DocumentId("links", name, ""), 1, 1, links),
        ]
        documents += [
            Document(DocumentId(topic, name, key), 1, 1, rng.randbytes(OTHER_BYTES))
            for topic, key in OTHER_TOPICS
        ]
        mesh.receive(LinkId(1), Documents(tuple(documents)), 0.0)
        mesh.take_effects()
    now = 0.0
    while now < 1.0:
        now += 0.1
        mesh.tick(now)
        mesh.take_effects()
    return mesh


def _facts(number: int, rng: Random) -> PeerFacts:
    return PeerFacts(
        nickname=f"node{number}",
        instance=rng.randbytes(16),
        listen_port=6783,
        node_uid=f"00000000-0000-4000-8000-{number:012}",
        universes=("10.32.0.0/12",),
        underlay_addresses=((10 << 24 | number).to_bytes(4, "big"),),
    )
