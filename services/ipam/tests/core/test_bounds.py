"""What others say is bounded before it is looked at: no document makes a peer work without end."""

from __future__ import annotations

import pytest

import weave_ipam.core.view
from weave_ipam.core.documents import AcceptorState, Ballot
from weave_ipam.core.genesis import MAX_SEEDS, differing
from weave_ipam.core.paxos import MAX_ROUND, acceptor_fault
from weave_ipam.core.view import document_fault
from weave_model.peer import PeerName
from weave_model.prefix import Prefix
from weave_model.ring import Block, Genesis, RingDocument

RANGE = Prefix.parse("10.0.0.0/16")


def names(count: int) -> tuple[PeerName, ...]:
    return tuple(PeerName(bytes([2, 0, 0, 0, n // 256, n % 256])) for n in range(count))


def test_a_document_with_too_many_blocks_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(weave_ipam.core.view, "MAX_CLAIMS", 1)
    blocks = tuple(Block(half, 0) for half in RANGE.halves())

    assert document_fault(RANGE, RingDocument(RANGE, Genesis(names(1)), blocks[:1])) is None
    fault = document_fault(RANGE, RingDocument(RANGE, Genesis(names(1)), blocks))
    assert fault == "2 blocks, grants, receipts and debts are more than 1"


def test_a_document_with_too_many_seeds_is_none() -> None:
    many = Genesis(names(MAX_SEEDS + 1))

    assert document_fault(RANGE, RingDocument(RANGE, Genesis(names(MAX_SEEDS)))) is None
    fault = document_fault(RANGE, RingDocument(RANGE, many))
    assert fault == f"{MAX_SEEDS + 1} seeds are more than {MAX_SEEDS}"


def test_a_vote_with_a_round_or_seeds_out_of_bounds_is_none() -> None:
    me = names(1)[0]
    ballot = Ballot(1, me)
    late = AcceptorState(promised=Ballot(MAX_ROUND, me))
    wide = AcceptorState(ballot, ballot, Genesis(names(MAX_SEEDS + 1)))

    assert acceptor_fault(AcceptorState(ballot, ballot, Genesis(names(1)))) is None
    assert acceptor_fault(late) == f"round {MAX_ROUND} is out of bounds"
    assert acceptor_fault(wide) == f"{MAX_SEEDS + 1} seeds are more than {MAX_SEEDS}"


def test_a_vote_that_contradicts_itself_is_none() -> None:
    me = names(1)[0]
    lower, higher = Ballot(1, me), Ballot(2, me)
    value = Genesis(names(1))

    for without in (AcceptorState(lower, lower, None), AcceptorState(lower, None, value)):
        assert "without a" in str(acceptor_fault(without))
    for unpromised in (AcceptorState(None, lower, value), AcceptorState(lower, higher, value)):
        fault = acceptor_fault(unpromised)
        assert fault == "the accepted ballot is greater than the promised one"


def test_a_long_list_of_seeds_is_cut_in_what_is_said() -> None:
    text = differing(Genesis(names(1)), Genesis(names(100)))

    assert text.endswith(" and 92 more])")
