"""Five peers under whatever Hypothesis thinks of; healed, they must agree on the last writes."""

from __future__ import annotations

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, rule

from tests.sim.cluster import Cluster
from tests.sim.invariants import Watchman
from weave_gossip.core.documents import DocumentId

PEERS = 5
AGREE_WITHIN_S = 120.0

nodes = st.integers(0, PEERS - 1)


class MeshMachine(RuleBasedStateMachine):
    """Writes, loss, cuts, crashes, standstills, clock jumps; the invariants hold throughout."""

    @initialize(seed=st.integers(0, 1000))
    def start(self, seed: int) -> None:
        self.cluster = Cluster(PEERS, seed)
        self.expected: dict[DocumentId, bytes | None] = {}
        Watchman(self.cluster, connection_limit=30)
        self.cluster.start()

    @rule(number=nodes, key=st.sampled_from("46"), payload=st.binary(max_size=8))
    def publish(self, number: int, key: str, payload: bytes) -> None:
        node = self.cluster.nodes[number]
        if node.is_up:
            self.expected[node.publish("ring", key, payload).id] = payload

    @rule(number=nodes, key=st.sampled_from("46"))
    def withdraw(self, number: int, key: str) -> None:
        node = self.cluster.nodes[number]
        if node.is_up:
            node.mesh.withdraw("ring", key, node.now)
            node.perform()
            self.expected[DocumentId("ring", node.name, key)] = None

    @rule(one=nodes, other=nodes)
    def cut(self, one: int, other: int) -> None:
        self.cluster.conditions.cuts.add((one, other))

    @rule(share=st.sampled_from([0.0, 0.1, 0.5]))
    def disturb(self, share: float) -> None:
        conditions = self.cluster.conditions
        conditions.loss = conditions.duplication = conditions.reordering = share

    @rule(number=nodes, dark=st.booleans())
    def crash_or_restart(self, number: int, dark: bool) -> None:
        node = self.cluster.nodes[number]
        if node.is_up:
            node.crash(dark=dark)
        else:
            node.start()

    @rule(number=nodes, seconds=st.sampled_from([-60.0, 60.0]))
    def jump_clock(self, number: int, seconds: float) -> None:
        self.cluster.nodes[number].clock_offset += seconds

    @rule(number=nodes, seconds=st.sampled_from([0.5, 2.0, 9.0]))
    def stand_still(self, number: int, seconds: float) -> None:
        self.cluster.nodes[number].stall(seconds)

    @rule(seconds=st.sampled_from([0.01, 1.0, 10.0]))
    def wait(self, seconds: float) -> None:
        self.cluster.run(seconds)

    def teardown(self) -> None:
        if not hasattr(self, "cluster"):
            return
        self.cluster.conditions.heal()
        for node in self.cluster.nodes:
            if not node.is_up:
                node.start()
        self.cluster.run_to(self.cluster.is_converged, within_s=AGREE_WITHIN_S, every_s=1.0)
        wanted = {each: payload for each, payload in self.expected.items() if payload is not None}
        for node in self.cluster.nodes:
            held = {document.id: document.payload for document in node.mesh.documents("ring")}
            assert held == wanted


TestMesh = MeshMachine.TestCase
TestMesh.settings = settings(max_examples=25, stateful_step_count=20)
