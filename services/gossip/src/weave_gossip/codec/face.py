"""The messages of the gRPC interface: values of the core to protobuf, text to values."""

from __future__ import annotations

from collections.abc import Sequence

from weave.gossip.v1 import gossip_pb2
from weave_gossip.core.documents import Document, DocumentId
from weave_gossip.core.status import (
    Connection,
    ConnectionState,
    PeerLinks,
    PeerView,
    QuarantinedDocument,
)
from weave_gossip.target import Target, parse_target
from weave_model.errors import Invalid
from weave_model.peer import PeerName

NEVER = -1.0

_STATES = {
    ConnectionState.CONNECTING: gossip_pb2.CONNECTION_STATE_CONNECTING,
    ConnectionState.ESTABLISHED: gossip_pb2.CONNECTION_STATE_ESTABLISHED,
    ConnectionState.RETRYING: gossip_pb2.CONNECTION_STATE_RETRYING,
    ConnectionState.FAILED: gossip_pb2.CONNECTION_STATE_FAILED,
}


def peer_name_from_text(text: str) -> PeerName:
    """Raises Invalid naming the text."""
    try:
        return PeerName.parse(text)
    except ValueError as error:
        raise Invalid(str(error)) from error


def targets_from_text(texts: Sequence[str], default_port: int) -> list[Target]:
    """Raises Invalid naming each that is no address."""
    targets, mistakes = [], []
    for text in texts:
        try:
            targets.append(parse_target(text, default_port))
        except ValueError as error:
            mistakes.append(str(error))
    if mistakes:
        raise Invalid("; ".join(mistakes))
    return targets


def document_id_from_text(topic: str, writer: str, key: str) -> DocumentId:
    """Raises Invalid."""
    return DocumentId(topic, peer_name_from_text(writer), key)


def document_to_proto(document: Document) -> gossip_pb2.Document:
    """A document as watchers see it."""
    return gossip_pb2.Document(
        topic=document.id.topic,
        writer=str(document.id.writer),
        key=document.id.key,
        incarnation=document.incarnation,
        version=document.version,
        payload=document.payload,
    )


def peer_to_proto(peer: PeerView) -> gossip_pb2.Peer:
    """A peer as watchers see it."""
    return gossip_pb2.Peer(
        name=str(peer.name),
        nickname=peer.nickname,
        self=peer.is_self,
        reachable=peer.reachable,
        incarnation=peer.incarnation,
        node_uid=peer.node_uid,
        underlay_addresses=peer.underlay_addresses,
        universes=peer.universes,
        features=peer.features,
        departed=peer.departed,
    )


def connection_to_proto(
    connection: Connection, *, is_encrypted: bool, unix_offset_s: float, lost: str = ""
) -> gossip_pb2.Connection:
    """`unix_offset_s`: what to add to the core's clock. `lost`: why the link before ended."""
    next_try = 0.0
    if connection.next_try is not None:
        next_try = connection.next_try + unix_offset_s
    elif connection.state is ConnectionState.FAILED:
        next_try = NEVER
    is_established = connection.state is ConnectionState.ESTABLISHED
    return gossip_pb2.Connection(
        address=connection.address,
        outbound=connection.outbound,
        state=_STATES[connection.state],
        peer=str(connection.peer) if connection.peer else "",
        nickname=connection.nickname,
        encrypted=is_encrypted and is_established,
        last_error=lost if is_established else connection.last_error,
        next_try_unix_s=next_try,
        rtt_s=connection.rtt_s or 0.0,
    )


def peer_links_to_proto(item: PeerLinks) -> gossip_pb2.GetStatusResponse.PeerLinks:
    """A peer with the links it lists."""
    return gossip_pb2.GetStatusResponse.PeerLinks(
        name=str(item.peer.name),
        nickname=item.peer.nickname,
        reachable=item.peer.reachable,
        incarnation=item.peer.incarnation,
        underlay_addresses=item.peer.underlay_addresses,
        links=[
            gossip_pb2.GetStatusResponse.PeerLinks.Link(
                address=link.address,
                peer=str(link.peer),
                nickname=link.nickname,
                outbound=link.outbound,
                established=link.established,
            )
            for link in item.links
        ],
    )


def quarantined_to_proto(
    item: QuarantinedDocument, *, unix_offset_s: float
) -> gossip_pb2.GetStatusResponse.QuarantinedDocument:
    """A version that a consumer set aside."""
    return gossip_pb2.GetStatusResponse.QuarantinedDocument(
        topic=item.id.topic,
        writer=str(item.id.writer),
        key=item.id.key,
        incarnation=item.incarnation,
        version=item.version,
        reason=item.reason,
        since_unix_s=item.since + unix_offset_s,
    )
