"""The values behind the recorded messages in frozen/protocol-1.json."""

from __future__ import annotations

from weave_gossip.core.documents import Document, DocumentId, DocumentVersion
from weave_gossip.core.facts import Link, PeerFacts, Removed
from weave_gossip.core.messages import (
    Announce,
    Digest,
    Documents,
    Hello,
    Message,
    Ping,
    Pong,
    Prune,
    Refusal,
    RefusalCode,
    Unicast,
    Want,
)
from weave_gossip.link.greeting import Greeting
from weave_model.peer import PeerName

ONE = PeerName.parse("7a:9f:c0:d4:b8:39")
TWO = PeerName.parse("02:00:00:00:00:02")
ID = DocumentId("ring", ONE, "4")
VERSION = DocumentVersion(ID, 3, 7, 0x0123456789ABCDEF)

GREETING = Greeting(
    min_protocol=1,
    max_protocol=1,
    cluster_id="blue",
    key_ids=(b"current!", b"previous"),
    nonce=bytes(range(16)),
)
HELLO = Hello(
    name=ONE,
    nickname="node1",
    incarnation=3,
    instance=b"instance",
    listen_port=6783,
    link_epoch=9,
    node_uid="0b4b44bb-9d7b-4c69-a4b6-111111111111",
    features=("f1", "f2"),
    universes=("10.32.0.0/12", "fd00::/64"),
    underlay_addresses=(bytes([10, 0, 0, 1]), bytes(16)),
)
HELLO_DIGEST = bytes(range(32))
LIMIT = Refusal(RefusalCode.LIMIT, "Connection limit reached (30)", ("10.0.0.2:6783",))
FACTS = PeerFacts(
    nickname="node1",
    instance=b"instance",
    listen_port=6783,
    node_uid="uid",
    features=("f1",),
    universes=("10.32.0.0/12",),
    underlay_addresses=(bytes([10, 0, 0, 1]),),
    min_protocol=1,
    max_protocol=1,
    software_version="0.1.0",
)
LINKS = (Link(TWO, outbound=True), Link(ONE, outbound=False))
REMOVED = (Removed(TWO, 5),)

FRAMES: dict[str, Message] = {
    "ping": Ping(1, 0xFEDCBA9876543210),
    "pong": Pong(1, 2),
    "documents": Documents(
        (
            Document(ID, 3, 7, b"payload"),
            Document(DocumentId("endpoints", TWO, ""), 1, 2, withdrawn=True, signature=b"sig"),
        ),
        hops=2,
        reply=True,
    ),
    "announce": Announce((VERSION,)),
    "want": Want((ID,)),
    "prune": Prune(),
    "digest of buckets": Digest(4, bucket_digests=(1, 2, 3, 4), reply_wanted=True),
    "digest of versions": Digest(4, bucket_numbers=(2,), versions=(VERSION,)),
    "unicast": Unicast(ONE, TWO, "ask", b"question", 16),
    "close": LIMIT,
}
