"""Greeting, Hello, Verdict and Refusal: wire form and back.

Every `decode_` raises ValueError for bytes that are not such a message.
"""

from __future__ import annotations

from google.protobuf.message import DecodeError

from weave.mesh.v1 import mesh_pb2
from weave_gossip.codec.text import MAX_NICKNAME, MAX_REASON, printable
from weave_gossip.core.messages import Hello, Refusal, RefusalCode
from weave_gossip.link.greeting import Greeting
from weave_model.peer import PeerName

_KNOWN_CODES = frozenset(map(int, RefusalCode))
# Where a refused peer may try instead: a hint, so a few will do.
_MAX_ALTERNATIVES = 8
# A node has an underlay address of each family, or a few.
_MAX_ADDRESSES = 8
# A release has a handful; each is a short word.
_MAX_FEATURES = 256
_ADDRESS_BYTES = (4, 16)


def encode_greeting(greeting: Greeting) -> bytes:
    """The bytes that go on the wire, and into the greeting digest."""
    return mesh_pb2.Greeting(
        magic=greeting.magic,
        min_protocol=greeting.min_protocol,
        max_protocol=greeting.max_protocol,
        cluster_id=greeting.cluster_id,
        key_ids=greeting.key_ids,
        nonce=greeting.nonce,
    ).SerializeToString()


def decode_greeting(data: bytes) -> Greeting:
    """A greeting with any magic; `judge` looks at it."""
    message = mesh_pb2.Greeting()
    _parse(message, data)
    return Greeting(
        magic=message.magic,
        min_protocol=message.min_protocol,
        max_protocol=message.max_protocol,
        cluster_id=message.cluster_id,
        key_ids=tuple(message.key_ids),
        nonce=message.nonce,
    )


def encode_hello(hello: Hello, greeting_digest: bytes) -> bytes:
    """The Hello of this side."""
    return mesh_pb2.Hello(
        name=hello.name,
        nickname=hello.nickname,
        incarnation=hello.incarnation,
        instance=hello.instance,
        node_uid=hello.node_uid,
        features=hello.features,
        universes=hello.universes,
        underlay_addresses=hello.underlay_addresses,
        listen_port=hello.listen_port,
        greeting_digest=greeting_digest,
        link_epoch=hello.link_epoch,
    ).SerializeToString()


def decode_hello(data: bytes) -> tuple[Hello, bytes] | Refusal:
    """The other side's Hello with its greeting digest, or the refusal it sent in its place."""
    message = mesh_pb2.Hello()
    _parse(message, data)
    if not message.name and (refusal := _refusal_in_place_of(data)):
        return refusal
    if any(len(address) not in _ADDRESS_BYTES for address in message.underlay_addresses):
        raise ValueError("an underlay address has neither 4 nor 16 bytes")
    if len(message.underlay_addresses) > _MAX_ADDRESSES or len(message.features) > _MAX_FEATURES:
        raise ValueError("too many addresses or features")
    if not 0 < message.listen_port < 1 << 16:
        raise ValueError(f"listen port {message.listen_port}")
    hello = Hello(
        name=PeerName(message.name),
        nickname=printable(message.nickname, MAX_NICKNAME),
        incarnation=message.incarnation,
        instance=message.instance,
        listen_port=message.listen_port,
        link_epoch=message.link_epoch,
        node_uid=printable(message.node_uid, MAX_NICKNAME),
        features=tuple(message.features),
        universes=tuple(printable(text, MAX_NICKNAME) for text in message.universes),
        underlay_addresses=tuple(message.underlay_addresses),
    )
    return hello, message.greeting_digest


def encode_verdict(refusal: Refusal | None) -> bytes:
    """Accepted, or the reason why not."""
    if refusal is None:
        return mesh_pb2.Verdict(accepted=True).SerializeToString()
    return mesh_pb2.Verdict(refusal=refusal_to_proto(refusal)).SerializeToString()


def decode_verdict(data: bytes) -> Refusal | None:
    """None: accepted."""
    message = mesh_pb2.Verdict()
    _parse(message, data)
    if message.accepted:
        return None
    if not message.HasField("refusal"):
        return Refusal(RefusalCode.UNSPECIFIED, "the peer refused and gave no reason")
    return refusal_from_proto(message.refusal)


def encode_refusal(refusal: Refusal) -> bytes:
    """A refusal as a message of its own, in place of a Hello."""
    return refusal_to_proto(refusal).SerializeToString()


def refusal_to_proto(refusal: Refusal) -> mesh_pb2.Refusal:
    """The message inside verdicts and close frames."""
    return mesh_pb2.Refusal(
        code=mesh_pb2.RefusalCode.ValueType(refusal.code),
        reason=refusal.reason[:MAX_REASON],
        alternatives=refusal.alternatives[:_MAX_ALTERNATIVES],
    )


def refusal_from_proto(message: mesh_pb2.Refusal) -> Refusal:
    """A code of a newer release becomes UNSPECIFIED; its sentence stays."""
    code = RefusalCode(message.code) if message.code in _KNOWN_CODES else RefusalCode.UNSPECIFIED
    return Refusal(
        code,
        printable(message.reason, MAX_REASON) or code.name.lower().replace("_", " "),
        tuple(printable(text, MAX_NICKNAME) for text in message.alternatives[:_MAX_ALTERNATIVES]),
    )


def _refusal_in_place_of(data: bytes) -> Refusal | None:
    message = mesh_pb2.Refusal()
    try:
        _parse(message, data)
    except ValueError:
        return None
    return refusal_from_proto(message) if message.code or message.reason else None


def _parse(
    message: mesh_pb2.Greeting | mesh_pb2.Hello | mesh_pb2.Verdict | mesh_pb2.Refusal, data: bytes
) -> None:
    try:
        message.ParseFromString(data)
    except DecodeError as error:
        raise ValueError(f"no {type(message).__name__}") from error
