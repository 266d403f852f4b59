"""The documents that the mesh writes about its peers, as values, and the codec the shell provides
for them.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple, Protocol

from weave_model.peer import PeerName


@dataclass(frozen=True, slots=True)
class PeerFacts:
    """Payload of topic `peers`: who a peer is. Changes with its life only."""

    nickname: str
    instance: bytes
    listen_port: int
    node_uid: str = ""
    features: tuple[str, ...] = ()
    universes: tuple[str, ...] = ()
    # 4 or 16 bytes each, preferred first.
    underlay_addresses: tuple[bytes, ...] = ()
    min_protocol: int = 1
    max_protocol: int = 1
    software_version: str = ""


class Link(NamedTuple):
    """One link as its holder lists it."""

    peer: PeerName
    outbound: bool


class Removed(NamedTuple):
    """The lives of `peer` up to and with `incarnation` have departed."""

    peer: PeerName
    incarnation: int


class PayloadCodec(Protocol):
    """Bytes to values and back.

    The `decode_` methods raise ValueError, naming what is wrong; nothing else.
    """

    def encode_facts(self, facts: PeerFacts) -> bytes: ...
    def decode_facts(self, payload: bytes) -> PeerFacts: ...
    def encode_links(self, links: tuple[Link, ...]) -> bytes: ...
    def decode_links(self, payload: bytes) -> tuple[Link, ...]: ...
    def encode_removed(self, removed: tuple[Removed, ...]) -> bytes: ...
    def decode_removed(self, payload: bytes) -> tuple[Removed, ...]: ...
