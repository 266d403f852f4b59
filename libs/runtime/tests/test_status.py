"""Errors and their codes."""

from __future__ import annotations

import asyncio
import socket
from pathlib import Path
from typing import Any

import grpc
import pytest

from weave_model import errors
from weave_runtime.client import connect
from weave_runtime.status import error_of, reason_of, status_of

Code = grpc.StatusCode
CODES = [
    (errors.Invalid, Code.INVALID_ARGUMENT),
    (errors.Absent, Code.NOT_FOUND),
    (errors.Exhausted, Code.RESOURCE_EXHAUSTED),
    (errors.NotReady, Code.UNAVAILABLE),
    (errors.Conflict, Code.FAILED_PRECONDITION),
    (errors.AlreadyThere, Code.ALREADY_EXISTS),
    (errors.Aborted, Code.ABORTED),
    (errors.TimedOut, Code.DEADLINE_EXCEEDED),
    (errors.Unsupported, Code.UNIMPLEMENTED),
    (errors.DomainError, Code.INTERNAL),
]


def rpc_error(code: grpc.StatusCode, details: str = "") -> grpc.aio.AioRpcError:
    return grpc.aio.AioRpcError(code, grpc.aio.Metadata(), grpc.aio.Metadata(), details)


@pytest.mark.parametrize(("error", "code"), CODES)
def test_domain_error_has_its_code(error: type[errors.DomainError], code: Code) -> None:
    assert status_of(error("why")) == (code, "why")


@pytest.mark.parametrize(("error", "code"), CODES)
def test_code_stands_for_its_domain_error(error: type[errors.DomainError], code: Code) -> None:
    translated = error_of(rpc_error(code, "why"))

    assert (type(translated), str(translated)) == (error, "why")


def test_every_kind_has_a_code() -> None:
    assert {error.kind for error, _ in CODES} == set(errors.ErrorKind)


def test_derived_error_has_the_code_of_its_base() -> None:
    class PoolEmpty(errors.Exhausted):
        pass

    assert status_of(PoolEmpty("none left")) == (Code.RESOURCE_EXHAUSTED, "none left")


def test_answer_of_another_service_passes() -> None:
    assert status_of(rpc_error(Code.ABORTED, "moved")) == (Code.ABORTED, "moved")


def test_lack_of_time_is_the_callers_deadline() -> None:
    assert status_of(TimeoutError()) == (Code.DEADLINE_EXCEEDED, "not done in time")


def test_unexpected_error_has_no_status() -> None:
    assert status_of(KeyError("oops")) is None


def test_code_without_text_gives_its_name() -> None:
    assert str(error_of(rpc_error(Code.RESOURCE_EXHAUSTED))) == "resource exhausted"


@pytest.mark.parametrize(
    ("code", "raw", "words"),
    [
        (
            Code.UNAVAILABLE,
            (
                "failed to connect to all addresses; last error: UNAVAILABLE: unix:/run/weave/ipam/"
                "api.sock: Failed parsing HTTP/2 (Expected SETTINGS frame as the first frame)"
            ),
            "ipam: what listens does not speak gRPC",
        ),
        (
            Code.UNAVAILABLE,
            "failed to connect to all addresses; last error: UNAVAILABLE: a state of tomorrow",
            "the service: out of reach",
        ),
        (
            Code.UNAVAILABLE,
            "Stream removed (Socket closed)",
            "the service went away during the call",
        ),
        (Code.DEADLINE_EXCEEDED, "Deadline Exceeded", "no answer in time"),
        # Of the services' own words nothing is lost, whatever they name.
        (
            Code.UNAVAILABLE,
            "state.db: Permission denied: Socket closed",
            "state.db: Permission denied: Socket closed",
        ),
    ],
)
def test_what_grpc_says_becomes_one_short_sentence(code: Code, raw: str, words: str) -> None:
    assert reason_of(rpc_error(code, raw)) == words
    assert str(error_of(rpc_error(code, raw))) == words
    assert status_of(rpc_error(code, raw)) == (code, words)


async def test_a_real_channel_without_a_service_is_put_in_words(tmp_path: Path) -> None:
    """Against the wording of the gRPC at hand, which may change with its version."""
    assert await _refused(tmp_path / "ipam" / "api.sock") == "ipam: socket absent"

    (tmp_path / "router").mkdir()
    with socket.socket(socket.AF_UNIX) as bound:
        bound.bind(str(tmp_path / "router" / "api.sock"))
        assert await _refused(tmp_path / "router" / "api.sock") == "router: nobody listens"

    (tmp_path / "cni").mkdir()

    async def hang_up(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.close()

    server = await asyncio.start_unix_server(hang_up, tmp_path / "cni" / "api.sock")
    async with server:
        assert await _refused(tmp_path / "cni" / "api.sock") == "cni: out of reach"


async def _refused(path: Path) -> str:
    async with connect(path) as channel:
        call: Any = channel.unary_unary("/any/Thing")
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await call(b"", timeout=10)
        return reason_of(caught.value)
