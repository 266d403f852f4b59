"""Targets as people write them."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from weave_gossip.target import Target, parse_target


@pytest.mark.parametrize(
    ("text", "target", "shown"),
    [
        ("10.0.0.2", Target("10.0.0.2", 6783), "10.0.0.2:6783"),
        ("10.0.0.2:99", Target("10.0.0.2", 99), "10.0.0.2:99"),
        ("fd00::2", Target("fd00::2", 6783), "[fd00::2]:6783"),
        ("[FD00::0:2]:99", Target("fd00::2", 99), "[fd00::2]:99"),
        ("[fd00::2]", Target("fd00::2", 6783), "[fd00::2]:6783"),
        ("node-1.example.", Target("node-1.example.", 6783), "node-1.example.:6783"),
        (" node_1:7 ", Target("node_1", 7), "node_1:7"),
    ],
)
def test_a_target_is_read_and_shown(text: str, target: Target, shown: str) -> None:
    assert parse_target(text, 6783) == target
    assert str(target) == shown
    assert parse_target(shown, 1) == target


@pytest.mark.parametrize(
    "text",
    ["", ":6783", "10.0.0.256", "1.2.3", "a..b", "-a", "a b", "[10.0.0.1]:5", "[fd00::2", "a:"],
)
def test_what_is_no_address_is_named(text: str) -> None:
    with pytest.raises(ValueError, match=r"is no peer address|has a port"):
        parse_target(text, 6783)


@given(st.text(max_size=300))
def test_any_text_is_a_target_or_a_value_error(text: str) -> None:
    try:
        target = parse_target(text, 6783)
    except ValueError:
        return
    assert parse_target(str(target), 1) == target
