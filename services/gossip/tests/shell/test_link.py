"""An established link: frames pass; it dies of silence, blockage, malformed bytes, on request."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from weave_gossip.codec.frames import decode_frame, encode_frame
from weave_gossip.core.effects import LinkId
from weave_gossip.core.messages import Message, Ping, Refusal, RefusalCode, Unicast
from weave_gossip.link.framing import encode_message, read_message
from weave_gossip.link.link import DRAIN_S, LINGER_S, SEND_BUFFER_BYTES, SILENCE_S, EstablishedLink
from weave_model.peer import PeerName

MakeStreams = Callable[..., Any]
ID = LinkId(7)
PING = Ping(1, 2)
NAME = PeerName(b"\x02\0\0\0\0\x01")


class Events:
    def __init__(self) -> None:
        self.seen: asyncio.Queue[Message | Refusal | str] = asyncio.Queue()

    def link_received(self, link: LinkId, message: Message) -> None:
        self.seen.put_nowait(message)

    def link_drained(self, link: LinkId) -> None:
        self.seen.put_nowait("drained")

    def link_ended(self, link: LinkId, refusal: Refusal) -> None:
        self.seen.put_nowait(("ended", refusal))  # type: ignore[arg-type]

    async def next(self) -> Any:
        async with asyncio.timeout(5):
            return await self.seen.get()


async def test_frames_pass_in_both_directions(make_streams: MakeStreams) -> None:
    here, there = await make_streams()
    events = Events()
    link = EstablishedLink(ID, here, events)

    there.write(encode_message(encode_frame(PING)))
    link.send(PING)

    assert await events.next() == PING
    assert decode_frame(await read_message(there)) == PING
    link.close(None)


async def test_the_reason_is_the_last_frame(make_streams: MakeStreams) -> None:
    here, there = await make_streams()
    link = EstablishedLink(ID, here, Events())
    shed = Refusal(RefusalCode.SHED, "one link too many")

    link.close(shed)

    assert decode_frame(await read_message(there)) == shed
    there.finish()
    async with asyncio.timeout(5):
        await link.closed()


async def test_a_closed_link_reports_nothing_more(make_streams: MakeStreams) -> None:
    here, there = await make_streams()
    events = Events()
    link = EstablishedLink(ID, here, events)

    link.close(None)
    there.write(encode_message(encode_frame(PING)))
    there.finish()
    await link.closed()

    assert events.seen.empty()


async def test_a_closing_link_does_not_wait_for_a_peer_that_hangs(
    make_streams: MakeStreams, clock: Any
) -> None:
    here, _ = await make_streams()
    link = EstablishedLink(ID, here, Events())

    link.close(Refusal(RefusalCode.SHUTDOWN, "shutting down"))
    await clock.advance(LINGER_S + 0.1)

    async with asyncio.timeout(1):
        await link.closed()


async def test_a_peer_that_hangs_up_ends_the_link(make_streams: MakeStreams) -> None:
    here, there = await make_streams()
    events = Events()
    EstablishedLink(ID, here, events)

    there.abort()

    assert await events.next() == (
        "ended",
        Refusal(RefusalCode.UNSPECIFIED, "the peer closed the connection"),
    )


@pytest.mark.parametrize(
    ("sent", "reason"),
    [
        (encode_message(b"\xff\xff"), "malformed frame: bytes that are no frame"),
        # A unicast whose source has one byte.
        (encode_message(b"\x42\x03\x0a\x01\x07"), "malformed frame: peer name"),
    ],
)
async def test_malformed_bytes_end_the_link_and_the_peer_is_told(
    make_streams: MakeStreams, sent: bytes, reason: str
) -> None:
    here, there = await make_streams()
    events = Events()
    EstablishedLink(ID, here, events)

    there.write(sent)

    _, refusal = await events.next()
    assert refusal.code is RefusalCode.MALFORMED
    assert reason in refusal.reason
    assert decode_frame(await read_message(there)) == refusal
    there.abort()


async def test_a_frame_that_only_a_newer_release_knows_is_passed_over(
    make_streams: MakeStreams,
) -> None:
    here, there = await make_streams()
    events = Events()
    link = EstablishedLink(ID, here, events)

    # Field 99, length-delimited.
    there.write(encode_message(b"\x9a\x06\x01x"))
    there.write(encode_message(encode_frame(PING)))

    assert await events.next() == PING
    link.close(None)


async def test_silence_ends_the_link(make_streams: MakeStreams, clock: Any) -> None:
    here, there = await make_streams()
    events = Events()
    EstablishedLink(ID, here, events)
    await clock.advance(0)

    await clock.advance(SILENCE_S - 0.5)
    assert events.seen.empty()
    await clock.advance(0.6)

    assert await events.next() == (
        "ended",
        Refusal(RefusalCode.TIMEOUT, "nothing received for 8 s"),
    )
    assert decode_frame(await read_message(there)) is not None


async def test_any_bytes_put_the_end_by_silence_off(make_streams: MakeStreams, clock: Any) -> None:
    here, there = await make_streams()
    events = Events()
    link = EstablishedLink(ID, here, events)

    for _ in range(3):
        await clock.advance(SILENCE_S - 1)
        there.write(encode_message(encode_frame(PING)))
        assert await events.next() == PING

    link.close(None)


async def test_a_process_that_was_stopped_gives_its_peers_a_chance(
    make_streams: MakeStreams, clock: Any
) -> None:
    """After SIGSTOP and SIGCONT all timers are late, and what peers sent waits in the kernel."""
    here, there = await make_streams()
    events = Events()
    link = EstablishedLink(ID, here, events)
    await clock.advance(0)

    there.write(encode_message(encode_frame(PING)))
    await clock.advance(3600)

    assert await events.next() == PING
    assert events.seen.empty()
    link.close(None)


async def fill(link: EstablishedLink) -> None:
    frame = Unicast(NAME, NAME, "topic", bytes(SEND_BUFFER_BYTES), 1)
    while link.send(frame):
        pass


async def test_a_full_buffer_is_told_once_and_so_is_its_end(make_streams: MakeStreams) -> None:
    here, there = await make_streams(send_buffer=4096)
    events = Events()
    link = EstablishedLink(ID, here, events)

    await fill(link)
    assert link.send(PING)
    reading = asyncio.ensure_future(_drop_all(there))

    assert await events.next() == "drained"
    link.close(None)
    reading.cancel()


async def _drop_all(stream: Any) -> None:
    while await stream.read_some():
        pass


async def test_a_peer_that_takes_nothing_is_dropped(make_streams: MakeStreams, clock: Any) -> None:
    here, there = await make_streams(send_buffer=4096)
    events = Events()
    link = EstablishedLink(ID, here, events)
    await fill(link)
    await clock.advance(0)

    # It still talks, so it is not silence that ends the link. In the first period the kernel may
    # still have taken some.
    seen: Any = PING
    while seen == PING:
        there.write(encode_message(encode_frame(PING)))
        await clock.advance(DRAIN_S / 2)
        seen = await events.next()

    assert seen == ("ended", Refusal(RefusalCode.TIMEOUT, "nothing could be sent for 8 s"))


async def test_a_large_frame_goes_through_whole(make_streams: MakeStreams) -> None:
    here, there = await make_streams(send_buffer=4096)
    events, others = Events(), Events()
    link, other = EstablishedLink(ID, here, events), EstablishedLink(ID, there, others)
    message = Unicast(NAME, NAME, "topic", bytes(1_000_000), 1)

    link.send(message)

    assert await others.next() == message
    link.close(None)
    other.close(None)
