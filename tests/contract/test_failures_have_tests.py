"""Every test that docs/address-failures.md names is there."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
DOCUMENT = ROOT / "docs" / "address-failures.md"
# A file by its letter or its path, or a test in the file named last.
WORDS = re.compile(r"\b([A-Z])(?= `test_)|([\w/-]+\.py)|`(test_\w+)`")


def named() -> list[tuple[str, str]]:
    """File and name of each test, in the order of the document."""
    text = DOCUMENT.read_text()
    letters = dict(re.findall(r"\b([A-Z]) = ([\w/]+\.py)", text))
    found, file = [], ""
    for letter, path, test in WORDS.findall(text.partition("## ")[2]):
        file = letters[letter] if letter else path or file
        if test:
            found.append((file, test))
    return found


def test_the_document_names_tests() -> None:
    assert len(named()) > 50


@pytest.mark.parametrize(("file", "test"), sorted(set(named())))
def test_a_test_that_is_named_exists(file: str, test: str) -> None:
    assert re.search(rf"^(async )?def {test}\(", (ROOT / file).read_text(), re.MULTILINE)
