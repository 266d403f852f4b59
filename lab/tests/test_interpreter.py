"""Folders that service uids could not enter."""

from __future__ import annotations

import tempfile
from pathlib import Path

from weave_lab import interpreter


def test_the_outermost_closed_folder_on_the_way_is_covered() -> None:
    # Not pytest's tmp_path: the folder above that is closed already.
    with tempfile.TemporaryDirectory(prefix="weave-") as home:
        inner = Path(home) / "closed"
        inner.mkdir(mode=0o700)
        wanted = [inner / "lib", Path(home) / "bin"]

        assert interpreter.covers(wanted) == {home: [str(path) for path in wanted]}


def test_open_folders_need_no_cover() -> None:
    assert interpreter.covers([Path("/usr/lib"), Path("/usr/bin")]) == {}


def test_folders_inside_needed_folders_are_not_listed() -> None:
    folders = interpreter.needed_folders()

    assert not [a for a in folders for b in folders if b in a.parents]
