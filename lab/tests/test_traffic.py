"""Counting what ping printed."""

from __future__ import annotations

import pytest

from weave_lab import transfer
from weave_lab.errors import LabError
from weave_lab.traffic import count


def ping_output(received: list[int], sent: int) -> str:
    lines = [f"64 bytes from 10.32.0.1: icmp_seq={n} ttl=62 time=0.1 ms" for n in received]
    summary = f"{sent} packets transmitted, {len(received)} received, 0% packet loss, time 1ms"
    return "\n".join([*lines, "", "--- 10.32.0.1 ping statistics ---", summary])


def test_no_loss() -> None:
    result = count("a", "b", ping_output([1, 2, 3], 3))

    assert (result.sent, result.lost, result.longest_gap) == (3, 0, 0)


def test_gaps_are_counted() -> None:
    result = count("a", "b", ping_output([1, 4, 5, 7], 7))

    assert (result.lost, result.longest_gap) == (3, 2)


def test_the_last_packet_may_still_be_on_its_way() -> None:
    assert count("a", "b", ping_output([1, 2], 3)).lost == 0


def test_silence_at_the_end_is_loss() -> None:
    result = count("a", "b", ping_output([1, 2], 10))

    assert (result.lost, result.longest_gap) == (7, 7)


def test_a_duplicate_does_not_make_up_for_a_loss() -> None:
    assert count("a", "b", ping_output([1, 1, 3], 3)).lost == 1


def test_an_answer_of_the_network_is_no_answer_of_the_pod() -> None:
    output = "From 10.32.0.9 icmp_seq=1 Destination Host Unreachable\n" + ping_output([2], 2)

    assert count("a", "b", output).lost == 1


def test_no_answer_at_all_is_an_error() -> None:
    with pytest.raises(LabError, match="no packet came back from b to a"):
        count("a", "b", ping_output([], 5))


def test_an_unknown_command_of_transfer_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    assert transfer.main(["send"]) == 2
    assert capsys.readouterr().err.startswith("usage:")
