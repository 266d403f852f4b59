"""The simulator's sizes of messages are those of the real encoding."""

from __future__ import annotations

import pytest

from tests.sim.wire import frame_bytes
from weave_gossip.codec.frames import encode_frame
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
    RefusalCode,
    Unicast,
    Want,
)
from weave_model.peer import PeerName

NAME = PeerName(b"\x02\x00\x00\x00\x00\x07")
RING = DocumentId("ring", NAME, "4")
PEERS = DocumentId("peers", NAME, "")

MESSAGES: list[Message] = [
    Ping(0xFFFFFFFF, 1 << 63),
    Ping(0, 0),
    Pong(7, 12345),
    Documents((Document(RING, 3, 300, bytes(200)), Document(PEERS, 1, 2, b"", withdrawn=True)), 3),
    Documents((Document(RING, 3, 300, bytes(20000)),), 0, reply=True),
    Announce((DocumentVersion(RING, 1, 200, 99), DocumentVersion(PEERS, 1 << 40, 1, 0))),
    Want((RING, PEERS)),
    Prune(),
    Digest(16, bucket_digests=tuple(range(16)), reply_wanted=True),
    Digest(1024, bucket_numbers=(0, 5, 1000), versions=(DocumentVersion(RING, 1, 2, 3),)),
    Unicast(NAME, NAME, "paxos", b"prepare", 64),
    Refusal(RefusalCode.LIMIT, "Connection limit reached (30)", ("10.0.0.2:6783",)),
]


@pytest.mark.parametrize("message", MESSAGES, ids=lambda each: type(each).__name__)
def test_sizes_are_those_of_the_encoding(message: Message) -> None:
    encoded = encode_frame(message)

    assert frame_bytes(message) == 4 + len(encoded)
