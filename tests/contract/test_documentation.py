"""What the documents point at is there."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
REFERENCE = re.compile(r"`([\w/.-]+\.py)::(\w+)`")
DOCUMENTS = [
    path for path in sorted(ROOT.glob("docs/**/*.md")) if REFERENCE.search(path.read_text())
]


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_each_test_that_a_document_names_exists(document: Path) -> None:
    named = REFERENCE.findall(document.read_text())

    absent = [
        f"{path}::{name}"
        for path, name in named
        if not (ROOT / path).exists() or f"def {name}(" not in (ROOT / path).read_text()
    ]

    assert named
    assert absent == []


@pytest.mark.parametrize("name", ["mesh-defects.md", "address-defects.md"])
def test_the_defects_of_weave_net_are_mapped(name: str) -> None:
    assert name in {document.name for document in DOCUMENTS}
