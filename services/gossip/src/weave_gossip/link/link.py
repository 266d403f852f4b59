"""An established link: frames in, frames out, and the rules by which it dies.

Silence for SILENCE_S ends it (peers ping every two seconds), and so does a send buffer that the
other side does not empty at all for as long. Both are measured in bytes that move, not in whole
messages, so that a large message on a slow line is not mistaken for a dead peer.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from typing import Protocol

from weave_gossip.codec.frames import decode_frame, encode_frame
from weave_gossip.core.effects import LinkId
from weave_gossip.core.messages import Message, Refusal, RefusalCode
from weave_gossip.errors import LinkError
from weave_gossip.link.framing import ByteStream, encode_message, read_message

log = logging.getLogger(__name__)

# ADR 0001: with a ping every 2 s, four missed answers; noticed within 10 s with time to spare.
SILENCE_S = 8.0
DRAIN_S = 8.0
# The core hears "blocked" above this and sends no more documents: what one link may hold back is
# this plus one batch of effects.
SEND_BUFFER_BYTES = 256 << 10
# How long a closing link may take to get its last frame out.
LINGER_S = 1.0
# A timer this much late means that we were stopped (SIGSTOP, a suspended machine), so the silence
# may be ours: bytes that wait in the kernel get a chance first.
_LATE_S = 1.0


class LinkEvents(Protocol):
    """Where a link reports; calls come from the event loop, never from within `send`."""

    def link_received(self, link: LinkId, message: Message) -> None:
        """A well-formed frame came in."""
        ...

    def link_drained(self, link: LinkId) -> None:
        """The send buffer that had been full is nearly empty."""
        ...

    def link_ended(self, link: LinkId, refusal: Refusal) -> None:
        """The link is gone. Once, and not after `close`."""
        ...


class EstablishedLink:
    """Owns the stream and its tasks from the accepted verdict to the end."""

    def __init__(self, link_id: LinkId, stream: ByteStream, events: LinkEvents) -> None:
        self.id = link_id
        self._stream = stream
        self._events = events
        self._loop = asyncio.get_running_loop()
        self._is_closed = False
        self._drain: asyncio.Task[None] | None = None
        self._reader = self._loop.create_task(self._read(), name=f"link {link_id}")
        self._watchdog = self._arm(SILENCE_S, self._check_silence)

    def send(self, message: Message) -> bool:
        """Queues a frame. False: the buffer has just become full; `link_drained` follows."""
        if self._is_closed:
            return True
        self._stream.write(encode_message(encode_frame(message)))
        if self._drain is not None or self._stream.unsent <= SEND_BUFFER_BYTES:
            return True
        self._drain = self._loop.create_task(self._wait_until_drained(), name=f"drain {self.id}")
        return False

    def close(self, refusal: Refusal | None) -> None:
        """Sends the reason as the last frame, as far as the socket takes it soon. Idempotent."""
        if self._is_closed:
            return
        if refusal is not None:
            self._stream.write(encode_message(encode_frame(refusal)))
        self._stop()
        self._stream.finish()
        self._loop.call_later(LINGER_S, self._stream.abort)

    async def closed(self) -> None:
        """Waits until the reader has ended."""
        await asyncio.wait({self._reader})

    async def _read(self) -> None:
        try:
            while True:
                data = await read_message(self._stream)
                # After close we read on, so that unread bytes do not reset our last frame away.
                if not self._is_closed:
                    self._handle(data)
        except LinkError as error:
            self._end(error.refusal)
        except Exception:
            log.exception("a frame could not be handled")
            self._end(Refusal(RefusalCode.UNSPECIFIED, "internal error: see the log"))

    def _handle(self, data: bytes) -> None:
        try:
            message = decode_frame(data)
        except ValueError as error:
            refusal = Refusal(RefusalCode.MALFORMED, f"malformed frame: {error}")
            self._events.link_ended(self.id, refusal)
            self.close(refusal)
            return
        if message is not None:
            self._events.link_received(self.id, message)

    async def _wait_until_drained(self) -> None:
        try:
            while True:
                unsent = self._stream.unsent
                try:
                    async with asyncio.timeout(DRAIN_S):
                        await self._stream.drain()
                    break
                except TimeoutError:
                    if self._stream.unsent >= unsent:
                        raise
        except TimeoutError:
            reason = f"nothing could be sent for {DRAIN_S:g} s"
            self._end(Refusal(RefusalCode.TIMEOUT, reason))
            return
        except OSError:
            # The reader sees the same and ends the link.
            return
        self._drain = None
        if not self._is_closed:
            self._events.link_drained(self.id)

    def _check_silence(self, due: float) -> None:
        now = self._loop.time()
        silent_s = now - self._stream.received_at
        if silent_s < SILENCE_S:
            self._watchdog = self._arm(SILENCE_S - silent_s, self._check_silence)
        elif now - due > _LATE_S:
            self._watchdog = self._arm(_LATE_S, self._check_silence)
        else:
            reason = f"nothing received for {SILENCE_S:g} s"
            refusal = Refusal(RefusalCode.TIMEOUT, reason)
            if not self._is_closed:
                self._events.link_ended(self.id, refusal)
                self.close(refusal)

    def _arm(self, delay_s: float, callback: Callable[[float], None]) -> asyncio.TimerHandle:
        due = self._loop.time() + delay_s
        return self._loop.call_at(due, callback, due)

    def _end(self, refusal: Refusal) -> None:
        """The stream is of no use any more."""
        self._stream.abort()
        if not self._is_closed:
            self._stop()
            self._events.link_ended(self.id, refusal)

    def _stop(self) -> None:
        self._is_closed = True
        self._watchdog.cancel()
        if self._drain is not None and self._drain is not asyncio.current_task():
            self._drain.cancel()
