"""Documents and messages keep their meaning on the wire; bytes without meaning do no harm."""

import contextlib
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.ipam.tests import strategies as own
from weave.ipam.v1 import ring_pb2
from weave_ipam import wire
from weave_ipam.codec import prefix_to_proto
from weave_ipam.core.advice import MAX_ADVICE
from weave_ipam.core.documents import (
    TOPIC_PAXOS,
    TOPIC_RING,
    TOPIC_SPACE,
    AcceptorState,
    Ballot,
    Message,
    SpaceAdvice,
    SpaceDenied,
    Unreadable,
)
from weave_ipam.core.fences import Fence
from weave_model.peer import PeerName
from weave_model.prefix import Prefix
from weave_model.ring import Genesis, RingDocument

TOPICS = st.sampled_from([TOPIC_RING, TOPIC_PAXOS, TOPIC_SPACE, "other"])


@given(own.ring_documents)
def test_a_ring_document_comes_back(document: RingDocument) -> None:
    assert wire.decode_document(TOPIC_RING, wire.encode_document(document)) == document


@given(own.acceptor_states)
def test_an_acceptor_comes_back(state: AcceptorState) -> None:
    assert wire.decode_document(TOPIC_PAXOS, wire.encode_document(state)) == state


@given(own.messages)
def test_a_message_comes_back(message: Message) -> None:
    assert wire.decode_message(wire.encode_message(message)) == message


@given(own.fences)
def test_a_fence_comes_back(fence: Fence) -> None:
    assert wire.fence_from_proto(wire.fence_to_proto(fence)) == fence


@given(own.geneses)
def test_a_genesis_comes_back(genesis: Genesis) -> None:
    assert wire.decode_genesis(wire.encode_genesis(genesis)) == genesis


def test_advice_is_cut_to_what_the_wire_holds() -> None:
    payload = wire.encode_document(SpaceAdvice(1 << 120))

    assert wire.decode_document(TOPIC_SPACE, payload) == SpaceAdvice(MAX_ADVICE)


@given(TOPICS, st.binary(max_size=200))
def test_no_bytes_raise_anything(topic: str, payload: bytes) -> None:
    wire.decode_document(topic, payload)


@given(st.binary(max_size=200))
def test_messages_raise_nothing_but_value_errors(payload: bytes) -> None:
    with contextlib.suppress(ValueError):
        wire.decode_message(payload)


@pytest.mark.parametrize(
    "document",
    [
        ring_pb2.RingDocument(),
        ring_pb2.RingDocument(
            universe=prefix_to_proto(Prefix.parse("10.0.0.0/8")),
            genesis=ring_pb2.Genesis(seeds=[b"\x02" * 6, b"\x01" * 6]),
        ),
        ring_pb2.RingDocument(
            universe=prefix_to_proto(Prefix.parse("10.0.0.0/8")),
            genesis=ring_pb2.Genesis(seeds=[b"short"]),
        ),
    ],
)
def test_a_document_that_no_value_can_hold_is_unreadable(document: ring_pb2.RingDocument) -> None:
    value = wire.decode_document(TOPIC_RING, document.SerializeToString())

    assert isinstance(value, Unreadable)
    assert value.reason


def test_a_ballot_without_its_value_is_unreadable() -> None:
    ballot = ring_pb2.Ballot(round=1, proposer=b"\x01" * 6)
    payload = ring_pb2.PaxosState(accepted=ballot).SerializeToString()

    assert isinstance(wire.decode_document(TOPIC_PAXOS, payload), Unreadable)


def test_a_promise_alone_is_readable() -> None:
    ballot = Ballot(1, PeerName(b"\x01" * 6))

    assert wire.decode_acceptor(wire.encode_acceptor(AcceptorState(ballot))).promised == ballot


def test_a_message_of_a_newer_kind_is_passed_over() -> None:
    assert wire.decode_message(b"") is None


def test_a_reason_is_cut() -> None:
    message = SpaceDenied(Prefix.parse("10.0.0.0/8"), "x" * 10_000)

    decoded = wire.decode_message(wire.encode_message(message))

    assert isinstance(decoded, SpaceDenied)
    assert len(decoded.reason) == wire.MAX_REASON


def test_a_vote_says_for_which_range_it_is() -> None:
    """It is no part of the vote, so equality does not see it. Older voters do not say it."""
    state = AcceptorState(Ballot(1, PeerName(b"\x02" * 6)))
    universe = Prefix.parse("fd00::/64")

    said = wire.decode_acceptor(wire.encode_acceptor(replace(state, universe=universe)))

    assert said.universe == universe
    assert wire.decode_acceptor(wire.encode_acceptor(state)).universe is None
