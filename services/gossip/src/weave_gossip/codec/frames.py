"""Frames of an established link: wire form and back.

Unknown bodies are passed over; unknown fields of documents are kept, because documents are
forwarded byte for byte to peers that may know them. `decode_frame` raises ValueError for bytes that
are no frame.
"""

from __future__ import annotations

from typing import assert_never

from google.protobuf.message import DecodeError
from google.protobuf.unknown_fields import UnknownFieldSet

from weave.mesh.v1 import mesh_pb2
from weave_gossip.codec.handshake import refusal_from_proto, refusal_to_proto
from weave_gossip.core.documents import (
    MAX_KEY_BYTES,
    MAX_TOPIC_BYTES,
    Document,
    DocumentId,
    DocumentVersion,
)
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
from weave_model.peer import PeerName


def encode_frame(message: Message) -> bytes:
    """The bytes of the frame with this body."""
    match message:
        case Ping(nonce, digest):
            frame = mesh_pb2.Frame(ping=mesh_pb2.Ping(nonce=nonce, state_digest=digest))
        case Pong(nonce, digest):
            frame = mesh_pb2.Frame(pong=mesh_pb2.Pong(nonce=nonce, state_digest=digest))
        case Documents(documents, hops, reply):
            body = mesh_pb2.Documents(hops=hops, reply=reply)
            body.documents.extend(map(document_to_proto, documents))
            frame = mesh_pb2.Frame(documents=body)
        case Announce(versions):
            body_versions = map(_version_to_proto, versions)
            frame = mesh_pb2.Frame(announce=mesh_pb2.Announce(versions=body_versions))
        case Want(ids):
            frame = mesh_pb2.Frame(want=mesh_pb2.Want(ids=map(_id_to_proto, ids)))
        case Prune():
            frame = mesh_pb2.Frame(prune=mesh_pb2.Prune())
        case Digest():
            frame = mesh_pb2.Frame(digest=_digest_to_proto(message))
        case Unicast(source, destination, topic, payload, ttl):
            frame = mesh_pb2.Frame(
                unicast=mesh_pb2.Unicast(
                    source=source, destination=destination, topic=topic, payload=payload, ttl=ttl
                )
            )
        case Refusal():
            frame = mesh_pb2.Frame(close=refusal_to_proto(message))
        case _:
            assert_never(message)
    return frame.SerializeToString()


def decode_frame(data: bytes) -> Message | None:
    """The body of a frame; None for one that only a newer release knows."""
    frame = mesh_pb2.Frame()
    try:
        frame.ParseFromString(data)
    except DecodeError as error:
        raise ValueError("bytes that are no frame") from error
    match frame.WhichOneof("body"):
        case "ping":
            return Ping(frame.ping.nonce, frame.ping.state_digest)
        case "pong":
            return Pong(frame.pong.nonce, frame.pong.state_digest)
        case "documents":
            body = frame.documents
            return Documents(tuple(map(document_from_proto, body.documents)), body.hops, body.reply)
        case "announce":
            return Announce(tuple(map(_version_from_proto, frame.announce.versions)))
        case "want":
            return Want(tuple(map(_id_from_proto, frame.want.ids)))
        case "prune":
            return Prune()
        case "digest":
            return _digest_from_proto(frame.digest)
        case "unicast":
            return _unicast_from_proto(frame.unicast)
        case "close":
            return refusal_from_proto(frame.close)
        case _:
            return None


def document_to_proto(document: Document) -> mesh_pb2.Document:
    """The document with the fields that a newer writer gave it."""
    message = mesh_pb2.Document(
        id=_id_to_proto(document.id),
        incarnation=document.incarnation,
        version=document.version,
        payload=document.payload,
        withdrawn=document.withdrawn,
        signature=document.signature,
    )
    if document.unknown_fields:
        message.MergeFromString(document.unknown_fields)
    return message


def document_from_proto(message: mesh_pb2.Document) -> Document:
    """Raises ValueError for a writer that is no peer name."""
    return Document(
        id=_id_from_proto(message.id),
        incarnation=message.incarnation,
        version=message.version,
        payload=message.payload,
        withdrawn=message.withdrawn,
        signature=message.signature,
        unknown_fields=_unknown_fields(message) if len(UnknownFieldSet(message)) else b"",
    )


def encode_document(document: Document) -> bytes:
    """The document as it is kept in the store."""
    return document_to_proto(document).SerializeToString()


def decode_document(data: bytes) -> Document:
    """Raises ValueError."""
    message = mesh_pb2.Document()
    try:
        message.ParseFromString(data)
    except DecodeError as error:
        raise ValueError("bytes that are no document") from error
    return document_from_proto(message)


def _unknown_fields(message: mesh_pb2.Document) -> bytes:
    rest = mesh_pb2.Document()
    rest.CopyFrom(message)
    for known in rest.DESCRIPTOR.fields:
        rest.ClearField(known.name)  # type: ignore[arg-type]  # the stub lists literal names
    return rest.SerializeToString()


def _id_to_proto(document_id: DocumentId) -> mesh_pb2.DocumentId:
    topic, writer, key = document_id
    return mesh_pb2.DocumentId(topic=topic, writer=writer, key=key)


def _id_from_proto(message: mesh_pb2.DocumentId) -> DocumentId:
    # Judged here already, since the core takes hashes over ids with lengths of one byte.
    if len(message.topic.encode()) > MAX_TOPIC_BYTES or len(message.key.encode()) > MAX_KEY_BYTES:
        raise ValueError(f"topic or key over {MAX_TOPIC_BYTES} bytes")
    return DocumentId(message.topic, PeerName(message.writer), message.key)


def _version_to_proto(version: DocumentVersion) -> mesh_pb2.DocumentVersion:
    return mesh_pb2.DocumentVersion(
        id=_id_to_proto(version.id),
        incarnation=version.incarnation,
        version=version.version,
        hash=version.hash,
    )


def _version_from_proto(message: mesh_pb2.DocumentVersion) -> DocumentVersion:
    return DocumentVersion(
        _id_from_proto(message.id), message.incarnation, message.version, message.hash
    )


def _digest_to_proto(digest: Digest) -> mesh_pb2.Digest:
    return mesh_pb2.Digest(
        buckets=digest.buckets,
        bucket_digests=digest.bucket_digests,
        bucket_numbers=digest.bucket_numbers,
        versions=map(_version_to_proto, digest.versions),
        reply_wanted=digest.reply_wanted,
    )


def _digest_from_proto(message: mesh_pb2.Digest) -> Digest:
    return Digest(
        buckets=message.buckets,
        bucket_digests=tuple(message.bucket_digests),
        bucket_numbers=tuple(message.bucket_numbers),
        versions=tuple(map(_version_from_proto, message.versions)),
        reply_wanted=message.reply_wanted,
    )


def _unicast_from_proto(message: mesh_pb2.Unicast) -> Unicast:
    return Unicast(
        PeerName(message.source),
        PeerName(message.destination),
        message.topic,
        message.payload,
        message.ttl,
    )
