"""Peers of other releases: recorded messages of protocol 1 stay what they are, and what only a
newer release knows is passed on untouched.

frozen/protocol-1.json was recorded when protocol 1 was released. It is never recorded anew: a test
here that fails means that running meshes would break.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from functools import partial
from pathlib import Path

import pytest

from services.gossip.tests.shell import frozen_values as values
from services.gossip.tests.shell.cluster import Node
from services.gossip.tests.shell.scripted import ScriptedPeer
from weave.gossip.v1 import gossip_pb2
from weave.mesh.v1 import mesh_pb2
from weave_gossip.codec.facts import FactsCodec
from weave_gossip.codec.frames import decode_frame, encode_frame
from weave_gossip.codec.handshake import (
    decode_greeting,
    decode_hello,
    decode_verdict,
    encode_greeting,
    encode_hello,
    encode_verdict,
)
from weave_gossip.link.framing import PlainStream, encode_message, read_message
from weave_gossip.link.greeting import Greeting

RECORDED: dict[str, bytes] = {
    name: bytes.fromhex(text)
    for name, text in json.loads(
        (Path(__file__).parent / "frozen" / "protocol-1.json").read_text()
    ).items()
}
CODEC = FactsCodec()
Nodes = Callable[[int], list[Node]]
Dial = Callable[..., Awaitable[ScriptedPeer]]


@pytest.mark.parametrize("body", values.FRAMES)
def test_recorded_frames_mean_what_they_meant(body: str) -> None:
    recorded = RECORDED[f"frame {body}"]

    assert decode_frame(recorded) == values.FRAMES[body]
    assert encode_frame(values.FRAMES[body]) == recorded


def test_the_recorded_handshake_means_what_it_meant() -> None:
    assert decode_greeting(RECORDED["greeting"]) == values.GREETING
    assert decode_hello(RECORDED["hello"]) == (values.HELLO, values.HELLO_DIGEST)
    assert decode_verdict(RECORDED["verdict accepted"]) is None
    assert decode_verdict(RECORDED["verdict refused"]) == values.LIMIT

    assert encode_greeting(values.GREETING) == RECORDED["greeting"]
    assert encode_hello(values.HELLO, values.HELLO_DIGEST) == RECORDED["hello"]
    assert encode_verdict(None) == RECORDED["verdict accepted"]
    assert encode_verdict(values.LIMIT) == RECORDED["verdict refused"]


def test_recorded_facts_mean_what_they_meant() -> None:
    assert CODEC.decode_facts(RECORDED["facts"]) == values.FACTS
    assert CODEC.decode_links(RECORDED["links"]) == values.LINKS
    assert CODEC.decode_removed(RECORDED["removed"]) == values.REMOVED

    assert CODEC.encode_facts(values.FACTS) == RECORDED["facts"]
    assert CODEC.encode_links(values.LINKS) == RECORDED["links"]
    assert CODEC.encode_removed(values.REMOVED) == RECORDED["removed"]


@pytest.fixture
async def dial() -> AsyncIterator[Dial]:
    """`await dial(node, greeting, hello)`: a scripted peer with an accepted link."""
    peers: list[ScriptedPeer] = []

    async def make(
        node: Node, greeting: mesh_pb2.Greeting, hello: mesh_pb2.Hello, unknown: bytes = b""
    ) -> ScriptedPeer:
        peer = await ScriptedPeer.dial(
            node.config.port,
            greeting.SerializeToString() + unknown,
            hello.SerializeToString() + unknown,
        )
        peers.append(peer)
        return peer

    yield make
    for peer in peers:
        await peer.leave()


def greeting(**changes: int) -> mesh_pb2.Greeting:
    settings = {"magic": 0x57454156, "min_protocol": 1, "max_protocol": 1} | changes
    return mesh_pb2.Greeting(**settings)  # type: ignore[arg-type]


def hello(number: int, **changes: object) -> mesh_pb2.Hello:
    settings: dict[str, object] = {
        "name": bytes([2, 0, 0, 0, 0, number]),
        "nickname": f"scripted{number}",
        "incarnation": 1,
        "instance": bytes([number] * 8),
        "listen_port": 6783,
        "link_epoch": 1,
    }
    return mesh_pb2.Hello(**settings | changes)  # type: ignore[arg-type]


# Field 99 of whatever message it is in.
UNKNOWN = b"\x9a\x06\x06future"


async def test_a_peer_without_later_fields_is_served(nodes: Nodes, dial: Dial) -> None:
    """As the first release of protocol 1 spoke: no nonce, no alternatives."""
    [node] = nodes(1)
    await node.start()

    old = await dial(node, greeting(), hello(9))
    await node.publish("ring", "4", b"payload")

    assert old.verdict.accepted
    assert old.their_hello.nickname == "node0"
    assert (await old.hears_document("ring")).payload == b"payload"
    assert (await old.hears("ping")).ping.nonce


async def test_a_peer_of_a_newer_release_speaks_the_older_protocol_with_us(
    nodes: Nodes, dial: Dial
) -> None:
    [node] = nodes(1)
    await node.start()

    newer = await dial(
        node, greeting(max_protocol=7), hello(9, features=["from-the-future"]), UNKNOWN
    )
    # A frame body, then a field, that only it knows.
    newer.say(UNKNOWN)
    newer.say(mesh_pb2.Frame(ping=mesh_pb2.Ping(nonce=5)).SerializeToString() + UNKNOWN)

    assert newer.verdict.accepted
    assert (await newer.hears("pong")).pong.nonce == 5
    status = await node.status()
    assert [each.state for each in status.connections] == [gossip_pb2.CONNECTION_STATE_ESTABLISHED]


async def test_a_release_of_the_next_protocol_serves_a_recorded_peer_of_this_one(
    nodes: Nodes, dial: Dial, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every frame as it was recorded, said to a peer that has already moved on."""
    later = partial(Greeting, min_protocol=1, max_protocol=2)
    monkeypatch.setattr("weave_gossip.node.Greeting", later)
    [node] = nodes(1)
    await node.start(cluster_id="blue")
    first = mesh_pb2.Greeting.FromString(RECORDED["greeting"])
    # The recording has a secret, whose handshake cannot be recorded.
    first.ClearField("key_ids")

    old = await dial(node, first, mesh_pb2.Hello.FromString(RECORDED["hello"]))
    for name, data in RECORDED.items():
        if name.startswith("frame ") and "close" not in name:
            old.say(data)
    old.say(mesh_pb2.Frame(ping=mesh_pb2.Ping(nonce=77)))

    assert old.verdict.accepted
    assert old.their_greeting.max_protocol == 2
    while (await old.hears("pong")).pong.nonce != 77:
        pass
    status = await node.status()
    assert [each.state for each in status.connections] == [gossip_pb2.CONNECTION_STATE_ESTABLISHED]
    assert status.terminated_connections == 0


