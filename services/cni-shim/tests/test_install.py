"""The files on the host."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

from weave_cni_shim.install import Conflist, install_executable, remove_executable
from weave_model.errors import Invalid


@pytest.fixture
def source(tmp_path: Path) -> Path:
    path = tmp_path / "weave-net"
    path.write_bytes(b"\x7fELF 2")
    return path


def test_the_executable_is_installed_under_both_names(source: Path, tmp_path: Path) -> None:
    install_executable(source, tmp_path / "opt/cni/bin")

    for name in ("weave-net", "weave-ipam"):
        path = tmp_path / "opt/cni/bin" / name
        assert path.read_bytes() == b"\x7fELF 2"
        assert stat.S_IMODE(path.stat().st_mode) == 0o755


def test_s11_a_running_executable_is_replaced_by_rename(source: Path, tmp_path: Path) -> None:
    """Whoever has the old one open goes on with it."""
    bin_dir = tmp_path / "bin"
    bin_dir.mkdir()
    (bin_dir / "weave-net").write_bytes(b"\x7fELF 1")
    with (bin_dir / "weave-net").open("rb") as running:
        install_executable(source, bin_dir)

        assert running.read() == b"\x7fELF 1"
    assert (bin_dir / "weave-net").read_bytes() == b"\x7fELF 2"
    assert sorted(path.name for path in bin_dir.iterdir()) == ["weave-ipam", "weave-net"]


def test_an_equal_executable_is_left_alone(source: Path, tmp_path: Path) -> None:
    install_executable(source, tmp_path / "bin")
    before = (tmp_path / "bin/weave-net").stat().st_ino

    install_executable(source, tmp_path / "bin")

    assert (tmp_path / "bin/weave-net").stat().st_ino == before


def test_a_link_of_an_older_weave_is_replaced_and_its_target_is_not(
    source: Path, tmp_path: Path
) -> None:
    """Weave Net pointed both names at weave-plugin-<version>."""
    bin_dir = tmp_path / "bin"
    bin_dir.mkdir()
    (bin_dir / "weave-plugin-2.8.1").write_bytes(b"old")
    for name in ("weave-net", "weave-ipam"):
        (bin_dir / name).symlink_to("weave-plugin-2.8.1")

    install_executable(source, bin_dir)

    assert not (bin_dir / "weave-net").is_symlink()
    assert (bin_dir / "weave-net").read_bytes() == b"\x7fELF 2"
    assert (bin_dir / "weave-plugin-2.8.1").read_bytes() == b"old"


def test_an_executable_that_lost_its_mode_is_repaired(source: Path, tmp_path: Path) -> None:
    install_executable(source, tmp_path)
    (tmp_path / "weave-ipam").chmod(0o644)

    install_executable(source, tmp_path)

    assert stat.S_IMODE((tmp_path / "weave-ipam").stat().st_mode) == 0o755


def test_a_missing_source_is_named(tmp_path: Path) -> None:
    with pytest.raises(Invalid, match=r"--executable .*/none cannot be read: No such file"):
        install_executable(tmp_path / "none", tmp_path)


def test_a_folder_that_cannot_be_written_is_named(source: Path, tmp_path: Path) -> None:
    (tmp_path / "bin").write_bytes(b"")

    with pytest.raises(Invalid, match=r"--bin-dir .*/bin: weave-net: "):
        install_executable(source, tmp_path / "bin")


def test_removal_is_idempotent_and_takes_only_ours(source: Path, tmp_path: Path) -> None:
    install_executable(source, tmp_path / "bin")
    (tmp_path / "bin/bridge").write_bytes(b"other")

    remove_executable(tmp_path / "bin")
    remove_executable(tmp_path / "bin")

    assert [path.name for path in (tmp_path / "bin").iterdir()] == ["bridge"]


def test_the_conflist_is_published_and_withdrawn(tmp_path: Path) -> None:
    conflist = Conflist(tmp_path / "net.d/10-weave.conflist", "{}")
    conflist.publish()
    assert conflist.is_present
    assert conflist.path.read_text() == "{}"
    assert stat.S_IMODE(conflist.path.stat().st_mode) == 0o644

    conflist.withdraw()
    conflist.withdraw()
    assert not conflist.path.exists()


def test_an_upgrade_rewrites_the_conflist(tmp_path: Path) -> None:
    Conflist(tmp_path / "x.conflist", "old").publish()

    Conflist(tmp_path / "x.conflist", "new").publish()

    assert (tmp_path / "x.conflist").read_text() == "new"
    assert [path.name for path in tmp_path.iterdir()] == ["x.conflist"]


def test_an_equal_conflist_is_left_alone(tmp_path: Path) -> None:
    """A runtime that watches the folder must not reload every second."""
    conflist = Conflist(tmp_path / "x.conflist", "{}")
    conflist.publish()
    before = conflist.path.stat().st_ino

    conflist.publish()

    assert conflist.path.stat().st_ino == before


def test_a_conflist_that_cannot_be_written_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(_descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    conflist = Conflist(tmp_path / "x.conflist", "{}")

    with pytest.raises(Invalid, match=r"x\.conflist cannot be written: No space left on device"):
        conflist.publish()

    assert list(tmp_path.iterdir()) == []
