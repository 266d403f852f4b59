"""The one table between errors and gRPC codes, in both directions."""

from __future__ import annotations

import grpc

from weave_model.errors import (
    Aborted,
    Absent,
    AlreadyThere,
    Conflict,
    DomainError,
    ErrorKind,
    Exhausted,
    Invalid,
    NotReady,
    TimedOut,
    Unsupported,
)

_CODES = {
    ErrorKind.INVALID: grpc.StatusCode.INVALID_ARGUMENT,
    ErrorKind.ABSENT: grpc.StatusCode.NOT_FOUND,
    ErrorKind.EXHAUSTED: grpc.StatusCode.RESOURCE_EXHAUSTED,
    ErrorKind.NOT_READY: grpc.StatusCode.UNAVAILABLE,
    ErrorKind.CONFLICT: grpc.StatusCode.FAILED_PRECONDITION,
    ErrorKind.ALREADY_THERE: grpc.StatusCode.ALREADY_EXISTS,
    ErrorKind.ABORTED: grpc.StatusCode.ABORTED,
    ErrorKind.TIMED_OUT: grpc.StatusCode.DEADLINE_EXCEEDED,
    ErrorKind.UNSUPPORTED: grpc.StatusCode.UNIMPLEMENTED,
    ErrorKind.INTERNAL: grpc.StatusCode.INTERNAL,
}
_ERRORS: dict[grpc.StatusCode, type[DomainError]] = {
    _CODES[error.kind]: error
    for error in (
        *(Invalid, Absent, Exhausted, NotReady, Conflict),
        *(AlreadyThere, Aborted, TimedOut, Unsupported, DomainError),
    )
}


def status_of(error: Exception) -> tuple[grpc.StatusCode, str] | None:
    """Gives code and text for a caller; None for an error nobody expected.

    An error that another service answered with passes as it is: it is the answer to this call too.
    """
    match error:
        case DomainError():
            return _CODES[error.kind], str(error)
        case grpc.aio.AioRpcError():
            return error.code(), error.details() or ""
        case TimeoutError():
            return grpc.StatusCode.DEADLINE_EXCEEDED, str(error) or "not done in time"
        case _:
            return None


def error_of(error: grpc.aio.AioRpcError) -> DomainError:
    """Gives the domain error that a callee's answer stands for."""
    return _ERRORS.get(error.code(), DomainError)(error.details() or error.code().name)
