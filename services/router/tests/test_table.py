"""The router's table as nft tells of it: an error is no empty table."""

from __future__ import annotations

from typing import Any

import pytest

from weave_router.kernel import table
from weave_router.kernel.nftables import NftablesError
from weave_router.kernel.table import LIST_TRIES, WeaveTable

SETS: list[dict[str, Any]] = [
    {
        "set": {
            "name": "bindings4",
            "elem": [{"concat": ["vethwepl1", "0a:20:0a:20:00:01", "10.32.0.1"]}],
        }
    }
]


class Nft:
    """Answers listings with what is given, one after the other."""

    def __init__(self, *answers: list[dict[str, Any]] | str) -> None:
        self.answers = list(answers)

    def run_json(self, _commands: str, *, elements: bool = True) -> list[dict[str, Any]]:
        answer = self.answers.pop(0)
        if isinstance(answer, str):
            raise NftablesError(answer)
        return answer if elements else []


@pytest.fixture(autouse=True)
def _no_pause(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(table, "LIST_PAUSE_S", 0.0)


def listed(nft: Nft) -> dict[str, Any]:
    return WeaveTable(nft).found()[1]  # type: ignore[arg-type]


def test_no_table_is_an_empty_one() -> None:
    assert listed(Nft("Error: No such file or directory list table inet weave")) == {}


def test_a_listing_that_fails_for_a_moment_is_made_again() -> None:
    found = listed(Nft("Error: Interrupted system call", "Error: Device or resource busy", SETS))

    assert [element.link for element in found["bindings4"]] == ["vethwepl1"]


def test_a_listing_that_cannot_be_had_is_an_error() -> None:
    with pytest.raises(NftablesError, match="Cannot allocate memory"):
        listed(Nft(*["Error: Cannot allocate memory"] * LIST_TRIES))


def test_addresses_of_peers_that_an_older_release_held_as_intervals_are_hosts() -> None:
    older = {"prefix": {"addr": "10.99.0.2", "len": 31}}
    everything = {"range": ["11.0.0.0", "12.255.255.255"]}
    found = listed(Nft([{"set": {"name": "peers4", "elem": [older, "10.99.0.9", everything]}}]))

    assert {str(element) for element in found["peers4"]} == {
        "10.99.0.2/32",
        "10.99.0.3/32",
        "10.99.0.9/32",
    }
