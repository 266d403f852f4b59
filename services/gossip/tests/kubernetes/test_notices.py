"""When an operator is told of something, and when not."""

from __future__ import annotations

from weave_gossip.kubernetes.notices import (
    NOT_READY_FOR_S,
    UNREACHED_FOR_S,
    Notices,
    Sight,
)
from weave_model.peer import PeerName

PEER = PeerName(bytes([0, 0, 0, 0, 0, 9]))
WELL = Sight("")


def reasons(notices: Notices, sight: Sight, now: float) -> list[str]:
    return [notice.reason for notice in notices.look(sight, now)]


def test_readiness_is_told_once() -> None:
    notices = Notices()

    assert reasons(notices, WELL, 0) == ["WeaveReady"]
    assert reasons(notices, WELL, 1) == []


def test_a_restart_of_a_service_is_no_news() -> None:
    notices = Notices()
    notices.look(WELL, 0)

    assert reasons(notices, Sight("gossip is away"), 10) == []
    assert reasons(notices, WELL, 10 + NOT_READY_FOR_S / 2) == []


def test_a_node_that_stays_unready_is_told_with_the_reason_and_its_recovery() -> None:
    notices = Notices()
    notices.look(WELL, 0)
    notices.look(Sight("no space"), 1)

    (told,) = notices.look(Sight("no space left"), 1 + NOT_READY_FOR_S)

    assert (told.reason, told.is_warning) == ("WeaveNotReady", True)
    assert told.message.endswith("no space left")
    assert reasons(notices, Sight("no space left"), 500) == []
    assert reasons(notices, WELL, 501) == ["WeaveReady"]


def test_nodes_out_of_reach_are_told_together_after_a_while() -> None:
    notices = Notices()
    notices.look(WELL, 0)
    lost = Sight("", unreached={f"n{i}": "" for i in range(7)})
    notices.look(lost, 1)

    assert reasons(notices, lost, UNREACHED_FOR_S) == []
    (told,) = notices.look(lost, 1 + UNREACHED_FOR_S)
    assert "n0, n1, n2, n3, n4 and 2 more" in told.message
    assert "6783" in told.message
    assert reasons(notices, lost, 900) == []


def test_a_node_out_of_reach_again_is_told_again() -> None:
    notices = Notices()
    notices.look(WELL, 0)
    lost = Sight("", unreached={"b": "connection refused"})
    for start in (100.0, 300.0):
        notices.look(lost, start)
        (told,) = notices.look(lost, start + UNREACHED_FOR_S)
        assert "connection refused" in told.message
        notices.look(WELL, start + UNREACHED_FOR_S + 1)


def test_a_departure_is_told_once_by_the_same_key_everywhere() -> None:
    gone = Sight("", departed={PEER: "node3"})
    told = []
    for _ in range(2):
        notices = Notices()
        notices.look(WELL, 0)
        told += notices.look(gone, 1)
        assert notices.look(gone, 2) == []

    assert [notice.reason for notice in told] == ["WeaveNodeDeparted"] * 2
    assert told[0] == told[1]
    assert told[0].key
    assert "node3" in told[0].message


def test_who_had_departed_before_this_process_began_is_no_news() -> None:
    assert reasons(Notices(), Sight("", departed={PEER: "node3"}), 0) == ["WeaveReady"]
