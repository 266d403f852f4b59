"""weave attach and detach: which namespace is meant, and what is asked for."""

from __future__ import annotations

from pathlib import Path

import pytest

from cli.tests.conftest import Weave
from cli.tests.fake_node import FakeNode
from weave_cli import sandboxes
from weave_cli.node import Failure
from weave_cli.sandboxes import Sandbox

CONTAINER = "3f2a" * 16


@pytest.fixture(autouse=True)
def host(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Two named namespaces; process 4711, a container's first, is in one, 4712 in none of them."""
    for name in ("NAMED", "DOCKER", "CONTAINERS", "PROC"):
        monkeypatch.setattr(sandboxes, name, tmp_path / name)
    for path in ("NAMED/blue", "NAMED/with space", "PROC/4712/ns/net", "other/ns"):
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).touch()
    (tmp_path / "PROC/4711/ns").mkdir(parents=True)
    (tmp_path / "PROC/4711/ns/net").hardlink_to(tmp_path / "NAMED/blue")
    folder = tmp_path / "CONTAINERS" / "k8s.io" / CONTAINER
    folder.mkdir(parents=True)
    (folder / "init.pid").write_text("4711")
    return tmp_path


def test_a_name_and_its_path_are_the_same_namespace(host: Path) -> None:
    expected = Sandbox("netns-blue", str(host / "NAMED/blue"))
    (host / "alias").symlink_to(host / "NAMED")

    assert sandboxes.find("blue") == expected
    assert sandboxes.find(str(host / "NAMED/blue")) == expected
    assert sandboxes.find(str(host / "alias/blue")) == expected


def test_a_name_becomes_an_identity_that_is_allowed(host: Path) -> None:
    assert sandboxes.find("with space").container_id == "netns-with-space"


def test_a_process_stands_for_the_name_of_its_namespace(host: Path) -> None:
    assert sandboxes.find("4711") == Sandbox("netns-blue", str(host / "NAMED/blue"))


def test_a_namespace_without_a_name_needs_one(host: Path) -> None:
    with pytest.raises(Failure, match="of process 4712 has no name: `ip netns attach NAME 4712`"):
        sandboxes.find("4712")


def test_any_path_is_found(host: Path) -> None:
    found = sandboxes.find(str(host / "other/ns"))

    assert found.netns == str(host / "other/ns")
    assert found.container_id.startswith("netns-")
    assert "/" not in found.container_id


@pytest.mark.parametrize("word", [CONTAINER, CONTAINER[:12]])
def test_a_container_is_found_by_the_beginning_of_its_id(host: Path, word: str) -> None:
    assert sandboxes.find(word) == Sandbox(CONTAINER, str(host / "NAMED/blue"))


def test_two_containers_with_one_beginning_are_named(host: Path) -> None:
    other = host / "CONTAINERS" / "moby" / ("3f2a" + "b" * 60)
    other.mkdir(parents=True)
    (other / "init.pid").write_text("1")

    with pytest.raises(Failure, match="more than one container: 3f2a3f2a3f2a, 3f2abbbbbbbb"):
        sandboxes.find("3f2a")


@pytest.mark.parametrize("word", ["green", "99", "/run/nowhere/ns"])
def test_what_is_gone_can_be_detached_and_not_attached(word: str) -> None:
    assert sandboxes.find(word).netns == ""
    with pytest.raises(Failure, match=f"^{word} is neither a network namespace"):
        sandboxes.find_running(word)


def test_attach_asks_for_the_addresses_and_prints_what_came(node: FakeNode, weave: Weave) -> None:
    done = weave("attach", "10.32.0.9/12", "fd00::9", "blue")

    assert (done.status, done.out) == (0, "10.32.0.9/32\n")
    _, rpc, request = node.requests[-1]
    assert rpc == "Attach"
    assert (request.key.network, request.key.container_id) == ("weave-attach", "netns-blue")
    assert request.key.interface == "ethwe"
    assert [each.length for each in request.requested] == [32, 128]
    assert Path(request.netns_path).name == "blue"


def test_an_address_that_is_none_is_named(node: FakeNode, weave: Weave) -> None:
    done = weave("attach", "10.32.0", "blue")

    assert (done.status, done.err) == (1, "ERROR: 10.32.0 is no address\n")
    assert node.requests == []


def test_detach_prints_what_was_given_back(node: FakeNode, weave: Weave) -> None:
    done = weave("detach", "--interface", "eth7", "blue")

    assert (done.status, done.out) == (0, "10.32.0.9/32\n")
    assert node.requests[-1][2].key.interface == "eth7"
