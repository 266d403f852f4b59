"""How many bytes a message takes as a frame:

the length prefix and the protobuf encoding, without TLS and TCP.
"""

from __future__ import annotations

from weave_gossip.codec.frames import decode_frame, encode_frame
from weave_gossip.core.documents import Document, DocumentId, DocumentVersion
from weave_gossip.core.messages import (
    Announce,
    Digest,
    Documents,
    Message,
    Ping,
    Pong,
    Prune,
    Refusal,
    Unicast,
    Want,
)

LENGTH_PREFIX_BYTES = 4
# The same documents and names are sent millions of times in a run.
_document_sizes: dict[int, int] = {}
_id_sizes: dict[DocumentId, int] = {}


def frame_bytes(message: Message) -> int:
    """Exact size on the stream, as tests/sim/test_wire.py compares with the generated code."""
    return LENGTH_PREFIX_BYTES + _field(_body_bytes(message))


def pass_through_encoding(message: Message) -> Message:
    """What the other side makes of the message; raises AssertionError if that is another one, or
    of another size than computed.
    """
    encoded = encode_frame(message)
    decoded = decode_frame(encoded)
    assert decoded is not None, f"{message} is unknown to its own codec"
    assert decoded == message, f"{message} arrives as {decoded}"
    assert LENGTH_PREFIX_BYTES + len(encoded) == frame_bytes(message), f"size of {message}"
    return decoded


def _body_bytes(message: Message) -> int:
    match message:
        case Ping() | Pong():
            return _number(message.nonce) + _fixed(message.state_digest)
        case Documents():
            documents = sum(_field(_document_bytes(each)) for each in message.documents)
            return documents + _number(message.hops) + (2 if message.reply else 0)
        case Announce():
            return sum(_field(_version_bytes(each)) for each in message.versions)
        case Want():
            return sum(_field(_id_bytes(each)) for each in message.ids)
        case Prune():
            return 0
        case Digest():
            return _digest_bytes(message)
        case Unicast():
            names = _bytes(message.source) + _bytes(message.destination)
            return names + _text(message.topic) + _bytes(message.payload) + _number(message.ttl)
        case Refusal():
            alternatives = sum(_field(len(each.encode())) for each in message.alternatives)
            return _number(message.code) + _text(message.reason) + alternatives


def _digest_bytes(message: Digest) -> int:
    numbers = sum(_varint_bytes(each) for each in message.bucket_numbers)
    return (
        _number(message.buckets)
        + (_field(8 * len(message.bucket_digests)) if message.bucket_digests else 0)
        + (_field(numbers) if message.bucket_numbers else 0)
        + sum(_field(_version_bytes(each)) for each in message.versions)
        + (2 if message.reply_wanted else 0)
    )


def _document_bytes(document: Document) -> int:
    size = _document_sizes.get(document.fingerprint)
    if size is None:
        size = _document_sizes[document.fingerprint] = _encoded_bytes(document)
    return size


def _encoded_bytes(document: Document) -> int:
    return (
        _field(_id_bytes(document.id))
        + _number(document.incarnation)
        + _number(document.version)
        + _bytes(document.payload)
        + (2 if document.withdrawn else 0)
        + _bytes(document.signature)
        + len(document.unknown_fields)
    )


def _version_bytes(version: DocumentVersion) -> int:
    size = _id_sizes.get(version.id)
    if size is None:
        size = _id_sizes[version.id] = _field(_id_bytes(version.id))
    numbers = _number(version.incarnation) + _number(version.version)
    return size + numbers + _fixed(version.hash)


def _id_bytes(document_id: DocumentId) -> int:
    return _text(document_id.topic) + _bytes(document_id.writer) + _text(document_id.key)


def _field(length: int) -> int:
    """A length-delimited field with its tag."""
    return 1 + _varint_bytes(length) + length


def _text(text: str) -> int:
    return _bytes(text.encode())


def _bytes(value: bytes) -> int:
    return _field(len(value)) if value else 0


def _number(value: int) -> int:
    return 1 + _varint_bytes(value) if value else 0


def _fixed(value: int) -> int:
    return 9 if value else 0


def _varint_bytes(value: int) -> int:
    return 1 if value < 128 else (value.bit_length() + 6) // 7
