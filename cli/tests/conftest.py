"""A fake node per test, and the command run against it."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from cli.tests.fake_node import FakeNode
from weave_cli import sandboxes
from weave_cli.__main__ import main


@dataclass(frozen=True)
class Done:
    status: int
    out: str
    err: str


Weave = Callable[..., Done]


@pytest.fixture
def node() -> Iterator[FakeNode]:
    # A socket path has 108 bytes at most; pytest's tmp_path grows beyond that.
    with tempfile.TemporaryDirectory(prefix="weave-") as directory:
        fake = FakeNode(Path(directory))
        yield fake
        fake.close()


@pytest.fixture(autouse=True)
def no_names(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The namespaces of this machine are none of a test's business."""
    monkeypatch.setattr(sandboxes, "NAMED", tmp_path / "netns")


@pytest.fixture
def weave(node: FakeNode, capsys: pytest.CaptureFixture[str]) -> Weave:
    def run(*argv: str) -> Done:
        status = main(["--run-dir", str(node.run_dir), *argv])
        captured = capsys.readouterr()
        return Done(status, captured.out, captured.err)

    return run
