"""What Weave Net's mesh cost at scale, which it must not cost here; see docs/mesh-defects.md."""

from __future__ import annotations

from services.gossip.tests.core.meshes import formed, say
from tests.sim.conditions import Conditions
from tests.sim.node import Node
from weave_gossip.core.documents import Document, DocumentId
from weave_gossip.core.effects import Effect, PeerChanged, PeerRemoved
from weave_gossip.core.messages import Documents
from weave_gossip.core.options import MeshOptions
from weave_gossip.core.replica import Replica
from weave_model.peer import PeerName


def test_a_change_of_one_peer_is_told_by_its_own_document_alone() -> None:
    """The topology was one document of all peers' links, sent whole at each change."""
    cluster = formed(20)
    cluster.network.bytes_by_kind.clear()

    cluster.nodes[3].publish("ring", "4", b"x")
    cluster.run(0.5)

    assert cluster.network.bytes_by_kind["Documents"] < 20 * 19 * 100


def test_the_connection_limit_isolates_nobody() -> None:
    """A late joiner found everybody full and stayed alone."""
    cluster = formed(12, options=MeshOptions(connection_limit=4))
    joiner = cluster.add()

    joiner.start()

    cluster.run_to(cluster.is_converged, within_s=30)
    assert joiner.mesh.status().links >= 1
    assert all(node.mesh.status().links <= 4 for node in cluster.nodes)


def test_a_conflict_never_costs_a_link() -> None:
    """Two states of one document made peers reconnect every few seconds, leaking memory."""
    cluster = formed(4)
    liar, *others = cluster.nodes
    terminated = [node.mesh.status().terminated_connections for node in cluster.nodes]

    for number in range(20):
        document_id = DocumentId("ring", liar.name, "4")
        say(liar, Documents((Document(document_id, 1, 5, b"conflict %d" % number),)))
        cluster.run(1)

    assert [n.mesh.status().terminated_connections for n in cluster.nodes] == terminated
    cluster.run_to(cluster.is_converged, within_s=10)
    assert len({node.mesh.documents("ring")[0].payload for node in others}) == 1


def test_what_waits_for_a_slow_peer_is_bounded_by_what_there_is() -> None:
    """Queues to a slow peer grew until memory was gone."""
    cluster = formed(3, conditions=Conditions(window_bytes=10_000))
    writer, slow, _ = cluster.nodes
    slow.stall(6)

    for number in range(200):
        writer.publish("ring", "4", b"%d" % number + bytes(5000))
        cluster.run(0.02)

    [link] = [link for link in writer.mesh._links if link.peer == slow.name]
    assert len(link.push) <= 3
    cluster.run_to(cluster.is_converged, within_s=15)
    assert slow.mesh.documents("ring")[0].payload.startswith(b"199")


def test_a_peer_that_flaps_changes_nothing_about_others() -> None:
    """Whatever flapped, everything learnt about all peers was thrown away."""
    cluster = formed(6)
    victim, witness, *_ = cluster.nodes
    changed: set[PeerName] = set()

    def note(node: Node, effect: Effect) -> None:
        if isinstance(effect, PeerChanged | PeerRemoved):
            changed.add(effect.peer.name if isinstance(effect, PeerChanged) else effect.name)

    witness.on_effect = note
    for _ in range(3):
        victim.crash(dark=False)
        cluster.run(5)
        victim.start()
        cluster.run(5)

    assert changed == {victim.name}


def test_a_thousand_reconnects_leave_nothing_behind() -> None:
    """Each lost connection leaked, so that a conflict which cost links cost all memory."""
    cluster = formed(2)
    one, _ = cluster.nodes

    def sizes() -> list[int]:
        cluster.run(61)
        found = []
        for node in cluster.nodes:
            parts = node.mesh._parts
            found += [len(parts.links), len(parts.dialler.targets()), parts.dialler.dialling]
            found += [len(parts.exchange._fetching), len(parts.exchange._fetching._queue)]
            found += [len(parts.keeper._instances), len(parts.knowledge.replica)]
        return found

    before = sizes()
    for _ in range(1000):
        # A link that lived for a minute is dialled again at once.
        cluster.run(61)
        for stream in list(one.streams.values()):
            cluster.network.close(stream, "connection reset by peer", None)
            one.lost(stream, "connection reset by peer")

    assert one.mesh.status().terminated_connections >= 1000
    assert sizes() == before


def test_more_peers_fit_than_twelve_bits_can_number() -> None:
    replica = Replica()
    for number in range(1, 5001):
        writer = PeerName(b"\x02" + number.to_bytes(5, "big"))
        replica.merge(Document(DocumentId("peers", writer, ""), 1, 1, b"facts"))

    assert len(replica) == 5000


def test_what_an_idle_peer_says_does_not_grow_with_the_mesh() -> None:
    """All state went to neighbours every 30 s, so each said the more the more there were."""

    def idle_bytes(peers: int) -> float:
        cluster = formed(peers)
        cluster.run(30)
        before = cluster.network.payload_bytes
        cluster.run(20)
        return (cluster.network.payload_bytes - before) / peers

    assert idle_bytes(72) <= 1.4 * idle_bytes(36)
