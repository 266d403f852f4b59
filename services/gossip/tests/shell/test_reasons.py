"""Errors of the network as people read them."""

from __future__ import annotations

import asyncio
import errno
import socket
import ssl

import pytest

from weave_gossip.reasons import words_of

REFUSED = ConnectionRefusedError(errno.ECONNREFUSED, "Connect call failed ('10.0.0.2', 6783)")


def wrapped() -> Exception:
    try:
        raise REFUSED
    except OSError:
        try:
            raise RuntimeError("Error 111 connecting to 10.0.0.2:6379.")
        except RuntimeError as error:
            return error


def no_tls() -> ssl.SSLError:
    incoming = ssl.MemoryBIO()
    stream = ssl.create_default_context().wrap_bio(
        incoming, ssl.MemoryBIO(), server_hostname="peer"
    )
    incoming.write(b"HTTP/1.0 400 Bad Request")
    try:
        stream.do_handshake()
    except ssl.SSLError as error:
        return error
    raise AssertionError("that was TLS")


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (REFUSED, "connection refused"),
        (OSError(errno.EHOSTUNREACH, "whatever"), "no route to host"),
        (OSError(errno.ENETUNREACH, "whatever"), "network is unreachable"),
        (OSError(errno.ETIMEDOUT, "whatever"), "connection timed out"),
        (TimeoutError(), "no answer in time"),
        (socket.gaierror(socket.EAI_NONAME, "Not known"), "not known"),
        (
            OSError(
                "Multiple exceptions: [Errno 111] Connect call failed ('::1', 443, 0, 0), "
                "[Errno 111] Connect call failed ('127.0.0.1', 443)"
            ),
            "connection refused",
        ),
        (wrapped(), "connection refused"),
        (no_tls(), "broken TLS: wrong version number"),
        (ValueError("a text of its own"), "a text of its own"),
        (ValueError(), "ValueError"),
    ],
)
def test_an_error_becomes_words(error: Exception, words: str) -> None:
    assert words_of(error) == words


async def test_what_asyncio_raises_has_no_address_and_no_number(free_port: object) -> None:
    port = free_port()  # type: ignore[operator]

    with pytest.raises(OSError) as caught:
        await asyncio.open_connection("127.0.0.1", port)

    assert words_of(caught.value) == "connection refused"
