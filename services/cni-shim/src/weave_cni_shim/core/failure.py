"""Failures as CNI knows them (CNI 1.1, section "Error"): a code, a message, details."""

from __future__ import annotations

import enum
import json

from weave_model.errors import DomainError, ErrorKind

# containerd takes a DEL whose error contains one of these for a success (S31): none is passed on.
_SWALLOWED = {"not found": "absent", "no such file or directory": "missing file"}


class Code(enum.IntEnum):
    """Codes of the specification, those of its Go library that runtimes know, and ours from 100."""

    INCOMPATIBLE_VERSION = 1
    UNSUPPORTED_FIELD = 2
    UNKNOWN_CONTAINER = 3
    INVALID_ENVIRONMENT = 4
    IO_FAILURE = 5
    DECODING_FAILURE = 6
    INVALID_CONFIG = 7
    INVALID_NETNS = 8
    TRY_AGAIN = 11
    NOT_AVAILABLE = 50
    LIMITED_CONNECTIVITY = 51
    INTERFACE_EXISTS = 100
    ADDRESS_CONFLICT = 101
    CHECK_FAILED = 102
    GC_INCOMPLETE = 103
    INTERNAL = 999


class CniError(Exception):
    """A verb failed. The message is one sentence with the values involved."""

    def __init__(self, code: Code, message: str, details: str = "") -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.details = details

    def to_json(self, cni_version: str) -> bytes:
        """The error object for stdout (S02: runtimes parse stdout, not stderr)."""
        body = {"cniVersion": cni_version, "code": int(self.code), "msg": _heard(self.message)}
        if self.details:
            body["details"] = _heard(self.details)
        return json.dumps(body).encode() + b"\n"


_CODES = {
    ErrorKind.INVALID: Code.INVALID_CONFIG,
    ErrorKind.ABSENT: Code.INVALID_NETNS,
    ErrorKind.EXHAUSTED: Code.TRY_AGAIN,
    ErrorKind.NOT_READY: Code.TRY_AGAIN,
    ErrorKind.TIMED_OUT: Code.TRY_AGAIN,
    ErrorKind.ABORTED: Code.TRY_AGAIN,
    ErrorKind.CONFLICT: Code.ADDRESS_CONFLICT,
    ErrorKind.ALREADY_THERE: Code.INTERFACE_EXISTS,
}


def failure_of(error: DomainError) -> CniError:
    """The CNI error for what another service answered."""
    return CniError(_CODES.get(error.kind, Code.INTERNAL), str(error))


def _heard(text: str) -> str:
    for phrase, other in _SWALLOWED.items():
        text = text.replace(phrase, other)
    return text
