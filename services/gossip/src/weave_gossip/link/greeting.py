"""The greeting: what two peers tell each other in the clear, and the one rule that judges both.

Both sides see both greetings and apply `judge`, so both know the reason when they do not suit. The
function is symmetric but for the point of view of its sentences: `judge(a, b)` agrees exactly when
`judge(b, a)` does, on the same protocol and key.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

from weave_gossip.core.messages import Refusal, RefusalCode

MAGIC = 0x57454156
# What this release speaks.
MIN_PROTOCOL = 1
MAX_PROTOCOL = 1
# A greeting with more keys than two (current, previous) comes from a newer release; with more than
# this it comes from nobody who means well.
MAX_KEY_IDS = 8


@dataclass(frozen=True, slots=True)
class Greeting:
    """One side's greeting. `key_ids`: one per secret this side accepts, current first."""

    magic: int = MAGIC
    min_protocol: int = MIN_PROTOCOL
    max_protocol: int = MAX_PROTOCOL
    cluster_id: str = ""
    key_ids: tuple[bytes, ...] = ()
    nonce: bytes = b""


@dataclass(frozen=True, slots=True)
class Agreement:
    """What both sides go on with; no key: the link stays in the clear."""

    protocol: int
    key_id: bytes | None


def judge(mine: Greeting, theirs: Greeting) -> Agreement | Refusal:
    """Do the greetings suit each other, and on what terms?"""
    if theirs.magic != MAGIC:
        return Refusal(RefusalCode.NOT_WEAVE, "the other side does not speak the weave protocol")
    if theirs.min_protocol > theirs.max_protocol or len(theirs.key_ids) > MAX_KEY_IDS:
        return Refusal(RefusalCode.MALFORMED, "the greeting contradicts itself")
    protocol = min(mine.max_protocol, theirs.max_protocol)
    if protocol < max(mine.min_protocol, theirs.min_protocol):
        return Refusal(
            RefusalCode.PROTOCOL,
            f"no common protocol version: here {mine.min_protocol}..{mine.max_protocol}, "
            f"there {theirs.min_protocol}..{theirs.max_protocol}",
        )
    if mine.cluster_id != theirs.cluster_id:
        return Refusal(
            RefusalCode.CLUSTER,
            f"another cluster: here {mine.cluster_id!r}, there {theirs.cluster_id[:64]!r}",
        )
    return _judge_keys(mine.key_ids, theirs.key_ids, protocol)


def _judge_keys(
    mine: tuple[bytes, ...], theirs: tuple[bytes, ...], protocol: int
) -> Agreement | Refusal:
    if not mine and not theirs:
        return Agreement(protocol, None)
    if not theirs:
        return Refusal(RefusalCode.SECRET_MISSING, "no secret there, but one is set here")
    if not mine:
        return Refusal(RefusalCode.SECRET_UNWANTED, "no secret here, but one is set there")
    common = set(mine) & set(theirs)
    if not common:
        return Refusal(RefusalCode.SECRET_WRONG, "wrong secret")
    # While secrets rotate two may be common: the one both sides like best, then the lower id.
    best = min(common, key=lambda key_id: (mine.index(key_id) + theirs.index(key_id), key_id))
    return Agreement(protocol, best)


def greeting_digest(dialler: bytes, listener: bytes) -> bytes:
    """SHA-256 over both greetings as they went over the wire; a tampered greeting shows here."""
    return hashlib.sha256(dialler + listener).digest()
