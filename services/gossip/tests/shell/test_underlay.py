"""The addresses under which peers reach this node."""

from __future__ import annotations

import logging
import socket
from typing import Any, Self

import pytest

from weave_gossip.target import Target
from weave_gossip.underlay import Underlay, find_underlay_addresses, show_addresses


class FakeSocket:
    """A kernel with these sources by destination; no route to anything else."""

    sources: dict[str, str]

    def __init__(self, *_: Any) -> None:
        self._source = ""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def connect(self, destination: tuple[str, int]) -> None:
        if destination[0] not in self.sources:
            raise OSError(101, "Network is unreachable")
        self._source = self.sources[destination[0]]

    def getsockname(self) -> tuple[str, int]:
        return self._source, 1


@pytest.fixture
def routes(monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    sources: dict[str, str] = {}
    monkeypatch.setattr(FakeSocket, "sources", sources, raising=False)
    monkeypatch.setattr(socket, "socket", FakeSocket)
    return sources


def test_the_source_towards_the_first_target_is_taken(routes: dict[str, str]) -> None:
    routes |= {"10.1.0.2": "10.1.0.1", "192.0.2.1": "172.16.0.1"}

    assert find_underlay_addresses(["10.1.0.2", "10.9.9.9"]) == [bytes([10, 1, 0, 1])]


def test_without_a_target_the_default_route_decides(routes: dict[str, str]) -> None:
    routes |= {"192.0.2.1": "172.16.0.1", "2001:db8::1": "fd00::7"}

    found = find_underlay_addresses([])

    assert show_addresses(found) == "172.16.0.1 fd00::7"


@pytest.mark.parametrize("source", ["127.0.0.1", "0.0.0.0", "169.254.7.7"])
def test_an_address_nobody_else_can_reach_is_never_taken(
    routes: dict[str, str], source: str
) -> None:
    routes["10.1.0.2"] = source

    assert find_underlay_addresses(["10.1.0.2"]) == []


def test_configured_addresses_need_no_kernel(routes: dict[str, str]) -> None:
    routes["192.0.2.1"] = "172.16.0.1"

    assert Underlay([bytes([10, 0, 0, 1])], []).find() == (bytes([10, 0, 0, 1]),)


def test_a_missing_address_is_said_once_and_found_later(
    routes: dict[str, str], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING)
    looking = Underlay([], [Target("peers.example", 6783), Target("10.1.0.2", 6783)])

    first = [looking.find() for _ in range(3)]
    routes["10.1.0.2"] = "10.1.0.1"

    assert first == [(), (), ()]
    assert looking.find() == (socket.inet_aton("10.1.0.1"),)
    assert [each for each in caplog.messages if "--underlay-address" in each] == caplog.messages
    assert len(caplog.messages) == 1
