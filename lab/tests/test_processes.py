"""Processes found again and ended."""

from __future__ import annotations

import dataclasses
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from weave_lab import processes
from weave_lab.errors import LabError
from weave_lab.processes import ProcessRecord


@pytest.fixture
def sleeper() -> Iterator[subprocess.Popen[bytes]]:
    with subprocess.Popen(["sleep", "60"]) as process:
        yield process
        process.kill()


def test_a_record_names_one_process_over_reading_and_writing(
    sleeper: subprocess.Popen[bytes], tmp_path: Path
) -> None:
    record = ProcessRecord.of(sleeper.pid)

    record.save(tmp_path / "r.json")

    assert ProcessRecord.load(tmp_path / "r.json") == record
    assert record.is_alive
    assert record.memory_kib > 0
    assert 0 <= record.uptime_s < 60


def test_kill_ends_and_is_idempotent(sleeper: subprocess.Popen[bytes]) -> None:
    record = ProcessRecord.of(sleeper.pid)

    record.kill()
    record.kill()

    assert not record.is_alive
    assert record.memory_kib == 0


def test_another_process_with_the_same_number_is_left_alone(
    sleeper: subprocess.Popen[bytes],
) -> None:
    """A pid is given out again; the start time tells the two apart."""
    other = dataclasses.replace(ProcessRecord.of(sleeper.pid), start_ticks=1)

    other.kill()

    assert not other.is_alive
    assert ProcessRecord.of(sleeper.pid).is_alive


def test_a_process_that_ended_has_no_record(sleeper: subprocess.Popen[bytes]) -> None:
    sleeper.kill()
    sleeper.wait()

    with pytest.raises(LabError, match="ended right after its start"):
        ProcessRecord.of(sleeper.pid)


def test_a_zombie_is_not_alive(sleeper: subprocess.Popen[bytes]) -> None:
    record = ProcessRecord.of(sleeper.pid)

    sleeper.kill()
    record.wait_gone(5)

    assert not record.is_alive


def test_processes_are_found_by_their_namespace(sleeper: subprocess.Popen[bytes]) -> None:
    network = processes.namespace_id(sleeper.pid, "net")

    found = processes.inside({network})

    assert ProcessRecord.of(sleeper.pid) in found


def test_a_process_that_does_not_end_is_reported(sleeper: subprocess.Popen[bytes]) -> None:
    with pytest.raises(LabError, match="still runs after 0 s"):
        ProcessRecord.of(sleeper.pid).wait_gone(0)
