"""The simulator catches what it is for: a core with a defect planted in it fails in few seeds."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tests.sim import __main__ as command
from tests.sim.trouble import run_trouble
from weave_gossip.core.authorship import Authorship
from weave_gossip.core.documents import Document
from weave_gossip.core.effects import Effect, PersistDocument
from weave_gossip.core.fetching import Fetching
from weave_gossip.core.links import LinkState
from weave_gossip.core.outbox import Outbox
from weave_gossip.core.overlay import Overlay
from weave_gossip.core.repair import Repair
from weave_gossip.core.replica import Merged, Replica
from weave_gossip.core.topology import Topology
from weave_model.peer import PeerName

pytestmark = pytest.mark.sim

SEEDS = range(1, 6)
PEERS = 6
SECONDS = 25.0


def the_last_to_arrive_wins(monkeypatch: pytest.MonkeyPatch) -> None:
    def merge(self: Replica, document: Document, *, must_fit: bool = False) -> Merged:
        held = self.get(document.id)
        if held is not None and held.fingerprint == document.fingerprint:
            return Merged.SAME
        self._capacity.take(document, held, must=True)
        self._put(document, held)
        return Merged.NEWER

    monkeypatch.setattr(Replica, "merge", merge)


def nobody_compares_digests(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Repair, "compare", lambda self, link, state_digest, now: None)


def nobody_asks_for_what_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Fetching, "learn", lambda self, link, versions, *, at_once, now: None)


def silent_links_are_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(LinkState, "drop_due", lambda self: float("inf"))


def a_lost_link_leaves_the_tree_as_it_was(monkeypatch: pytest.MonkeyPatch) -> None:
    def unlink(self: Topology, one: PeerName, other: PeerName) -> None:
        for here, there in ((one, other), (other, one)):
            self._neighbours[here].pop(there)

    monkeypatch.setattr(Topology, "_unlink", unlink)


def documents_are_sent_before_they_are_stored(monkeypatch: pytest.MonkeyPatch) -> None:
    put = Outbox.put

    def late(self: Outbox, effect: Effect) -> None:
        if not isinstance(effect, PersistDocument):
            put(self, effect)

    monkeypatch.setattr(Outbox, "put", late)


def a_lost_life_is_not_outlived(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Authorship, "dispute", lambda self, seen: None)


def a_split_is_never_mended(monkeypatch: pytest.MonkeyPatch) -> None:
    def dial(self: Overlay, now: float) -> tuple[list[object], float]:
        return [], float("inf")

    monkeypatch.setattr(Overlay, "dial", dial)


def run_seeds() -> None:
    for seed in SEEDS:
        run_trouble(seed, peers=PEERS, seconds=SECONDS)


@pytest.mark.parametrize(
    "plant",
    [
        the_last_to_arrive_wins,
        nobody_compares_digests,
        nobody_asks_for_what_is_missing,
        silent_links_are_kept,
        a_lost_link_leaves_the_tree_as_it_was,
        documents_are_sent_before_they_are_stored,
        a_lost_life_is_not_outlived,
        a_split_is_never_mended,
    ],
    ids=lambda plant: plant.__name__,
)
def test_a_planted_defect_is_caught(
    plant: Callable[[pytest.MonkeyPatch], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    plant(monkeypatch)

    with pytest.raises(AssertionError, match="seed"):
        run_seeds()


def test_the_command_fails_with_a_seed_to_replay(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    documents_are_sent_before_they_are_stored(monkeypatch)

    code = command.main(["--seed", "5", "--seeds", "2", "--peers", "4", "--seconds", "5"])

    assert code == 1
    assert "replay: make sim SEED=5 SEEDS=1" in capsys.readouterr().out
