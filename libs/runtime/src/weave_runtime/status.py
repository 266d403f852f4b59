"""The one table between errors and gRPC codes, in both directions."""

from __future__ import annotations

import re

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


_WENT_AWAY = "the service went away during the call"
# gRPC's own texts begin like this; what a service says of itself passes as it is.
_NO_CONNECTION = "failed to connect to all addresses"
# It names the socket, `.../<service>/api.sock`, twice among its own states.
_SOCKET = re.compile(r"unix:\S*?([^/\s]+)/[^/\s]+\.sock")
_SOCKET_WORDS = {
    "No such file or directory": "socket absent",
    "Connection refused": "nobody listens",
    "Permission denied": "the socket may not be used",
    "Failed parsing HTTP/2": "what listens does not speak gRPC",
}
_CALL_WORDS = {
    "Deadline Exceeded": "no answer in time",
    "Socket closed": _WENT_AWAY,
    "Stream removed": _WENT_AWAY,
    "Connection reset": _WENT_AWAY,
    "recvmsg:": _WENT_AWAY,
    "sendmsg:": _WENT_AWAY,
    "GOAWAY received": _WENT_AWAY,
}


def status_of(error: Exception) -> tuple[grpc.StatusCode, str] | None:
    """Gives code and text for a caller; None for an error nobody expected.

    An error that another service answered with passes as it is: it is the answer to this call too.
    """
    match error:
        case DomainError():
            return _CODES[error.kind], str(error)
        case grpc.aio.AioRpcError():
            return error.code(), reason_of(error)
        case TimeoutError():
            return grpc.StatusCode.DEADLINE_EXCEEDED, str(error) or "not done in time"
        case _:
            return None


def error_of(error: grpc.aio.AioRpcError) -> DomainError:
    """Gives the domain error that a callee's answer stands for."""
    return _ERRORS.get(error.code(), DomainError)(reason_of(error))


def reason_of(error: grpc.aio.AioRpcError) -> str:
    """Why a call failed, in one short sentence: the callee's own words, or what the socket said.

    "ipam: socket absent", where gRPC names the path twice among its own states.
    """
    text = " ".join((error.details() or "").split())
    if not text:
        return error.code().name.lower().replace("_", " ")
    if text.startswith(_NO_CONNECTION):
        socket = _SOCKET.search(text)
        found = (words for raw, words in _SOCKET_WORDS.items() if raw in text)
        return f"{socket[1] if socket else 'the service'}: {next(found, 'out of reach')}"
    for beginning, words in _CALL_WORDS.items():
        if text.startswith(beginning):
            return words
    return text
