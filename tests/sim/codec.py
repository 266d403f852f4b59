"""A payload codec for simulations: fixed-width fields instead of protobuf, and one decoded value
per payload.

A thousand cores in one process would otherwise decode, and keep, each document a thousand times.
"""

from __future__ import annotations

import json
import struct

from weave_gossip.core.facts import Link, PeerFacts, Removed
from weave_model.peer import PeerName

_LINK = struct.Struct(">6s?")
_REMOVED = struct.Struct(">6sQ")


class SimCodec:
    """Implements `PayloadCodec`."""

    def __init__(self) -> None:
        self._facts: dict[bytes, PeerFacts] = {}
        self._links: dict[bytes, tuple[Link, ...]] = {}

    def encode_facts(self, facts: PeerFacts) -> bytes:
        return json.dumps(
            [
                facts.nickname,
                facts.instance.hex(),
                facts.listen_port,
                facts.node_uid,
                facts.features,
                facts.universes,
                [address.hex() for address in facts.underlay_addresses],
            ]
        ).encode()

    def decode_facts(self, payload: bytes) -> PeerFacts:
        facts = self._facts.get(payload)
        if facts is None:
            facts = self._facts[payload] = _decode_facts(payload)
        return facts

    def encode_links(self, links: tuple[Link, ...]) -> bytes:
        return b"".join(_LINK.pack(link.peer, link.outbound) for link in links)

    def decode_links(self, payload: bytes) -> tuple[Link, ...]:
        links = self._links.get(payload)
        if links is None:
            try:
                links = tuple(
                    Link(PeerName(name), outbound) for name, outbound in _LINK.iter_unpack(payload)
                )
            except struct.error as error:
                raise ValueError(f"no list of links: {error}") from error
            self._links[payload] = links
        return links

    def encode_removed(self, removed: tuple[Removed, ...]) -> bytes:
        return b"".join(_REMOVED.pack(each.peer, each.incarnation) for each in removed)

    def decode_removed(self, payload: bytes) -> tuple[Removed, ...]:
        try:
            return tuple(
                Removed(PeerName(name), incarnation)
                for name, incarnation in _REMOVED.iter_unpack(payload)
            )
        except struct.error as error:
            raise ValueError(f"no list of departed peers: {error}") from error


def _decode_facts(payload: bytes) -> PeerFacts:
    try:
        nickname, instance, port, uid, features, universes, addresses = json.loads(payload)
        return PeerFacts(
            nickname=nickname,
            instance=bytes.fromhex(instance),
            listen_port=int(port),
            node_uid=uid,
            features=tuple(features),
            universes=tuple(universes),
            underlay_addresses=tuple(bytes.fromhex(address) for address in addresses),
        )
    except (ValueError, TypeError) as error:
        raise ValueError(f"no facts about a peer: {error}") from error