async def test_a_peer_that_speaks_no_common_protocol_is_told_so(nodes: Nodes) -> None:
    [node] = nodes(1)
    await node.start()
    stream = PlainStream(*await asyncio.open_connection("127.0.0.1", node.config.port))
    stream.write(encode_message(greeting(min_protocol=2, max_protocol=3).SerializeToString()))
    await read_message(stream)
    refusal = mesh_pb2.Refusal.FromString(await read_message(stream))
    stream.abort()

    assert refusal.code == mesh_pb2.REFUSAL_CODE_PROTOCOL
    assert refusal.reason == "no common protocol version: here 1..1, there 2..3"


async def test_unknown_topics_and_fields_are_forwarded_byte_for_byte(
    nodes: Nodes, dial: Dial
) -> None:
    members = nodes(2)
    await members[0].start()
    await members[1].start(members[0].address)
    await members[1].until_connected(2)
    writer = await dial(members[0], greeting(), hello(9))
    reader = await dial(members[1], greeting(), hello(8))
    document = mesh_pb2.Document(
        id=mesh_pb2.DocumentId(topic="from-the-future", writer=hello(9).name, key="k"),
        incarnation=1,
        version=1,
        payload=b"opaque",
    )
    document.MergeFromString(UNKNOWN)

    writer.say(mesh_pb2.Frame(documents=mesh_pb2.Documents(documents=[document])))
    received = await reader.hears_document("from-the-future")

    assert received.SerializeToString() == document.SerializeToString()
    assert UNKNOWN in received.SerializeToString()


async def test_a_reason_of_a_newer_release_is_shown_as_it_is(nodes: Nodes, dial: Dial) -> None:
    [node] = nodes(1)
    await node.start()
    newer = await dial(node, greeting(), hello(9))

    refusal = mesh_pb2.Refusal(reason="the moon is\nfull")
    refusal.code = 99  # type: ignore[assignment]
    newer.say(mesh_pb2.Frame(close=refusal))

    await node.until(lambda status: status.terminated_connections == 1)
