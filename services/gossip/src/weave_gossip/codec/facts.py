"""Payloads of the documents that gossip itself writes: topics peers, links, removed."""

from __future__ import annotations

from google.protobuf.message import DecodeError, Message

from weave.gossip.v1 import documents_pb2
from weave_gossip.codec.text import MAX_NICKNAME, printable
from weave_gossip.core.facts import Link, PeerFacts, Removed
from weave_model.peer import PeerName

_ADDRESS_BYTES = (4, 16)


class FactsCodec:
    """Implements the core's PayloadCodec; `decode_` methods raise ValueError only."""

    def encode_facts(self, facts: PeerFacts) -> bytes:
        """See PayloadCodec."""
        return documents_pb2.PeerFacts(
            nickname=facts.nickname,
            node_uid=facts.node_uid,
            features=facts.features,
            universes=facts.universes,
            underlay_addresses=facts.underlay_addresses,
            listen_port=facts.listen_port,
            instance=facts.instance,
            min_protocol=facts.min_protocol,
            max_protocol=facts.max_protocol,
            software_version=facts.software_version,
        ).SerializeToString()

    def decode_facts(self, payload: bytes) -> PeerFacts:
        """See PayloadCodec."""
        message = documents_pb2.PeerFacts()
        _parse(message, payload)
        for address in message.underlay_addresses:
            if len(address) not in _ADDRESS_BYTES:
                raise ValueError(f"underlay address of {len(address)} bytes, not 4 or 16")
        return PeerFacts(
            nickname=printable(message.nickname, MAX_NICKNAME),
            instance=message.instance,
            listen_port=message.listen_port,
            node_uid=printable(message.node_uid, MAX_NICKNAME),
            features=tuple(message.features),
            universes=tuple(printable(text, MAX_NICKNAME) for text in message.universes),
            underlay_addresses=tuple(message.underlay_addresses),
            min_protocol=message.min_protocol,
            max_protocol=message.max_protocol,
            software_version=printable(message.software_version, MAX_NICKNAME),
        )

    def encode_links(self, links: tuple[Link, ...]) -> bytes:
        """See PayloadCodec."""
        message = documents_pb2.Links()
        for link in links:
            message.links.add(peer=link.peer, outbound=link.outbound)
        return message.SerializeToString()

    def decode_links(self, payload: bytes) -> tuple[Link, ...]:
        """See PayloadCodec."""
        message = documents_pb2.Links()
        _parse(message, payload)
        return tuple(Link(PeerName(link.peer), link.outbound) for link in message.links)

    def encode_removed(self, removed: tuple[Removed, ...]) -> bytes:
        """See PayloadCodec."""
        message = documents_pb2.Removals()
        for item in removed:
            message.removals.add(peer=item.peer, incarnation=item.incarnation)
        return message.SerializeToString()

    def decode_removed(self, payload: bytes) -> tuple[Removed, ...]:
        """See PayloadCodec."""
        message = documents_pb2.Removals()
        _parse(message, payload)
        return tuple(Removed(PeerName(item.peer), item.incarnation) for item in message.removals)


def _parse(message: Message, payload: bytes) -> None:
    try:
        message.ParseFromString(payload)
    except DecodeError as error:
        raise ValueError(f"bytes that are no {type(message).__name__}") from error
