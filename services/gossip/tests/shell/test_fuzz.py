"""Whatever the network says: decoders give a value or a ValueError, links a value or their end."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import socket
from collections.abc import Callable
from pathlib import Path
from random import Random

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from services.gossip.tests.shell.conftest import FakeSide, peer_name
from weave.mesh.v1 import mesh_pb2
from weave_gossip.codec import handshake
from weave_gossip.codec.facts import FactsCodec
from weave_gossip.codec.frames import decode_document, decode_frame, encode_frame
from weave_gossip.core.effects import CloseLink, LinkId
from weave_gossip.core.facts import PeerFacts
from weave_gossip.core.mesh import Mesh
from weave_gossip.core.messages import Hello, Message, Refusal
from weave_gossip.core.options import MeshOptions
from weave_gossip.errors import LinkError
from weave_gossip.link.framing import PlainStream, encode_message
from weave_gossip.link.handshake import set_up
from weave_gossip.link.link import EstablishedLink

FROZEN = Path(__file__).parent / "frozen" / "protocol-1.json"
RECORDED = [bytes.fromhex(text) for text in json.loads(FROZEN.read_text()).values()]
CODEC = FactsCodec()
DECODERS: list[Callable[[bytes], object]] = [
    handshake.decode_greeting,
    handshake.decode_hello,
    handshake.decode_verdict,
    decode_frame,
    decode_document,
    CODEC.decode_facts,
    CODEC.decode_links,
    CODEC.decode_removed,
]


@st.composite
def mutated(draw: st.DrawFn) -> bytes:
    """A recorded message with a few bytes changed, added, removed or repeated."""
    data = bytearray(draw(st.sampled_from(RECORDED)))
    for _ in range(draw(st.integers(1, 6))):
        at = draw(st.integers(0, max(0, len(data) - 1)))
        kind = draw(st.sampled_from(["change", "add", "remove", "repeat"]))
        if kind == "add":
            data[at:at] = draw(st.binary(min_size=1, max_size=8))
        elif kind == "repeat":
            data[at:at] = data[at : at + draw(st.integers(1, 64))]
        elif data and kind == "change":
            data[at] = draw(st.integers(0, 255))
        elif data:
            del data[at : at + draw(st.integers(1, 8))]
    return bytes(data)


anything = st.binary(max_size=512) | mutated()
# A run of hours: FUZZ_EXAMPLES=100000 pytest services/gossip/tests/shell/test_fuzz.py --timeout 0
EXAMPLES = int(os.environ.get("FUZZ_EXAMPLES", "100"))
many = settings(max_examples=EXAMPLES, suppress_health_check=[HealthCheck.too_slow])


@pytest.mark.parametrize("decode", DECODERS, ids=lambda decode: decode.__name__)
@many
@given(data=anything)
def test_a_decoder_gives_a_value_or_a_value_error(
    decode: Callable[[bytes], object], data: bytes
) -> None:
    with contextlib.suppress(ValueError):
        decode(data)


def test_names_longer_than_their_hashes_allow_are_malformed() -> None:
    document = mesh_pb2.Document(id=mesh_pb2.DocumentId(topic="t" * 256, writer=peer_name(1)))

    with pytest.raises(ValueError, match="topic or key over 128 bytes"):
        decode_document(document.SerializeToString())


@many
@given(text=st.text(max_size=300))
def test_texts_of_others_cannot_write_lines_of_our_log(text: str) -> None:
    """Names and ranges stand in reasons, and those in logs and on terminals."""
    said = mesh_pb2.Hello(
        name=bytes(peer_name(1)), nickname=text, node_uid=text, listen_port=1, universes=[text]
    )

    hello, _ = handshake.decode_hello(said.SerializeToString())  # type: ignore[misc]
    verdict = mesh_pb2.Verdict(refusal=mesh_pb2.Refusal(reason=text, alternatives=[text]))
    refusal = handshake.decode_verdict(verdict.SerializeToString())

    assert refusal is not None
    texts = [hello.nickname, hello.node_uid, *hello.universes]
    for shown in (*texts, refusal.reason, *refusal.alternatives):
        assert shown.isprintable()
        assert len(shown) <= 300


@many
@given(data=anything)
def test_what_was_decoded_can_be_passed_on(data: bytes) -> None:
    try:
        message = decode_frame(data)
    except ValueError:
        return
    if message is not None:
        assert decode_frame(encode_frame(message)) == message


class Events:
    def __init__(self) -> None:
        self.received: list[Message] = []
        self.ended: list[Refusal] = []

    def link_received(self, link: LinkId, message: Message) -> None:
        self.received.append(message)

    def link_drained(self, link: LinkId) -> None:
        raise AssertionError("nothing was sent")

    def link_ended(self, link: LinkId, refusal: Refusal) -> None:
        self.ended.append(refusal)


async def streams() -> tuple[PlainStream, PlainStream]:
    here, there = socket.socketpair()
    return (
        PlainStream(*await asyncio.open_connection(sock=here)),
        PlainStream(*await asyncio.open_connection(sock=there)),
    )


@many
@given(chunks=st.lists(anything.map(encode_message) | anything, max_size=6))
def test_a_link_ends_once_whatever_it_reads(chunks: list[bytes]) -> None:
    async def scenario() -> Events:
        here, there = await streams()
        events = Events()
        link = EstablishedLink(LinkId(1), here, events)
        there.write(b"".join(chunks))
        there.finish()
        async with asyncio.timeout(5):
            await link.closed()
        there.abort()
        return events

    events = asyncio.run(scenario())

    assert len(events.ended) == 1
    assert events.ended[0].reason


@many
@given(chunks=st.lists(anything.map(encode_message) | anything, max_size=4))
def test_a_handshake_ends_in_a_link_or_a_reason(chunks: list[bytes]) -> None:
    async def scenario() -> str:
        here, there = await streams()
        there.write(b"".join(chunks))
        there.finish()
        try:
            async with asyncio.timeout(20):
                await set_up(here, FakeSide(peer_name(1)), outbound=False)
        except LinkError as error:
            return str(error)
        finally:
            here.abort()
            there.abort()
        return "a link"

    assert asyncio.run(scenario())


def make_mesh() -> Mesh:
    facts = PeerFacts(nickname="node1", instance=b"11111111", listen_port=6783)
    mesh = Mesh(
        name=peer_name(1),
        incarnation=1,
        facts=facts,
        codec=CODEC,
        options=MeshOptions(),
        rng=Random(1),
        now=0.0,
    )
    for number, link in ((2, LinkId(1)), (3, LinkId(2))):
        hello = Hello(peer_name(number), f"node{number}", 1, bytes([number] * 8), 6783)
        mesh.link_established(
            link, hello, outbound=False, address="10.0.0.1:1", epoch=number, now=0.0
        )
    mesh.take_effects()
    return mesh


@many
@given(frames=st.lists(anything, max_size=8))
def test_the_core_closes_only_the_link_that_misbehaves(frames: list[bytes]) -> None:
    mesh = make_mesh()

    for now, data in enumerate(frames):
        try:
            message = decode_frame(data)
        except ValueError:
            continue
        if message is not None:
            mesh.receive(LinkId(1), message, now / 100)
    mesh.tick(0.2)

    closed = {effect.link for effect in mesh.take_effects() if isinstance(effect, CloseLink)}
    assert closed <= {LinkId(1)}
