"""weave attach and detach: which namespace is meant, and what is asked for."""

from __future__ import annotations

from pathlib import Path

import grpc
import pytest

from cli.tests.conftest import Weave
from cli.tests.fake_node import FakeNode, key
from weave.router.v1 import router_pb2
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


@pytest.fixture
def named(host: Path, monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, ...]]:
    """What was asked of `ip netns`, which does it to the files of `host`."""
    asked = []

    def ip_netns(verb: str, name: str, *process: str) -> None:
        asked.append((verb, name, *process))
        if verb == "attach":
            (host / "NAMED" / name).hardlink_to(host / "PROC" / process[0] / "ns/net")
        else:
            (host / "NAMED" / name).unlink()

    monkeypatch.setattr(sandboxes, "_ip_netns", ip_netns)
    return asked


def test_a_name_and_its_path_are_the_same_namespace(host: Path) -> None:
    expected = Sandbox("netns-blue", str(host / "NAMED/blue"))
    (host / "alias").symlink_to(host / "NAMED")

    assert sandboxes.find("blue") == expected
    assert sandboxes.find(str(host / "NAMED/blue")) == expected
    assert sandboxes.find(str(host / "alias/blue")) == expected


def test_a_name_becomes_an_identity_that_is_allowed(host: Path) -> None:
    assert sandboxes.find("with space").container_id == "netns-with-space"


def test_a_process_stands_for_the_name_of_its_namespace(host: Path) -> None:
    found = sandboxes.find_running("4711")

    assert (found.container_id, found.netns) == ("netns-blue", str(host / "NAMED/blue"))


def test_a_namespace_without_a_name_gets_one(host: Path, named: list[tuple[str, ...]]) -> None:
    path = str(host / "NAMED/weave-pid-4712")

    assert sandboxes.find_running("4712").netns == path
    assert named == [("attach", "weave-pid-4712", "4712")]
    assert sandboxes.find("4712") == sandboxes.find_running("4712")
    assert sandboxes.find("4712").container_id == "netns-weave-pid-4712"


def test_a_process_that_is_gone_is_known_by_the_name_it_got(
    host: Path, named: list[tuple[str, ...]]
) -> None:
    attached = sandboxes.find_running("4712")
    (host / "PROC/4712/ns/net").unlink()

    gone = sandboxes.find("4712")
    assert (gone.container_id, gone.netns) == (attached.container_id, attached.netns)
    sandboxes.let_go(gone)
    sandboxes.let_go(gone)
    assert named[1:] == [("delete", "weave-pid-4712")]


@pytest.mark.usefixtures("named")
def test_a_number_that_another_process_had_is_not_confused(host: Path) -> None:
    sandboxes.find_running("4712")
    (host / "PROC/4712/ns/net").unlink()
    (host / "PROC/4712/ns/net").touch()

    with pytest.raises(Failure, match="an earlier process 4712 was in: `weave detach 4712` first"):
        sandboxes.find_running("4712")


def test_a_container_whose_namespace_has_no_name_gets_one(
    host: Path, named: list[tuple[str, ...]]
) -> None:
    folder = host / "CONTAINERS" / "k8s.io" / CONTAINER
    (folder / "init.pid").write_text("4712")

    attached = sandboxes.find_running(CONTAINER[:12])
    assert named == [("attach", f"weave-container-{CONTAINER}", "4712")]
    (folder / "init.pid").unlink()
    (host / "PROC/4712/ns/net").unlink()

    gone = sandboxes.find(CONTAINER[:12])
    assert (gone.container_id, gone.netns) == (CONTAINER, attached.netns)


def test_a_name_that_cannot_be_given_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nowhere")

    with pytest.raises(Failure, match="`ip netns attach weave-pid-4712 4712` failed"):
        sandboxes.find_running("4712")


def test_names_of_others_stay(host: Path, named: list[tuple[str, ...]]) -> None:
    sandboxes.let_go(sandboxes.find("blue"))
    sandboxes.let_go(sandboxes.find("4711"))
    sandboxes.let_go(sandboxes.find(CONTAINER))

    assert named == []


def test_any_path_is_found(host: Path) -> None:
    found = sandboxes.find(str(host / "other/ns"))

    assert found.netns == str(host / "other/ns")
    assert found.container_id.startswith("netns-")
    assert "/" not in found.container_id


@pytest.mark.parametrize("word", [CONTAINER, CONTAINER[:12]])
def test_a_container_is_found_by_the_beginning_of_its_id(host: Path, word: str) -> None:
    found = sandboxes.find_running(word)

    assert (found.container_id, found.netns) == (CONTAINER, str(host / "NAMED/blue"))


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


@pytest.mark.usefixtures("named")
def test_a_name_given_here_goes_with_the_last_attachment(
    host: Path, node: FakeNode, weave: Weave
) -> None:
    path = host / "NAMED/weave-pid-4712"
    attachment = router_pb2.Attachment(key=key("netns-weave-pid-4712", "eth7"))
    items = [router_pb2.ListAttachmentsResponse.Item(attachment=attachment)]
    weave("attach", "4712")
    node.answers["router", "ListAttachments"] = router_pb2.ListAttachmentsResponse(items=items)
    weave("detach", "4712")
    assert path.exists()

    node.answers["router", "ListAttachments"] = router_pb2.ListAttachmentsResponse()
    weave("detach", "--interface", "eth7", "4712")
    assert not path.exists()


@pytest.mark.usefixtures("named")
def test_a_name_given_for_an_attach_that_fails_goes_again(
    host: Path, node: FakeNode, weave: Weave
) -> None:
    node.fail("cni", "Attach", grpc.StatusCode.RESOURCE_EXHAUSTED, "no address is left")

    assert weave("attach", "4712").status == 1
    assert not (host / "NAMED/weave-pid-4712").exists()
