"""Messages on a byte stream."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from weave_gossip.core.messages import RefusalCode
from weave_gossip.errors import LinkError
from weave_gossip.link.framing import MAX_MESSAGE_BYTES, encode_message, read_message

MakeStreams = Callable[..., Any]


@pytest.mark.parametrize("payload", [b"", b"x", bytes(100_000), bytes(MAX_MESSAGE_BYTES)])
async def test_a_message_arrives_as_it_was_sent(make_streams: MakeStreams, payload: bytes) -> None:
    here, there = await make_streams()

    here.write(encode_message(payload))

    assert await read_message(there) == payload


async def test_messages_that_arrive_together_are_told_apart(make_streams: MakeStreams) -> None:
    here, there = await make_streams()

    here.write(encode_message(b"one") + encode_message(b"two"))

    assert [await read_message(there), await read_message(there)] == [b"one", b"two"]


def test_a_message_over_the_limit_is_not_sent() -> None:
    with pytest.raises(ValueError, match="1048577 bytes is over the limit"):
        encode_message(bytes(MAX_MESSAGE_BYTES + 1))


async def test_a_length_over_the_limit_is_malformed(make_streams: MakeStreams) -> None:
    here, there = await make_streams()
    here.write((MAX_MESSAGE_BYTES + 1).to_bytes(4, "big"))

    with pytest.raises(LinkError, match="over the limit of 1048576") as caught:
        await read_message(there)

    assert caught.value.refusal.code is RefusalCode.MALFORMED


@pytest.mark.parametrize("sent", [b"", b"\0\0", b"\0\0\0\x05abc"])
async def test_an_end_within_a_message_is_told(make_streams: MakeStreams, sent: bytes) -> None:
    here, there = await make_streams()
    here.write(sent)
    here.finish()

    with pytest.raises(LinkError, match="the peer closed the connection"):
        await read_message(there)


async def test_each_piece_of_a_large_message_counts_as_a_sign_of_life(
    make_streams: MakeStreams, clock: Any
) -> None:
    here, there = await make_streams()
    reading = asyncio.ensure_future(read_message(there))
    message = encode_message(bytes(1000))
    here.write(message[:500])
    await clock.advance(0)
    first = there.received_at

    await clock.advance(7)
    here.write(message[500:])
    await reading

    assert there.received_at - first >= 7
