"""The one rule that judges two greetings."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from weave_gossip.codec.handshake import decode_greeting, encode_greeting
from weave_gossip.core.messages import Refusal, RefusalCode
from weave_gossip.link.greeting import Agreement, Greeting, greeting_digest, judge

PLAIN = Greeting()
OLD, NEW = b"old key!", b"new key!"

greetings = st.builds(
    Greeting,
    magic=st.sampled_from([PLAIN.magic, 7]),
    min_protocol=st.integers(0, 3),
    max_protocol=st.integers(0, 3),
    cluster_id=st.sampled_from(["", "a"]),
    key_ids=st.lists(st.sampled_from([OLD, NEW, b"third"]), unique=True, max_size=3).map(tuple),
    nonce=st.binary(max_size=16),
)


@given(greetings, greetings)
def test_both_sides_come_to_the_same_agreement(one: Greeting, other: Greeting) -> None:
    here, there = judge(one, other), judge(other, one)

    both_suit = one.magic == other.magic == PLAIN.magic
    if (
        both_suit
        and one.min_protocol <= one.max_protocol
        and other.min_protocol <= other.max_protocol
    ):
        assert isinstance(here, Agreement) == isinstance(there, Agreement)
    if isinstance(here, Agreement) and isinstance(there, Agreement):
        assert here == there


@given(greetings)
def test_a_greeting_survives_the_wire(greeting: Greeting) -> None:
    assert decode_greeting(encode_greeting(greeting)) == greeting


def test_the_lower_of_the_two_newest_versions_is_spoken() -> None:
    mine = replace(PLAIN, min_protocol=1, max_protocol=3)
    theirs = replace(PLAIN, min_protocol=2, max_protocol=7)

    assert judge(mine, theirs) == Agreement(protocol=3, key_id=None)


@pytest.mark.parametrize(
    ("mine", "theirs", "code", "reason"),
    [
        (
            PLAIN,
            replace(PLAIN, magic=1),
            RefusalCode.NOT_WEAVE,
            "does not speak the weave protocol",
        ),
        (
            replace(PLAIN, min_protocol=2, max_protocol=3),
            PLAIN,
            RefusalCode.PROTOCOL,
            "no common protocol version: here 2..3, there 1..1",
        ),
        (
            replace(PLAIN, cluster_id="red"),
            replace(PLAIN, cluster_id="blue"),
            RefusalCode.CLUSTER,
            "another cluster: here 'red', there 'blue'",
        ),
        (
            replace(PLAIN, key_ids=(NEW,)),
            PLAIN,
            RefusalCode.SECRET_MISSING,
            "no secret there, but one is set here",
        ),
        (
            PLAIN,
            replace(PLAIN, key_ids=(NEW,)),
            RefusalCode.SECRET_UNWANTED,
            "no secret here, but one is set there",
        ),
        (
            replace(PLAIN, key_ids=(NEW,)),
            replace(PLAIN, key_ids=(OLD,)),
            RefusalCode.SECRET_WRONG,
            "wrong secret",
        ),
        (
            PLAIN,
            replace(PLAIN, min_protocol=4, max_protocol=3),
            RefusalCode.MALFORMED,
            "the greeting contradicts itself",
        ),
    ],
)
def test_a_refusal_names_its_reason(
    mine: Greeting, theirs: Greeting, code: RefusalCode, reason: str
) -> None:
    refusal = judge(mine, theirs)

    assert isinstance(refusal, Refusal)
    assert refusal.code is code
    assert reason in refusal.reason


def test_a_rotation_meets_on_the_old_key_then_on_the_new() -> None:
    untouched = replace(PLAIN, key_ids=(OLD,))
    rotating = replace(PLAIN, key_ids=(NEW, OLD))
    finished = replace(PLAIN, key_ids=(NEW,))

    assert judge(rotating, untouched) == Agreement(1, OLD)
    assert judge(rotating, rotating) == Agreement(1, NEW)
    assert judge(rotating, finished) == Agreement(1, NEW)


def test_two_keys_in_opposite_order_meet_on_the_same_one() -> None:
    one = replace(PLAIN, key_ids=(NEW, OLD))
    other = replace(PLAIN, key_ids=(OLD, NEW))

    assert judge(one, other) == judge(other, one)


def test_the_digest_tells_the_two_directions_apart() -> None:
    assert greeting_digest(b"a", b"b") != greeting_digest(b"b", b"a")
