"""What is remembered of failures: for a while, and no more than so much."""

from __future__ import annotations

import pytest

from services.gossip.tests.shell.conftest import peer_name
from weave_gossip.core.messages import Refusal, RefusalCode
from weave_gossip.failures import MAX_LOST, MAX_REFUSED, SHOWN_S, Failures

WRONG = Refusal(RefusalCode.SECRET_WRONG, "wrong secret")
SILENT = Refusal(RefusalCode.TIMEOUT, "nothing received for 8 s")


class Time:
    now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def time() -> Time:
    return Time()


@pytest.fixture
def failures(time: Time) -> Failures:
    return Failures(time)


def test_of_each_host_the_newest_refusal_is_shown_for_a_while(
    failures: Failures, time: Time
) -> None:
    for port in (1, 2):
        assert failures.refused("10.0.0.9", f"10.0.0.9:{port}", WRONG, "wrong secret")

    [shown] = failures.refused_inbound()
    assert (shown.address, shown.reason) == ("10.0.0.9:2", "wrong secret")
    time.now += SHOWN_S + 1
    assert failures.refused_inbound() == []


def test_a_link_with_the_host_ends_its_refusals(failures: Failures) -> None:
    """By whichever of its addresses it came."""
    failures.refused("10.0.0.9", "10.0.0.9:1", WRONG, "wrong secret")
    failures.refused("[fd00::9]", "[fd00::9]:1", WRONG, "wrong secret")

    failures.accepted(["10.0.0.9", "[fd00::9]"])

    assert failures.refused_inbound() == []


@pytest.mark.parametrize("code", [RefusalCode.DUPLICATE, RefusalCode.UNSPECIFIED])
def test_what_is_usual_is_not_shown(failures: Failures, code: RefusalCode) -> None:
    assert not failures.refused("10.0.0.9", "10.0.0.9:1", Refusal(code, "why"), "why")
    assert failures.refused_inbound() == []


def test_why_a_link_ended_is_shown_for_a_while(failures: Failures, time: Time) -> None:
    failures.lost(peer_name(1), SILENT)

    assert failures.of(peer_name(1)) == "nothing received for 8 s"
    assert failures.of(peer_name(2)) == ""
    time.now += SHOWN_S + 1
    assert failures.of(peer_name(1)) == ""


@pytest.mark.parametrize("code", [RefusalCode.DUPLICATE, RefusalCode.SHED])
def test_a_link_given_up_on_purpose_is_no_failure(failures: Failures, code: RefusalCode) -> None:
    failures.lost(peer_name(1), Refusal(code, "another one leads there"))

    assert failures.of(peer_name(1)) == ""


def test_strangers_fill_no_memory(failures: Failures) -> None:
    for number in range(MAX_REFUSED + 5):
        failures.refused(f"10.0.0.{number}", f"10.0.0.{number}:1", WRONG, "wrong secret")
    for number in range(MAX_LOST + 5):
        failures.lost(peer_name(number), SILENT)

    assert failures.refused_inbound()[0].address == "10.0.0.5:1"
    assert len(failures.refused_inbound()) == MAX_REFUSED
    assert failures.of(peer_name(4)) == ""
    assert failures.of(peer_name(5)) == "nothing received for 8 s"
