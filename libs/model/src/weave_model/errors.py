"""What can go wrong, in words that cores and shells share; nothing here knows gRPC.

    DomainError
    +-- Invalid        the request can never succeed as it is
    +-- Absent         what it names does not exist
    +-- Exhausted      there is no more of what it asks for
    +-- NotReady       try again later: something it needs is away or not known yet
    +-- Conflict       the present state forbids it
    +-- AlreadyThere   what it would make exists and is not ours
    +-- Aborted        the state changed meanwhile: read again, then try again
    +-- TimedOut       what it waits for did not happen in time
    +-- Unsupported    this build or this kernel cannot do it

A service derives its own errors from these, one level deep.
"""

from __future__ import annotations

import enum
from typing import ClassVar


class ErrorKind(enum.StrEnum):
    """Says how a caller should react; shells translate it into their protocol's codes."""

    INVALID = "invalid"
    ABSENT = "absent"
    EXHAUSTED = "exhausted"
    NOT_READY = "not ready"
    CONFLICT = "conflict"
    ALREADY_THERE = "already there"
    ABORTED = "aborted"
    TIMED_OUT = "timed out"
    UNSUPPORTED = "unsupported"
    INTERNAL = "internal"


class DomainError(Exception):
    """An expected failure. Its text is one sentence for the caller, with the values involved."""

    kind: ClassVar[ErrorKind] = ErrorKind.INTERNAL


class Invalid(DomainError):
    """The request can never succeed as it is."""

    kind = ErrorKind.INVALID


class Absent(DomainError):
    """What the request names does not exist."""

    kind = ErrorKind.ABSENT


class Exhausted(DomainError):
    """There is no more of what the request asks for."""

    kind = ErrorKind.EXHAUSTED


class NotReady(DomainError):
    """Something the request needs is away or not known yet; the same request may succeed later."""

    kind = ErrorKind.NOT_READY


class Conflict(DomainError):
    """The present state forbids the request; says which part of it."""

    kind = ErrorKind.CONFLICT


class AlreadyThere(DomainError):
    """What the request would make exists and is not ours."""

    kind = ErrorKind.ALREADY_THERE


class Aborted(DomainError):
    """The state changed between two steps of the caller: read again, then try again."""

    kind = ErrorKind.ABORTED


class TimedOut(DomainError):
    """What the request waits for did not happen in time."""

    kind = ErrorKind.TIMED_OUT


class Unsupported(DomainError):
    """This build or this kernel cannot do it."""

    kind = ErrorKind.UNSUPPORTED
