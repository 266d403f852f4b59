"""The frame between executable and daemon, also when its bytes are not what they should be."""

from __future__ import annotations

import contextlib
import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from weave_cni_shim.core.frame import (
    ANSWER_LIMIT,
    ENV_LIMIT,
    HEADER_BYTES,
    STDIN_LIMIT,
    Answer,
    FrameError,
    Request,
    body_length,
    decode_answer,
    decode_request,
    encode_answer,
    encode_request,
)

# What an environment can hold: names without "=", neither part with a NUL.
NAMES = st.text(st.characters(exclude_characters="=\0", exclude_categories=["Cs"]), min_size=1)
VALUES = st.binary(max_size=64).map(
    lambda raw: raw.replace(b"\0", b"").decode("utf-8", "surrogateescape")
)


def header(env: int, stdin: int, magic: bytes = b"WVCN", version: int = 1) -> bytes:
    return struct.pack(">4sHHII", magic, version, 0, env, stdin)


def test_a_request_has_the_layout_of_the_decision() -> None:
    """docs/adr/0003: an executable of any release must be able to rely on it."""
    frame = encode_request(Request({"CNI_COMMAND": "ADD", "CNI_IFNAME": "eth0"}, b"{}"))

    assert frame == (
        b"WVCN\x00\x01\x00\x00\x00\x00\x00\x20\x00\x00\x00\x02CNI_COMMAND=ADD\0CNI_IFNAME=eth0\0{}"
    )


def test_an_answer_has_the_layout_of_the_decision() -> None:
    assert encode_answer(Answer(7, b"out", b"error")) == (
        b"WVCN\x00\x01\x00\x07\x00\x00\x00\x03\x00\x00\x00\x05outerror"
    )


@given(st.dictionaries(NAMES, VALUES, max_size=8), st.binary(max_size=200))
def test_a_request_survives_the_wire(environ: dict[str, str], stdin: bytes) -> None:
    """Values that are no UTF-8 included."""
    frame = encode_request(Request(environ, stdin))

    assert decode_request(frame[:HEADER_BYTES], frame[HEADER_BYTES:]) == Request(environ, stdin)


@given(st.integers(0, 255), st.binary(max_size=100), st.binary(max_size=100))
def test_an_answer_survives_the_wire(code: int, stdout: bytes, stderr: bytes) -> None:
    answer = Answer(code, stdout, stderr)

    assert decode_answer(encode_answer(answer)) == answer


@given(st.binary(max_size=200))
def test_garbage_is_refused_and_nothing_else_happens(data: bytes) -> None:
    with contextlib.suppress(FrameError):
        decode_request(data[:HEADER_BYTES], data[HEADER_BYTES:])
    with contextlib.suppress(FrameError):
        decode_answer(data)


@given(st.integers(0, 60), st.integers(0, 60), st.binary(max_size=120))
def test_a_plausible_header_before_garbage_does_no_harm(env: int, stdin: int, body: bytes) -> None:
    try:
        request = decode_request(header(env, stdin), body)
    except FrameError:
        assert len(body) != env + stdin
    else:
        assert request.stdin == body[env:]


@pytest.mark.parametrize(
    ("head", "reason"),
    [
        (header(1, 1, magic=b"GET "), "begins with b'GET '"),
        (header(1, 1, version=2), "version 2 is not known"),
        (header(ENV_LIMIT + 1, 0), "over the limit"),
        (header(0, STDIN_LIMIT + 1), "over the limit"),
        (header(0, 0xFFFFFFFF), "over the limit"),
        (b"WVCN", "4 bytes, not 16"),
    ],
)
def test_a_header_that_cannot_be_served_says_why(head: bytes, reason: str) -> None:
    with pytest.raises(FrameError, match=reason):
        body_length(head)


def test_the_limits_themselves_are_served() -> None:
    assert body_length(header(ENV_LIMIT, STDIN_LIMIT)) == ENV_LIMIT + STDIN_LIMIT


def test_a_body_of_another_length_is_refused() -> None:
    with pytest.raises(FrameError, match="2 bytes of body, its header says 3"):
        decode_request(header(1, 2), b"xx")


def test_stderr_is_cut_so_that_the_answer_fits() -> None:
    answer = Answer(1, b"o" * (ANSWER_LIMIT - 10), b"e" * 100)

    assert decode_answer(encode_answer(answer)).stderr == b"e" * 10


def test_stdout_is_never_cut() -> None:
    with pytest.raises(FrameError, match="over"):
        encode_answer(Answer(0, b"o" * (ANSWER_LIMIT + 1)))


@pytest.mark.parametrize("data", [b"", b"WVCN", encode_answer(Answer(0, b"x"))[:-1]])
def test_half_an_answer_is_refused(data: bytes) -> None:
    with pytest.raises(FrameError):
        decode_answer(data)
