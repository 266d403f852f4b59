"""Back-off: how long each address waits after each failure."""

from __future__ import annotations

from random import Random

import pytest

from weave_gossip.core.dialling import DIAL_BURST, LONGEST_INTERVAL_S, NEVER, Dialler
from weave_gossip.core.messages import Refusal, RefusalCode
from weave_model.peer import PeerName

ADDRESS = "10.0.0.2:6783"
PEER = PeerName(b"\x02\x00\x00\x00\x00\x02")
REFUSED = Refusal(RefusalCode.UNSPECIFIED, "connection refused")


def dialler() -> Dialler:
    return Dialler(Random(1), [ADDRESS], 0.0)


def fail(made: Dialler, now: float, refusal: Refusal = REFUSED) -> float:
    """One failed dial; returns the wait until the next."""
    made.dial(ADDRESS)
    made.failed(ADDRESS, refusal, now)
    return made.target(ADDRESS).next_try - now


def test_waits_grow_by_half_from_two_seconds_with_jitter() -> None:
    made = dialler()

    for expected in (2.0, 3.0, 4.5, 6.75):
        assert 0.5 * expected <= fail(made, 100.0) <= 1.5 * expected


def test_waits_end_at_six_minutes() -> None:
    made = dialler()

    waits = [fail(made, 0.0) for _ in range(40)]

    assert max(waits) <= 1.5 * LONGEST_INTERVAL_S
    assert made.target(ADDRESS).interval_s == LONGEST_INTERVAL_S


@pytest.mark.parametrize("code", [RefusalCode.SELF, RefusalCode.NAME_COLLISION])
def test_what_no_retry_can_change_is_never_retried_until_connect(code: RefusalCode) -> None:
    made = dialler()

    assert fail(made, 0.0, Refusal(code, "no")) == NEVER
    made.encourage(ADDRESS, 1.0)
    assert made.target(ADDRESS).next_try == NEVER
    made.connect([ADDRESS], replace=False)
    assert made.target(ADDRESS).next_try < 0


@pytest.mark.parametrize(("lived_s", "resets"), [(61.0, True), (59.0, False)])
def test_a_link_that_lived_a_minute_clears_the_back_off(lived_s: float, *, resets: bool) -> None:
    made = dialler()
    for _ in range(5):
        fail(made, 0.0)
    made.dial(ADDRESS)
    made.connected(ADDRESS, PEER)

    made.lost(ADDRESS, "connection reset", lived_s, 100.0)

    assert (made.target(ADDRESS).next_try == 100.0) == resets
    assert (made.target(ADDRESS).interval_s == 2.0) == resets


def test_a_newer_dial_has_a_greater_epoch_than_any_seen() -> None:
    made = dialler()
    made.saw_epoch(41)

    assert made.dial(ADDRESS).epoch == 42


def test_a_liar_cannot_use_up_the_epochs() -> None:
    made = dialler()
    made.saw_epoch((1 << 64) - 1)

    assert made.dial(ADDRESS).epoch == 1


def test_a_thousand_addresses_are_not_dialled_in_one_go() -> None:
    made = Dialler(Random(1), [], 0.0)
    dialled = 0
    while made.may_dial_at(0.0) <= 0.0:
        made.dial(f"10.0.0.{dialled}:6783")
        dialled += 1

    assert dialled == DIAL_BURST
    assert 0.0 < made.may_dial_at(0.0) <= 0.1


def test_replacing_targets_drops_the_others() -> None:
    made = dialler()

    made.connect(["10.0.0.3:6783"], replace=True)

    assert list(made.direct) == ["10.0.0.3:6783"]


def test_hints_are_bounded_and_used_once() -> None:
    made = dialler()
    made.hint(f"10.0.1.{number}:6783" for number in range(100))

    assert len(made.hints) == 64
    made.dial("10.0.1.99:6783")
    assert "10.0.1.99:6783" not in made.hints


def test_addresses_that_lead_to_nobody_known_are_dropped_but_for_targets_and_dials() -> None:
    made = dialler()
    for address in (ADDRESS, "10.0.0.3:6783", "10.0.0.4:6783", "10.0.0.5:6783"):
        made.target(address)
    made.dial("10.0.0.4:6783")

    made.retain({"10.0.0.3:6783"})

    kept = [target.address for target in made.targets()]
    assert kept == [ADDRESS, "10.0.0.3:6783", "10.0.0.4:6783"]


def test_what_is_said_of_dials_and_addresses_that_are_gone_changes_nothing() -> None:
    made = dialler()

    made.identified(99, PEER)
    made.lost("10.0.9.9:6783", "connection reset", 1.0, 0.0)

    assert made.targets() == []
