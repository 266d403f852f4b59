"""From a fresh TCP connection to a link both sides have accepted: steps 1 to 4 of ADR 0001.

    greeting  --judge-->  TLS (with a common key)  -->  hello  --judge-->  verdict  -->  frames

Each step has its own deadline, so that nobody holds a connection by saying nothing. A side that
refuses says so before it hangs up; a side that is refused learns the reason. Who may have a link is
decided by the `Side` (the core); what is wrong with the bytes is decided here.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from typing import Protocol

from weave_gossip.codec.handshake import (
    decode_greeting,
    decode_hello,
    decode_verdict,
    encode_greeting,
    encode_hello,
    encode_refusal,
    encode_verdict,
)
from weave_gossip.core.messages import Hello, Refusal, RefusalCode
from weave_gossip.errors import LinkError
from weave_gossip.link.framing import (
    CLOSED_BY_PEER,
    MAX_GREETING_BYTES,
    MAX_HELLO_BYTES,
    ByteStream,
    PlainStream,
    encode_message,
    network_refusal,
    read_message,
)
from weave_gossip.link.greeting import Agreement, Greeting, greeting_digest, judge
from weave_gossip.link.tls import TlsContexts, TlsStream

# ADR 0001. Two round trips of a second each and a busy machine fit; a stalled peer is given up
# soon.
STEP_S = 5.0
NONCE_BYTES = 16


class Side(Protocol):
    """This peer, as far as a handshake needs to know it."""

    @property
    def greeting(self) -> Greeting:
        """Without the nonce, which is made anew for each link."""
        ...

    @property
    def contexts(self) -> Mapping[bytes, TlsContexts]:
        """By key id, one per secret."""
        ...

    def own_hello(self, epoch: int) -> Hello:
        """What to say; `epoch` is 0 on links that the other side dialled."""
        ...

    def judge_hello(self, hello: Hello, *, outbound: bool, epoch: int) -> Refusal | None:
        """None accepts. `epoch` is the dialler's."""
        ...


@dataclass(frozen=True, slots=True)
class Agreed:
    """A link that both sides have accepted; frames follow on `stream`."""

    stream: ByteStream
    hello: Hello
    epoch: int
    protocol: int
    encrypted: bool


async def set_up(plain: PlainStream, side: Side, *, outbound: bool, epoch: int = 0) -> Agreed:
    """Goes through all steps. Raises LinkError, after the other side was told why.

    The stream is the caller's to abort in any case but success.
    """
    agreement, digest = await _greet(plain, side, outbound=outbound)
    stream: ByteStream = plain
    name_in_certificate = None
    if agreement.key_id is not None:
        context = side.contexts[agreement.key_id]
        tls = TlsStream(
            plain, context.dialling if outbound else context.listening, server_side=not outbound
        )
        async with _step("TLS"):
            await tls.handshake()
        stream, name_in_certificate = tls, tls.peer_common_name()
    try:
        async with _step("hello"):
            stream.write(encode_message(encode_hello(side.own_hello(epoch), digest)))
            hello, their_digest = await _read_hello(stream)
    except LinkError as error:
        if error.refusal.code is RefusalCode.MALFORMED and not error.told_by_peer:
            await _tell(stream, encode_refusal(error.refusal))
        raise
    epoch = epoch if outbound else hello.link_epoch
    refusal = _check_integrity(hello, digest, their_digest, name_in_certificate)
    refusal = refusal or side.judge_hello(hello, outbound=outbound, epoch=epoch)
    async with _step("verdict"):
        await _exchange_verdicts(stream, refusal)
    return Agreed(stream, hello, epoch, agreement.protocol, agreement.key_id is not None)


async def _greet(plain: PlainStream, side: Side, *, outbound: bool) -> tuple[Agreement, bytes]:
    mine = replace(side.greeting, nonce=os.urandom(NONCE_BYTES))
    my_bytes = encode_greeting(mine)
    async with _step("greeting"):
        plain.write(encode_message(my_bytes))
        try:
            their_bytes = await read_message(plain, MAX_GREETING_BYTES)
            theirs = decode_greeting(their_bytes)
        except ValueError:
            theirs, their_bytes = Greeting(magic=0), b""
        except LinkError as error:
            if error.refusal.code is not RefusalCode.MALFORMED:
                raise
            theirs, their_bytes = Greeting(magic=0), b""
    outcome = judge(mine, theirs)
    if isinstance(outcome, Refusal):
        if outcome.code is not RefusalCode.NOT_WEAVE:
            await _tell(plain, encode_refusal(outcome))
        raise LinkError(outcome)
    both = (my_bytes, their_bytes) if outbound else (their_bytes, my_bytes)
    return outcome, greeting_digest(*both)


async def _read_hello(stream: ByteStream) -> tuple[Hello, bytes]:
    data = await read_message(stream, MAX_HELLO_BYTES)
    try:
        decoded = decode_hello(data)
    except ValueError as error:
        raise LinkError(Refusal(RefusalCode.MALFORMED, f"malformed hello: {error}")) from error
    if isinstance(decoded, Refusal):
        raise LinkError(decoded, told_by_peer=True)
    return decoded


def _check_integrity(
    hello: Hello, digest: bytes, their_digest: bytes, name_in_certificate: str | None
) -> Refusal | None:
    if their_digest != digest:
        return Refusal(RefusalCode.TAMPERED, "the hello belongs to another greeting")
    if name_in_certificate is not None and name_in_certificate != str(hello.name):
        reason = f"the hello names {hello.name}, the certificate {name_in_certificate[:32]!r}"
        return Refusal(RefusalCode.TAMPERED, reason)
    return None


async def _exchange_verdicts(stream: ByteStream, refusal: Refusal | None) -> None:
    stream.write(encode_message(encode_verdict(refusal)))
    # Also a side that refuses reads the other's verdict: hanging up with bytes unread would reset
    # the connection and might take our verdict with it.
    try:
        theirs = decode_verdict(await read_message(stream, MAX_HELLO_BYTES))
    except (LinkError, ValueError) as error:
        if refusal is not None:
            raise LinkError(refusal) from error
        if isinstance(error, LinkError):
            raise
        raise LinkError(Refusal(RefusalCode.MALFORMED, f"malformed verdict: {error}")) from error
    if refusal is not None:
        stream.finish()
        raise LinkError(refusal)
    if theirs is not None:
        raise LinkError(theirs, told_by_peer=True)


async def _tell(stream: ByteStream, message: bytes) -> None:
    """Sends a last message and waits until the other side has hung up, within the step's time."""
    try:
        async with asyncio.timeout(STEP_S):
            stream.write(encode_message(message))
            stream.finish()
            while True:
                await stream.read_exactly(MAX_GREETING_BYTES)
    except (OSError, LinkError, asyncio.IncompleteReadError):
        # It has hung up or never will.
        return


@asynccontextmanager
async def _step(name: str) -> AsyncIterator[None]:
    """One step with its deadline; whatever the network does becomes a LinkError."""
    try:
        async with asyncio.timeout(STEP_S):
            yield
    except TimeoutError as error:
        reason = f"no {name} within {STEP_S:g} s"
        raise LinkError(Refusal(RefusalCode.TIMEOUT, reason)) from error
    except asyncio.IncompleteReadError as error:
        raise LinkError(CLOSED_BY_PEER) from error
    except OSError as error:
        raise LinkError(network_refusal(error)) from error
