"""All fences in a bounded number of Coordination's keys.

Coordination deletes nothing and holds a bounded number of keys, while a cluster that grows and
shrinks all day removes nodes without end. So fences share a few keys, each in one by its victim's
name. A key keeps its newest fences: who was removed thousands of removals ago and comes back is
told by the ring alone, in which its blocks have lost by generation.

A fence's revision is that of its key when it was written: it grows for each victim.
"""

from __future__ import annotations

import hashlib

from weave.ipam.v1 import ring_pb2
from weave_ipam.core.fences import Fence
from weave_ipam.wire import fence_from_proto, fence_to_proto, parse
from weave_model.peer import PeerName

# Together about 300 KB, in a ConfigMap 400 KB; those of a cluster's first hundred removals 10 KB.
KEYS = 32
# The last fencing token that was drawn, in decimal.
TOKENS = "ipam/takeovers"
FENCES_PER_KEY = 128


def key_of(victim: PeerName) -> str:
    """Where in Coordination a peer's fence is."""
    return f"ipam/reclaims/{hashlib.sha256(victim).digest()[0] % KEYS}"


def find(value: bytes, victim: PeerName) -> tuple[int, Fence | None]:
    """A victim's fence in a key's value, and its revision; 0 and None: there is none.

    Raises ValueError.
    """
    for entry in _entries(value):
        if entry.fence.victim == victim:
            return entry.revision, fence_from_proto(entry.fence)
    return 0, None


def put(value: bytes, fence: Fence, revision: int) -> bytes:
    """The value with a fence in place of an earlier one of its victim. Raises ValueError."""
    others = [entry for entry in _entries(value) if entry.fence.victim != fence.victim]
    entry = ring_pb2.ReclaimFences.Entry(fence=fence_to_proto(fence), revision=revision)
    newest = sorted(others, key=lambda other: other.revision)[-(FENCES_PER_KEY - 1) :]
    return ring_pb2.ReclaimFences(entries=[*newest, entry]).SerializeToString(deterministic=True)


def _entries(value: bytes) -> list[ring_pb2.ReclaimFences.Entry]:
    message = ring_pb2.ReclaimFences()
    parse(message, value)
    return list(message.entries)
