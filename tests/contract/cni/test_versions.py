"""S13 to S17: versions."""

from __future__ import annotations

import pytest

from tests.contract.cni import results
from tests.contract.cni.runtime import Runtime

VERSIONS = ("0.3.0", "0.3.1", "0.4.0", "1.0.0", "1.1.0")


@pytest.mark.parametrize("stdin", ['{"cniVersion":"%s"}', " "])
def test_s13_version_lists_what_is_supported(runtime: Runtime, stdin: str) -> None:
    """CRI-O validates configurations by it, so it needs neither stdin nor a daemon."""
    outcome = runtime.call("VERSION", None, stdin.replace("%s", runtime.subject.version))

    assert outcome.status == 0
    assert set(runtime.subject.versions) <= set(outcome.body["supportedVersions"])
    assert outcome.body["cniVersion"]


def test_s13_version_repeats_the_version_asked_in(runtime: Runtime) -> None:
    outcome = runtime.call("VERSION", None, '{"cniVersion":"0.4.0"}')

    assert outcome.body["cniVersion"] == "0.4.0"


@pytest.mark.parametrize("command", ["ADD", "DEL"])
def test_s14_an_unsupported_version_is_refused(runtime: Runtime, command: str) -> None:
    outcome = runtime.call(command, runtime.sandbox(), runtime.config(cniVersion="9.9.9"))

    assert outcome.code == 1
    assert "9.9.9" in outcome.message
    assert runtime.subject.version in outcome.message


def test_s15_check_is_refused_before_0_4_0(runtime: Runtime) -> None:
    sandbox = runtime.sandbox()
    result = runtime.add(sandbox, cniVersion="0.3.1")

    assert runtime.check(sandbox, result, cniVersion="0.3.1").code == 1


@pytest.mark.parametrize("command", ["GC", "STATUS"])
def test_s15_gc_and_status_are_refused_before_1_1_0(runtime: Runtime, command: str) -> None:
    config = runtime.config(cniVersion="1.0.0", **{"cni.dev/valid-attachments": []})

    assert runtime.call(command, None, config).code == 1


@pytest.mark.parametrize("version", VERSIONS)
def test_s16_the_result_has_the_shape_of_its_version(runtime: Runtime, version: str) -> None:
    if version not in runtime.subject.versions:
        outcome = runtime.call("ADD", runtime.sandbox(), runtime.config(cniVersion=version))
        assert outcome.code == 1
        return
    sandbox = runtime.sandbox()

    result = runtime.add(sandbox, cniVersion=version)

    assert results.problems(result, version, sandbox.netns) == []


@pytest.mark.parametrize("version", ["0.3.0", "0.3.1", "0.4.0", "1.0.0"])
def test_s16_what_was_added_in_any_version_is_deleted(runtime: Runtime, version: str) -> None:
    sandbox = runtime.sandbox()
    result = runtime.add(sandbox, cniVersion=version)

    assert runtime.delete(sandbox, result, cniVersion=version).status == 0
    assert runtime.interfaces(sandbox) == {"lo"}
