"""The frame between the host executable and the daemon; docs/adr/0003-two-phase-attach.md."""

from __future__ import annotations

import struct
from collections.abc import Mapping
from dataclasses import dataclass

MAGIC = b"WVCN"
VERSION = 1
HEADER_BYTES = 16
ENV_LIMIT = 64 << 10
STDIN_LIMIT = 1 << 20
ANSWER_LIMIT = 1 << 20

# Magic, version, flags of a request or exit code of an answer, the lengths of both parts.
_HEADER = struct.Struct(">4sHHII")


class FrameError(ValueError):
    """The bytes are no frame this daemon can read; says which part and why."""


@dataclass(frozen=True, slots=True)
class Request:
    """What the runtime gave to the executable."""

    environ: Mapping[str, str]
    stdin: bytes


@dataclass(frozen=True, slots=True)
class Answer:
    """What the executable gives to the runtime."""

    exit_code: int
    stdout: bytes = b""
    stderr: bytes = b""


def body_length(header: bytes) -> int:
    """How many bytes follow a request's header. Raises FrameError."""
    if len(header) != HEADER_BYTES:
        raise FrameError(f"frame header has {len(header)} bytes, not {HEADER_BYTES}")
    magic, version, _, env_length, stdin_length = _HEADER.unpack(header)
    if magic != MAGIC:
        raise FrameError(f"frame begins with {magic!r}, not {MAGIC!r}")
    if version != VERSION:
        raise FrameError(f"frame version {version} is not known here (known: {VERSION})")
    if env_length > ENV_LIMIT or stdin_length > STDIN_LIMIT:
        raise FrameError(f"frame of {env_length} + {stdin_length} bytes is over the limit")
    return int(env_length + stdin_length)


def decode_request(header: bytes, body: bytes) -> Request:
    """Reads a whole request. Raises FrameError."""
    length = body_length(header)
    if len(body) != length:
        raise FrameError(f"frame has {len(body)} bytes of body, its header says {length}")
    env_length = _HEADER.unpack(header)[3]
    environ = {}
    for item in body[:env_length].split(b"\0"):
        name, separator, value = item.decode("utf-8", "surrogateescape").partition("=")
        if separator:
            environ[name] = value
    return Request(environ, body[env_length:])


def encode_request(request: Request) -> bytes:
    """The bytes of a request; the executable's own side, for the spool and for tests."""
    env = b"".join(
        f"{name}={value}".encode("utf-8", "surrogateescape") + b"\0"
        for name, value in request.environ.items()
    )
    return _HEADER.pack(MAGIC, VERSION, 0, len(env), len(request.stdin)) + env + request.stdin


def encode_answer(answer: Answer) -> bytes:
    """The bytes of an answer; stderr is cut to what is left. Raises FrameError: stdout too long."""
    if len(answer.stdout) > ANSWER_LIMIT:
        raise FrameError(f"answer of {len(answer.stdout)} bytes is over {ANSWER_LIMIT}")
    stderr = answer.stderr[: ANSWER_LIMIT - len(answer.stdout)]
    return (
        _HEADER.pack(MAGIC, VERSION, answer.exit_code, len(answer.stdout), len(stderr))
        + answer.stdout
        + stderr
    )


def decode_answer(data: bytes) -> Answer:
    """Reads a whole answer. Raises FrameError."""
    if len(data) < HEADER_BYTES:
        raise FrameError(f"answer of {len(data)} bytes is shorter than its header")
    magic, _, exit_code, out, err = _HEADER.unpack_from(data)
    if magic != MAGIC or len(data) != HEADER_BYTES + out + err:
        raise FrameError("answer is no frame")
    return Answer(exit_code, data[HEADER_BYTES : HEADER_BYTES + out], data[HEADER_BYTES + out :])
