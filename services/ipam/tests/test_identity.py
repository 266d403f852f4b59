"""Which start of the machine allocations belong to, and the name between starts."""

from pathlib import Path

from weave_ipam.identity import (
    BOOT,
    Boot,
    boot_of,
    current_boot_id,
    remember_name,
    remembered_name,
)
from weave_model.peer import PeerName

NAME = PeerName(b"\x02\0\0\0\0\x01")


def test_a_restart_of_the_process_belongs_to_the_same_boot() -> None:
    first = boot_of({}, 7, "boot-a")

    assert first == Boot("boot-a", 7)
    assert boot_of({BOOT: first.to_entry()}, 99, "boot-a") == first


def test_after_a_boot_everything_allocated_before_is_older() -> None:
    before = boot_of({}, 1, "boot-a")

    assert boot_of({BOOT: before.to_entry()}, 99, "boot-b") == Boot("boot-b", 99)


def test_an_unreadable_entry_counts_as_another_boot() -> None:
    assert boot_of({BOOT: b"rubbish"}, 99, "boot-b") == Boot("boot-b", 99)


def test_the_kernel_names_the_boot() -> None:
    assert current_boot_id() == current_boot_id() != ""


def test_a_name_is_remembered(tmp_path: Path) -> None:
    assert remembered_name(tmp_path) is None

    remember_name(tmp_path / "new", NAME)
    remember_name(tmp_path / "new", NAME)

    assert remembered_name(tmp_path / "new") == NAME


def test_a_damaged_name_is_no_name(tmp_path: Path) -> None:
    (tmp_path / "peer").write_text("rubbish")

    assert remembered_name(tmp_path) is None
