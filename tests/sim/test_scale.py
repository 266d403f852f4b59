"""The scenario table says what it measured, and the command fails when a row is missed."""

from __future__ import annotations

import pytest

from tests.sim import scale
from tests.sim.test_mutants import documents_are_sent_before_they_are_stored
from weave_gossip.core import links

pytestmark = pytest.mark.sim

FEW = ["--seed", "3", "--peers", "34", "--only", "measure_crash"]


def test_a_table_whose_rows_are_reached_is_success(capsys: pytest.CaptureFixture[str]) -> None:
    assert scale.main([*FEW, "--seeds", "2"]) == 0

    printed = capsys.readouterr().out
    assert "seed 3, 34 peers" in printed
    assert "seed 4, 34 peers" in printed
    assert "| crash of a peer: noticed by all | <= 10 s |" in printed
    assert "missed" not in printed


def test_a_row_that_is_missed_fails_with_a_seed_to_replay(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(links, "DROP_AFTER_S", 12.0)

    assert scale.main(FEW) == 1

    printed = capsys.readouterr().out
    assert "**missed**" in printed
    assert "replay: make sim-scale SEED=3 SEEDS=1" in printed


def test_an_invariant_that_is_broken_fails_too(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    documents_are_sent_before_they_are_stored(monkeypatch)

    assert scale.main(FEW) == 1

    printed = capfd.readouterr()
    assert "crashed" in printed.out
    assert "before it is stored" in printed.err
