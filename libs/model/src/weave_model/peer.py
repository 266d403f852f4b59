"""Peer names: 48 bits, printed like a MAC address, as Weave Net does."""

from __future__ import annotations

import re
from typing import Self

_TEXT = re.compile(r"[0-9a-fA-F]{1,2}(?::[0-9a-fA-F]{1,2}){5}")

PEER_NAME_BYTES = 6
_LINK_LOCAL = bytes.fromhex("fe80 0000 0000 0000 0000")


class PeerName(bytes):
    """The durable identity of a peer: exactly six bytes, ordered as a number.

    It is a `bytes`, so that it goes on the wire, into sets and into dictionaries as it is; `str()`
    gives the canonical text `7a:9f:c0:d4:b8:39`.
    """

    __slots__ = ()

    def __new__(cls, raw: bytes) -> Self:
        """Raises ValueError unless `raw` has six bytes and is not all zero."""
        if len(raw) != PEER_NAME_BYTES:
            raise ValueError(f"peer name {raw.hex()!r} has {len(raw)} bytes, not {PEER_NAME_BYTES}")
        if not any(raw):
            raise ValueError("peer name 00:00:00:00:00:00 is reserved")
        return super().__new__(cls, raw)

    @classmethod
    def parse(cls, text: str) -> Self:
        """Reads `7a:9f:c0:d4:b8:39`; leading zeros of a part may be left out. Raises ValueError."""
        if not _TEXT.fullmatch(text):
            raise ValueError(f"{text!r} is no peer name (six hexadecimal bytes, 7a:9f:c0:d4:b8:39)")
        return cls(bytes(int(part, 16) for part in text.split(":")))

    @classmethod
    def from_random(cls, entropy: bytes) -> Self:
        """Makes a name of six random bytes: unicast and locally administered, as a MAC must be."""
        if len(entropy) != PEER_NAME_BYTES:
            raise ValueError(
                f"a peer name needs {PEER_NAME_BYTES} random bytes, not {len(entropy)}"
            )
        return cls(bytes([(entropy[0] & 0xFE) | 0x02]) + entropy[1:])

    @classmethod
    def from_link_local(cls, address: bytes) -> Self:
        """The peer whose tunnel end has this address. Raises ValueError when it is nobody's."""
        if not address.startswith(_LINK_LOCAL):
            raise ValueError(f"{address.hex()} is no address of a tunnel end")
        return cls(address[len(_LINK_LOCAL) :])

    @property
    def link_local(self) -> bytes:
        """The IPv6 address of this peer's end of every tunnel: fe80:: and the name, 16 bytes."""
        return _LINK_LOCAL + self

    def __str__(self) -> str:
        return self.hex(":")

    def __repr__(self) -> str:
        return f"PeerName({self})"
