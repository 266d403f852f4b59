"""Errors and their codes."""

from __future__ import annotations

import grpc
import pytest

from weave_model import errors
from weave_runtime.status import error_of, status_of

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
    assert str(error_of(rpc_error(Code.UNAVAILABLE))) == "UNAVAILABLE"
