"""Plugins behind ours: an ADD succeeds only with all of them."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import pytest

from weave_cni_shim.chain import Chain
from weave_model.errors import NotReady


def put(path: Path, answer: str) -> None:
    """A plugin that answers VERSION, and notes that it was asked."""
    path.write_text(f"#!/bin/sh\nread request\necho asked >>{path}.calls\necho '{answer}'\n")
    path.chmod(0o755)


def speaking(*versions: str) -> str:
    return json.dumps({"cniVersion": versions[-1], "supportedVersions": versions})


@pytest.fixture
def offers() -> list[Sequence[str]]:
    return []


async def test_without_a_chain_nothing_is_asked(
    tmp_path: Path, offers: list[Sequence[str]]
) -> None:
    assert await Chain((), tmp_path, offers.append).why_not_ready() == ""
    assert offers == []


async def test_versions_are_those_that_all_speak(
    tmp_path: Path, offers: list[Sequence[str]]
) -> None:
    put(tmp_path / "portmap", speaking("0.1.0", "0.4.0", "1.0.0"))
    put(tmp_path / "bandwidth", speaking("0.3.0", "0.4.0", "1.0.0", "1.1.0"))

    reason = await Chain(("portmap", "bandwidth"), tmp_path, offers.append).why_not_ready()

    assert reason == ""
    assert offers == [["0.4.0", "1.0.0"]]


async def test_an_executable_is_asked_again_only_after_it_was_replaced(
    tmp_path: Path, offers: list[Sequence[str]]
) -> None:
    put(tmp_path / "portmap", speaking("0.4.0", "1.0.0"))
    chain = Chain(("portmap",), tmp_path, offers.append)
    await chain.why_not_ready()
    await chain.why_not_ready()
    calls = (tmp_path / "portmap.calls").read_text()

    put(tmp_path / "new", speaking("0.4.0", "1.0.0", "1.1.0"))
    (tmp_path / "new").rename(tmp_path / "portmap")
    await chain.why_not_ready()

    assert calls == "asked\n"
    assert offers == [["0.4.0", "1.0.0"], ["0.4.0", "1.0.0", "1.1.0"]]


async def test_a_missing_plugin_is_named_until_it_is_there(
    tmp_path: Path, offers: list[Sequence[str]]
) -> None:
    chain = Chain(("portmap",), tmp_path, offers.append)
    with pytest.raises(NotReady, match=r"chained plugin .*/portmap: No such file"):
        await chain.why_not_ready()

    put(tmp_path / "portmap", speaking("1.0.0"))

    assert await chain.why_not_ready() == ""
    assert offers == [["1.0.0"]]


async def test_a_plugin_that_is_too_old_is_a_reason(
    tmp_path: Path, offers: list[Sequence[str]]
) -> None:
    put(tmp_path / "portmap", speaking("0.1.0", "0.2.0"))

    reason = await Chain(("portmap",), tmp_path, offers.append).why_not_ready()

    assert reason == (
        "chained plugins share none of 0.4.0, 1.0.0, 1.1.0: portmap ['0.1.0', '0.2.0']"
    )
    assert offers == []


@pytest.mark.parametrize("answer", ["", "no JSON", "{}", "[]", '{"supportedVersions": 1}'])
async def test_a_plugin_that_answers_nonsense_is_a_reason(
    tmp_path: Path, answer: str, offers: list[Sequence[str]]
) -> None:
    put(tmp_path / "portmap", answer)

    with pytest.raises(NotReady, match="portmap does not tell its versions"):
        await Chain(("portmap",), tmp_path, offers.append).why_not_ready()
