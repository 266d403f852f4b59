"""What `weave status`, `report` and `ps` print, byte for byte, in cli/tests/golden.

After a wanted change: `WEAVE_WRITE_GOLDEN=1 make test ARGS=cli`, then read the difference.
"""

from __future__ import annotations

import os
from pathlib import Path

import grpc
import pytest

from cli.tests.conftest import Weave
from cli.tests.fake_node import CONTAINER, FakeNode
from weave_cli.__main__ import main

GOLDEN = Path(__file__).parent / "golden"


def assert_golden(name: str, text: str, node: FakeNode) -> None:
    text = text.replace(str(node.run_dir), "/run/weave")
    path = GOLDEN / f"{name}.txt"
    if os.environ.get("WEAVE_WRITE_GOLDEN"):
        path.write_text(text)
    assert text == path.read_text()


@pytest.mark.parametrize(
    ("name", "argv"),
    [
        ("status", ("status",)),
        ("connections", ("status", "connections")),
        ("peers", ("status", "peers")),
        ("targets", ("status", "targets")),
        ("ipam", ("status", "ipam")),
        ("paths", ("status", "paths")),
        ("report", ("report",)),
        ("ps", ("ps",)),
    ],
)
def test_output_of_a_node_in_order(
    name: str, argv: tuple[str, ...], node: FakeNode, weave: Weave
) -> None:
    done = weave(*argv)

    assert done.status == 0
    assert done.err == ""
    assert_golden(name, done.out, node)


@pytest.mark.parametrize(
    ("down", "name", "argv"),
    [
        ("gossip", "status", ("status",)),
        ("ipam", "status", ("status",)),
        ("router", "status", ("status",)),
        ("cni", "status", ("status",)),
        ("router", "connections", ("status", "connections")),
        ("gossip", "paths", ("status", "paths")),
        ("ipam", "report", ("report",)),
    ],
)
def test_a_service_that_is_down_is_named_and_the_others_are_shown(
    down: str, name: str, argv: tuple[str, ...], node: FakeNode, weave: Weave
) -> None:
    node.down(down)

    done = weave(*argv)

    assert done.status == 1
    assert_golden(f"{name}-without-{down}", done.out, node)


def test_a_service_that_answers_with_an_error_is_shown_with_it(
    node: FakeNode, weave: Weave
) -> None:
    node.fail("ipam", "GetStatus", grpc.StatusCode.INTERNAL, "the store is\nunreadable")

    done = weave("status", "ipam")

    assert done.status == 1
    assert done.out == "ipam: the store is unreadable\n"


def test_a_key_of_another_peer_cannot_write_on_the_terminal(node: FakeNode, weave: Weave) -> None:
    answer = node.answers["gossip", "GetStatus"]
    answer.quarantined.add(topic="ring", key="\x1b[2J\n", writer="w", reason="no ring document")

    assert "Quarantined: ring/?[2J? of w: no ring document" in weave("status").out


def test_ps_shows_the_containers_asked_for(weave: Weave) -> None:
    done = weave("ps", CONTAINER[:5])

    assert done.out == "c0ffeec0ffee 0e:00:0a:20:00:02 10.32.0.2/32\n"


def test_ps_shows_addresses_while_the_router_is_down(node: FakeNode, weave: Weave) -> None:
    node.down("router")

    done = weave("ps", CONTAINER)

    assert done.status == 0
    assert done.out == "c0ffeec0ffee - 10.32.0.2/32\n"


def test_the_run_dir_comes_from_the_environment(
    node: FakeNode, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("WEAVE_RUN_DIR", str(node.run_dir))

    assert main(["status", "targets"]) == 0
    assert capsys.readouterr().out == "10.99.0.2\n10.99.0.3\n"


def test_a_ring_in_order_is_not_called_ready_while_no_address_can_be_given(
    node: FakeNode, weave: Weave
) -> None:
    answer = node.answers["ipam", "GetStatus"]
    answer.reason = "this peer is leaving"
    answer.families[0].ready = False

    assert "Status: this peer is leaving" in weave("status").out
