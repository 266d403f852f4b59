"""The values of ci/, and what is generated from the chart."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from tests.k8s.binaries import find
from tests.k8s.rendering import CHART, render

ROOT = CHART.parents[1]
MATRIX = sorted((CHART / "ci").glob("*-values.yaml"))


@pytest.mark.parametrize("path", MATRIX, ids=lambda path: path.stem)
def test_supported_values_render_and_pass_lint(path: Path) -> None:
    items = render(yaml.safe_load(path.read_text()))
    command = [str(find("helm")), "lint", "--strict", "--quiet", str(CHART), "-f", str(path)]
    lint = subprocess.run(command, capture_output=True, text=True, check=False)

    assert all({"apiVersion", "kind", "metadata"} <= item.keys() for item in items)
    assert lint.returncode == 0, lint.stdout + lint.stderr


def test_table_of_values_and_plain_manifest_are_fresh() -> None:
    done = subprocess.run(
        [sys.executable, str(ROOT / "scripts/render-chart"), "--check"],
        capture_output=True,
        text=True,
        check=False,
    )

    assert done.returncode == 0, done.stdout + done.stderr
