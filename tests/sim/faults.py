"""Random trouble for a cluster, all of it drawn from the cluster's seed."""

from __future__ import annotations

from collections.abc import Callable

from tests.sim.cluster import Cluster
from tests.sim.liar import Liar
from tests.sim.node import Node
from weave_gossip.core.documents import DocumentId
from weave_gossip.core.errors import InvalidDocument, PeerReachable
from weave_model.peer import PeerName

TOPICS = ("ring", "ipam-space", "endpoints")


class Chaos:
    """Does one random thing every second or so, and remembers what must be true when it is over."""

    def __init__(self, cluster: Cluster) -> None:
        self.cluster = cluster
        self.rng = cluster.rng
        # What the mesh must hold in the end; None: withdrawn.
        self.expected: dict[DocumentId, bytes | None] = {}
        # Whose last writes may be lost with their disk, or were forged.
        self.unsure: set[PeerName] = set()
        self.removed: set[PeerName] = set()
        self.history: list[str] = []
        self.liar: Liar | None = None
        self._writes = 0

    def run(self, seconds: float) -> None:
        """Makes trouble for a while."""
        conditions = self.cluster.conditions
        conditions.loss = self.rng.choice([0.0, 0.01, 0.05])
        conditions.duplication = self.rng.choice([0.0, 0.02])
        conditions.reordering = self.rng.choice([0.0, 0.05])
        conditions.jitter = self.rng.choice([0.0, 0.2, 0.9])
        actions: list[tuple[int, Callable[[], str]]] = [
            (8, self._write),
            (2, self._withdraw),
            (2, self._crash),
            (3, self._restart),
            (1, self._partition),
            (2, self._heal_partition),
            (2, self._cut_one_way),
            (3, self._stall),
            (1, self._jump),
            (1, self._remove),
            (2, self._lie),
        ]
        weights = [weight for weight, _ in actions]
        end = self.cluster.now + seconds
        while self.cluster.now < end:
            self.cluster.run(self.rng.expovariate(1.0))
            [(_, action)] = self.rng.choices(actions, weights)
            done = action()
            if done:
                self.history.append(f"t={self.cluster.now:.3f} {done}")

    def heal(self) -> None:
        """Ends all trouble: paths are whole, and everybody not removed is up."""
        self.cluster.conditions.heal()
        self.liar = None
        for node in self.cluster.nodes:
            if not node.is_up and node.name not in self.removed:
                node.start()

    def find_wrong(self) -> str | None:
        """The first document that is not everywhere as it was last written."""
        for node in self.cluster.live:
            held = {
                document.id: document.payload
                for topic in TOPICS
                for document in node.mesh.documents(topic)
            }
            for document_id, payload in self.expected.items():
                is_gone = document_id.writer in self.removed
                wanted = None if is_gone else payload
                if document_id.writer in self.unsure and not is_gone:
                    continue
                if held.get(document_id) != wanted:
                    found = held.get(document_id)
                    return f"node{node.number}: {document_id} is {found!r}, not {wanted!r}"
        return None

    # One thing each; says what it did, or nothing

    def _write(self) -> str:
        node = self._pick_up()
        self._writes += 1
        payload = b"%d" % self._writes + bytes(self.rng.choice([0, 10, 200, 3000]))
        try:
            document = node.publish(self.rng.choice(TOPICS), self.rng.choice("46"), payload)
        except InvalidDocument:
            # It lied about itself until no document more was its due.
            assert node.name in self.unsure
            return ""
        self.expected[document.id] = payload
        return f"node{node.number} writes {document.id.topic}/{document.id.key} {self._writes}"

    def _withdraw(self) -> str:
        node = self._pick_up()
        own = [each for each in self.expected if each.writer == node.name]
        if not own:
            return ""
        document_id = self.rng.choice(own)
        node.mesh.withdraw(document_id.topic, document_id.key, node.now)
        node.perform()
        self.expected[document_id] = None
        return f"node{node.number} withdraws {document_id.topic}/{document_id.key}"

    def _crash(self) -> str:
        node = self._pick_up()
        if len(self.cluster.live) <= 2 * len(self.cluster.nodes) // 3:
            return ""
        dark = self.rng.random() < 0.5
        lose_state = self.rng.random() < 0.3
        node.crash(dark=dark, lose_state=lose_state)
        if lose_state:
            self.unsure.add(node.name)
        return f"node{node.number} crashes, dark={dark}, loses state={lose_state}"

    def _restart(self) -> str:
        down = [node for node in self.cluster.nodes if not node.is_up]
        if not down:
            return ""
        node = self.rng.choice(down)
        node.start()
        self.removed.discard(node.name)
        return f"node{node.number} starts"

    def _partition(self) -> str:
        groups = self.rng.choice([2, 2, 3])
        conditions = self.cluster.conditions
        conditions.groups.update(
            {node.number: self.rng.randrange(groups) for node in self.cluster.nodes}
        )
        return f"the network splits into {groups}"

    def _heal_partition(self) -> str:
        if not self.cluster.conditions.groups and not self.cluster.conditions.cuts:
            return ""
        self.cluster.conditions.groups.clear()
        self.cluster.conditions.cuts.clear()
        return "all paths are whole"

    def _cut_one_way(self) -> str:
        one, other = self.rng.sample(self.cluster.nodes, 2)
        self.cluster.conditions.cuts.add((one.number, other.number))
        return f"nothing gets from node{one.number} to node{other.number}"

    def _stall(self) -> str:
        node = self._pick_up()
        seconds = self.rng.choice([1.0, 2.0, 2.0, 5.0, 20.0])
        node.stall(seconds)
        return f"node{node.number} stands still for {seconds} s"

    def _jump(self) -> str:
        node = self._pick_up()
        jump = self.rng.choice([-3600.0, -1.0, 1.0, 5.0, 3600.0])
        node.clock_offset += jump
        if node.stalled_until <= self.cluster.now:
            node.mesh.tick(node.now)
            node.perform()
        return f"the clock of node{node.number} jumps by {jump} s"

    def _remove(self) -> str:
        down = [node for node in self.cluster.nodes if not node.is_up]
        if not down:
            return ""
        victim = self.rng.choice(down)
        remover = self._pick_up()
        try:
            remover.mesh.remove_peer(victim.name, remover.now)
        except PeerReachable:
            return ""
        remover.perform()
        # What the remover has not seen of the victim, it does not remove.
        self.unsure.add(victim.name)
        return f"node{remover.number} removes node{victim.number}"

    def _lie(self) -> str:
        if self.liar is None:
            self.liar = Liar(self._pick_up(), self.rng)
        return self.liar.lie(self.cluster, self.unsure)

    def _pick_up(self) -> Node:
        return self.rng.choice(self.cluster.live)
