"""weave reset --files: what is removed, and when it is not."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from cli.tests.conftest import Weave
from cli.tests.fake_node import FakeNode
from weave_cli import sandboxes
from weave_cli.leftovers import Places, remove
from weave_cli.node import Failure


@pytest.fixture
def places(tmp_path: Path) -> Places:
    """An install, and files of others beside it."""
    made = Places(*(tmp_path / name for name in ("run", "state", "conf", "bin", "devices")))
    for path in (
        *(made.run_dir / "ipam/lock", made.state_dir / "ipam/state.db"),
        *(made.conf_dir / "10-weave.conflist", made.conf_dir / "99-other.conflist"),
        *(made.bin_dir / "weave-net", made.bin_dir / "weave-ipam", made.bin_dir / "bridge"),
    ):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    return made


def files(places: Places) -> set[str]:
    return {path.name for path in places.run_dir.parent.rglob("*") if path.is_file()}


def test_everything_of_ours_goes_and_nothing_of_others(places: Places) -> None:
    said = remove(places, force=False).splitlines()

    assert files(places) == {"99-other.conflist", "bridge"}
    assert not places.state_dir.exists()
    assert len(said) == 5


def test_names_that_attached_namespaces_got_go_too(
    places: Places, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sandboxes, "NAMED", tmp_path)
    asked = []
    monkeypatch.setattr(sandboxes, "_ip_netns", lambda *argv: asked.append(argv))
    for name in ("weave-pid-7", f"weave-container-{'a' * 64}", "weave", "blue"):
        (tmp_path / name).touch()

    said = remove(places, force=False)

    names = ["weave-pid-7", f"weave-container-{'a' * 64}"]
    assert sorted(asked) == sorted(("delete", name) for name in names)
    assert all(f"removed: {tmp_path / name}" in said for name in names)


def test_again_there_is_nothing_to_do(places: Places) -> None:
    remove(places, force=False)

    assert remove(places, force=False) == ""


def test_a_running_service_stops_it(places: Places, node: FakeNode) -> None:
    with pytest.raises(Failure, match="cni, gossip, ipam, router runs still"):
        remove(replace(places, run_dir=node.run_dir), force=True)

    assert "state.db" in files(places)


def test_a_data_path_that_is_still_there_stops_it_unless_forced(places: Places) -> None:
    (places.devices / "weave").mkdir(parents=True)
    with pytest.raises(Failure, match="run `weave reset` first"):
        remove(places, force=False)
    assert "state.db" in files(places)

    remove(places, force=True)

    assert "state.db" not in files(places)


def test_the_command_removes_nothing_of_a_node_that_runs(node: FakeNode, weave: Weave) -> None:
    done = weave("reset", "--files", "--force")

    assert done.status == 1
    assert "stop the services first" in done.err
    assert node.requests == []
