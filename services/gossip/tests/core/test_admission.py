"""Who may have a link: the checks and their order."""

from __future__ import annotations

from dataclasses import replace

import pytest

from weave_gossip.core.admission import Judgement, Liveness, PresentLink, judge_hello
from weave_gossip.core.messages import Hello, RefusalCode
from weave_model.peer import PeerName

A = PeerName(b"\x02\x00\x00\x00\x00\x0a")
B = PeerName(b"\x02\x00\x00\x00\x00\x0b")
OWN = Hello(A, "a", 1, b"own", 6783, universes=("10.32.0.0/12", "fd00::/48"))
THEIRS = Hello(B, "b", 5, b"one", 6783, link_epoch=7, universes=("10.32.0.0/12",))
LINK = PresentLink(incarnation=5, instance=b"one", nickname="b", precedence=(7, A))


def judge(
    theirs: Hello = THEIRS,
    *,
    precedence: tuple[int, PeerName] = (7, B),
    present: PresentLink | None = None,
    has_room: bool = True,
) -> Judgement:
    return judge_hello(
        own=OWN,
        theirs=theirs,
        precedence=precedence,
        present=present,
        has_room=has_room,
        connection_limit=30,
    )


def code(judgement: Judgement) -> RefusalCode | None:
    return None if judgement.refusal is None else judgement.refusal.code


def test_a_stranger_is_accepted() -> None:
    assert judge() == Judgement()


def test_ourselves_are_refused_by_the_name_a_weave_user_knows() -> None:
    judgement = judge(OWN)

    assert judgement.refusal is not None
    assert judgement.refusal.code is RefusalCode.SELF
    assert judgement.refusal.reason == "cannot connect to ourself"


def test_another_machine_with_our_name_collides() -> None:
    assert code(judge(replace(OWN, instance=b"other"))) is RefusalCode.NAME_COLLISION


@pytest.mark.parametrize(
    ("precedence", "expected"),
    [
        ((8, A), None),
        ((7, B), None),
        ((7, A), RefusalCode.DUPLICATE),
        ((6, B), RefusalCode.DUPLICATE),
    ],
)
def test_of_two_links_of_one_life_the_newer_dial_wins_then_the_greater_name(
    precedence: tuple[int, PeerName], expected: RefusalCode | None
) -> None:
    assert code(judge(precedence=precedence, present=LINK)) is expected


@pytest.mark.parametrize(
    ("incarnation", "expected"),
    [(6, RefusalCode.DUPLICATE), (4, RefusalCode.STALE_INCARNATION)],
)
def test_another_life_waits_until_the_present_one_is_challenged(
    incarnation: int, expected: RefusalCode
) -> None:
    judgement = judge(replace(THEIRS, instance=b"two", incarnation=incarnation), present=LINK)

    assert code(judgement) is expected
    assert judgement.challenge


def test_another_life_beside_one_that_answers_is_another_machine() -> None:
    answering = replace(LINK, liveness=Liveness.ANSWERED)

    judgement = judge(replace(THEIRS, instance=b"two", incarnation=6), present=answering)

    assert code(judgement) is RefusalCode.NAME_COLLISION
    assert not judgement.challenge


@pytest.mark.parametrize(
    ("universes", "fits"),
    [
        ((), True),
        (("fd00::/48",), True),
        (("10.40.0.0/13",), False),
        (("10.32.0.0/12", "fd01::/48"), False),
    ],
)
def test_universes_must_be_equal_per_family_where_both_have_one(
    universes: tuple[str, ...], *, fits: bool
) -> None:
    judgement = judge(replace(THEIRS, universes=universes))

    assert code(judgement) is (None if fits else RefusalCode.UNIVERSE)


def test_without_room_the_limit_is_named() -> None:
    judgement = judge(has_room=False)

    assert judgement.refusal is not None
    assert judgement.refusal.reason == "Connection limit reached (30)"


def test_a_link_that_replaces_another_needs_no_room() -> None:
    assert judge(precedence=(9, B), present=LINK, has_room=False) == Judgement()
