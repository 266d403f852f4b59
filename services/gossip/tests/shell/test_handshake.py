"""From a fresh connection to a link both sides have accepted, or a reason both sides know."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from weave_gossip.codec.handshake import (
    decode_hello,
    encode_greeting,
    encode_hello,
    encode_refusal,
    encode_verdict,
)
from weave_gossip.core.messages import Refusal, RefusalCode
from weave_gossip.errors import LinkError
from weave_gossip.link.framing import MAX_HELLO_BYTES, PlainStream, encode_message, read_message
from weave_gossip.link.greeting import Greeting
from weave_gossip.link.handshake import STEP_S, Agreed, set_up

MakeStreams = Callable[..., Any]
MakeSide = Callable[..., Any]
LIMIT = Refusal(RefusalCode.LIMIT, "Connection limit reached (1)")


async def meet(
    streams: tuple[PlainStream, PlainStream], dialler: Any, listener: Any, epoch: int = 5
) -> list[Agreed | BaseException]:
    here, there = streams
    outcomes = await asyncio.gather(
        set_up(here, dialler, outbound=True, epoch=epoch),
        set_up(there, listener, outbound=False),
        return_exceptions=True,
    )
    return list(outcomes)


def refusals(outcomes: list[Agreed | BaseException]) -> list[tuple[RefusalCode, str, bool]]:
    errors = [outcome for outcome in outcomes if isinstance(outcome, LinkError)]
    return [(each.refusal.code, each.refusal.reason, each.told_by_peer) for each in errors]


@pytest.mark.parametrize("secret", [None, "secret"])
async def test_peers_that_suit_get_a_link(
    make_streams: MakeStreams, make_side: MakeSide, secret: str | None
) -> None:
    secrets = [secret] if secret else []
    dialler, listener = make_side(1, *secrets), make_side(2, *secrets)

    here, there = await meet(await make_streams(), dialler, listener)

    assert isinstance(here, Agreed)
    assert isinstance(there, Agreed)
    assert (here.hello.name, there.hello.name) == (listener.name, dialler.name)
    assert here.encrypted is there.encrypted is bool(secret)
    here.stream.write(b"frame")
    assert await there.stream.read_exactly(5) == b"frame"


async def test_both_sides_judge_with_the_epoch_of_the_dialler(
    make_streams: MakeStreams, make_side: MakeSide
) -> None:
    dialler, listener = make_side(1), make_side(2)

    here, there = await meet(await make_streams(), dialler, listener, epoch=77)

    assert [judged[1:] for judged in dialler.judged + listener.judged] == [(True, 77), (False, 77)]
    assert isinstance(here, Agreed)
    assert isinstance(there, Agreed)
    assert here.epoch == there.epoch == 77


@pytest.mark.parametrize("slow_one", [0, 1])
async def test_a_refused_hello_is_explained_to_both(
    make_streams: MakeStreams, make_side: MakeSide, slow_one: int
) -> None:
    sides = [make_side(1), make_side(2)]
    sides[slow_one].verdict = LIMIT

    outcomes = await meet(await make_streams(), *sides)

    told = [False, True] if slow_one == 0 else [True, False]
    assert refusals(outcomes) == [(LIMIT.code, LIMIT.reason, each) for each in told]


@pytest.mark.parametrize(
    ("ours", "theirs", "expected"),
    [
        (["a"], ["b"], [RefusalCode.SECRET_WRONG] * 2),
        (["a"], [], [RefusalCode.SECRET_MISSING, RefusalCode.SECRET_UNWANTED]),
        ([], ["a"], [RefusalCode.SECRET_UNWANTED, RefusalCode.SECRET_MISSING]),
    ],
)
async def test_secrets_that_differ_are_told_on_both_sides(
    make_streams: MakeStreams,
    make_side: MakeSide,
    ours: list[str],
    theirs: list[str],
    expected: list[RefusalCode],
) -> None:
    outcomes = await meet(await make_streams(), make_side(1, *ours), make_side(2, *theirs))

    assert [code for code, _, _ in refusals(outcomes)] == expected


async def test_a_rotation_keeps_every_pair_connected(
    make_streams: MakeStreams, make_side: MakeSide
) -> None:
    old, both, new = make_side(1, "old"), make_side(2, "new", "old"), make_side(3, "new")

    for pair in [(old, both), (both, old), (both, new), (new, both), (both, both)]:
        outcomes = await meet(await make_streams(), *pair)
        assert refusals(outcomes) == []


async def test_who_knows_only_the_key_id_is_found_out(
    make_streams: MakeStreams, make_side: MakeSide
) -> None:
    """The greeting is in the clear, so anybody can repeat a key id."""
    honest, liar = make_side(1, "secret"), make_side(2, "guess")
    key_id = honest.greeting.key_ids[0]
    liar.greeting = replace(liar.greeting, key_ids=(key_id,))
    liar.contexts = {key_id: next(iter(liar.contexts.values()))}

    for pair in [(honest, liar), (liar, honest)]:
        outcomes = await meet(await make_streams(), *pair)
        assert {code for code, _, _ in refusals(outcomes)} == {RefusalCode.SECRET_WRONG}
        assert len(refusals(outcomes)) == 2


async def test_a_name_that_is_not_the_certificates_is_refused(
    make_streams: MakeStreams, make_side: MakeSide
) -> None:
    honest, liar = make_side(1, "secret"), make_side(2, "secret", hello_name=make_side(3).name)

    outcomes = await meet(await make_streams(), honest, liar)

    assert [code for code, _, _ in refusals(outcomes)] == [RefusalCode.TAMPERED] * 2
    assert "the hello names 02:00:00:00:00:03, the certificate '02:00:00:00:00:02'" in str(outcomes)


async def test_a_recorded_hello_does_not_fit_another_greeting(
    make_streams: MakeStreams, make_side: MakeSide
) -> None:
    here, there = await make_streams()
    victim, recorded = make_side(1), make_side(2)
    outcome = asyncio.ensure_future(set_up(there, victim, outbound=False))

    here.write(encode_message(encode_greeting(recorded.greeting)))
    here.write(encode_message(encode_hello(recorded.own_hello(1), bytes(32))))
    here.write(encode_message(encode_verdict(None)))

    with pytest.raises(LinkError, match="belongs to another greeting") as caught:
        await outcome
    assert caught.value.refusal.code is RefusalCode.TAMPERED
    assert victim.judged == []


@pytest.mark.parametrize(
    "sent",
    [
        b"GET / HTTP/1.1\r\n\r\n",
        b"SSH-2.0-OpenSSH_9.2\r\n",
        encode_message(b"\xff\xff\xff"),
        b"\0\0\0\0",
    ],
)
async def test_what_is_not_weave_is_named_so(
    make_streams: MakeStreams, make_side: MakeSide, sent: bytes
) -> None:
    here, there = await make_streams()
    here.write(sent)

    with pytest.raises(LinkError, match="does not speak the weave protocol") as caught:
        await set_up(there, make_side(1), outbound=False)

    assert caught.value.refusal.code is RefusalCode.NOT_WEAVE


@pytest.mark.parametrize("hello", [b"\xff", b"", b"\x0a\x03abc"])
async def test_a_malformed_hello_is_answered_with_the_reason(
    make_streams: MakeStreams, make_side: MakeSide, hello: bytes
) -> None:
    here, there = await make_streams()
    outcome = asyncio.ensure_future(set_up(there, make_side(1), outbound=False))
    here.write(encode_message(encode_greeting(Greeting())))
    here.write(encode_message(hello))
    for _ in range(2):
        await read_message(here)

    answer = decode_hello(await read_message(here))
    here.finish()

    assert isinstance(answer, Refusal)
    assert answer.code is RefusalCode.MALFORMED
    with pytest.raises(LinkError, match="malformed hello"):
        await outcome


async def test_a_hello_over_the_limit_is_refused_before_it_is_held(
    make_streams: MakeStreams, make_side: MakeSide
) -> None:
    """Anybody may say one where no secret is set: frames have the larger limit, strangers not."""
    here, there = await make_streams()
    outcome = asyncio.ensure_future(set_up(there, make_side(1), outbound=False))
    here.write(encode_message(encode_greeting(Greeting())))
    here.write((MAX_HELLO_BYTES + 1).to_bytes(4, "big"))
    for _ in range(2):
        await read_message(here)

    answer = decode_hello(await read_message(here))
    here.finish()

    assert answer == Refusal(
        RefusalCode.MALFORMED, "message of 65537 bytes, over the limit of 65536"
    )
    with pytest.raises(LinkError, match="over the limit"):
        await outcome


async def test_who_is_refused_for_a_malformed_hello_cannot_hide_the_reason(
    make_streams: MakeStreams, make_side: MakeSide, clock: Any
) -> None:
    """It does not hang up; what is shown is still what was wrong, and not a deadline."""
    here, there = await make_streams()
    outcome = asyncio.ensure_future(set_up(there, make_side(1), outbound=False))
    here.write(encode_message(encode_greeting(Greeting())))
    here.write(encode_message(b"\xff"))
    for _ in range(3):
        await read_message(here)

    await clock.advance(STEP_S + 1)

    with pytest.raises(LinkError, match="malformed hello"):
        await outcome


async def test_a_refusal_in_place_of_a_hello_is_understood(
    make_streams: MakeStreams, make_side: MakeSide
) -> None:
    """A newer release may refuse what this one would accept."""
    here, there = await make_streams()
    refusal = Refusal(RefusalCode.CLUSTER, "another cluster: here 'x', there ''")
    here.write(encode_message(encode_greeting(Greeting())))
    here.write(encode_message(encode_refusal(refusal)))

    with pytest.raises(LinkError) as caught:
        await set_up(there, make_side(1), outbound=False)

    assert caught.value.refusal == refusal
    assert caught.value.told_by_peer


@pytest.mark.parametrize(
    ("said", "awaited"),
    [
        ([], "greeting"),
        ([encode_greeting(Greeting())], "hello"),
    ],
)
async def test_each_step_has_its_deadline(
    make_streams: MakeStreams, make_side: MakeSide, clock: Any, said: list[bytes], awaited: str
) -> None:
    here, there = await make_streams()
    for message in said:
        here.write(encode_message(message))
    outcome = asyncio.ensure_future(set_up(there, make_side(1), outbound=False))
    await clock.advance(0)

    await clock.advance(STEP_S + 0.1)

    with pytest.raises(LinkError, match=f"no {awaited} within 5 s") as caught:
        async with asyncio.timeout(1):
            await outcome
    assert caught.value.refusal.code is RefusalCode.TIMEOUT


async def test_a_silent_tls_handshake_has_its_deadline(
    make_streams: MakeStreams, make_side: MakeSide, clock: Any
) -> None:
    here, there = await make_streams()
    side = make_side(1, "secret")
    here.write(encode_message(encode_greeting(side.greeting)))
    outcome = asyncio.ensure_future(set_up(there, side, outbound=False))
    await clock.advance(0)

    await clock.advance(STEP_S + 0.1)

    with pytest.raises(LinkError, match="no TLS within 5 s"):
        async with asyncio.timeout(1):
            await outcome


async def test_a_peer_that_leaves_during_tls_is_no_unexpected_failure(
    make_streams: MakeStreams, make_side: MakeSide
) -> None:
    here, there = await make_streams()
    side = make_side(1, "secret")
    here.write(encode_message(encode_greeting(side.greeting)))
    here.finish()

    with pytest.raises(LinkError, match="the peer closed the connection"):
        await set_up(there, side, outbound=False)
