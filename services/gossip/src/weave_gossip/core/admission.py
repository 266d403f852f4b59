"""Whether the peer that said Hello may have a link: checks 1 to 6 of docs/adr/0001, in its order.

Link level, judged by the shell before: magic, protocol range, cluster id, secret, greeting digest.
Judged here, since it needs to know the other links: self, name collision, stale incarnation,
duplicate, universe, limit.

Two lives of one name: the newer one is not believed while the older one answers, for a clone of a
machine looks the same as a restart. The older one is pinged and the newer asked to come again; one
that does not answer is dropped (`CHALLENGE_S`), one that does proves a collision. A restart
normally closes its old sockets, so that it is not delayed.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

from weave_gossip.core.messages import Hello, Refusal, RefusalCode
from weave_model.peer import PeerName

# Longer than the 2 s stalls that a busy machine shows, shorter than the 7 s after which a silent
# link ends anyway.
CHALLENGE_S = 3.0
SELF_REASON = "cannot connect to ourself"


class Liveness(Enum):
    """What is known about the life at the other end of the present link."""

    UNKNOWN = "unknown"
    # It answered a ping that went out after another life said Hello under its name.
    ANSWERED = "answered"


@dataclass(frozen=True, slots=True)
class PresentLink:
    """The link that we hold to the peer of this name."""

    incarnation: int
    instance: bytes
    nickname: str
    # (link epoch, name of the dialler): the greater of two links of one pair stays.
    precedence: tuple[int, PeerName]
    liveness: Liveness = Liveness.UNKNOWN


@dataclass(frozen=True, slots=True)
class Judgement:
    """`refusal` is None when the link may be. `challenge`:

    ping the present link, and drop it if it is silent.
    """

    refusal: Refusal | None = None
    challenge: bool = False


def judge_hello(
    *,
    own: Hello,
    theirs: Hello,
    precedence: tuple[int, PeerName],
    present: PresentLink | None,
    has_room: bool,
    connection_limit: int,
) -> Judgement:
    """Applies the checks in order. Pure:

    both sides reach the same verdict about self, duplicates and universes.
    """
    refusal = _check_self(own, theirs)
    if refusal is not None:
        return Judgement(refusal)
    if present is not None:
        judgement = _check_lives(theirs, precedence, present)
        if judgement is not None:
            return judgement
    refusal = _check_universes(own, theirs)
    if refusal is not None:
        return Judgement(refusal)
    if present is None and not has_room:
        return Judgement(
            Refusal(RefusalCode.LIMIT, f"Connection limit reached ({connection_limit})")
        )
    return Judgement()


def _check_self(own: Hello, theirs: Hello) -> Refusal | None:
    if theirs.name != own.name:
        return None
    if theirs.instance == own.instance:
        return Refusal(RefusalCode.SELF, SELF_REASON)
    return Refusal(
        RefusalCode.NAME_COLLISION, describe_collision(own.name, own.nickname, theirs.nickname)
    )


def _check_lives(
    theirs: Hello, precedence: tuple[int, PeerName], present: PresentLink
) -> Judgement | None:
    if theirs.instance == present.instance:
        if precedence <= present.precedence:
            return Judgement(
                Refusal(
                    RefusalCode.DUPLICATE,
                    f"Multiple connections to {theirs.name}({theirs.nickname})",
                )
            )
        return None
    if present.liveness is Liveness.ANSWERED:
        reason = describe_collision(theirs.name, present.nickname, theirs.nickname)
        return Judgement(Refusal(RefusalCode.NAME_COLLISION, reason))
    if theirs.incarnation < present.incarnation:
        reason = (
            f"{theirs.name} is known in incarnation {present.incarnation}, "
            f"which is newer than {theirs.incarnation}"
        )
        return Judgement(Refusal(RefusalCode.STALE_INCARNATION, reason), challenge=True)
    reason = f"{theirs.name} still has a link of its life before; try again when that has ended"
    return Judgement(Refusal(RefusalCode.DUPLICATE, reason), challenge=True)


def _check_universes(own: Hello, theirs: Hello) -> Refusal | None:
    for mine in own.universes:
        for other in theirs.universes:
            if (":" in mine) == (":" in other) and mine != other:
                reason = (
                    f"{theirs.name}({theirs.nickname}) shares out {other}, "
                    f"{own.name}({own.nickname}) {mine}"
                )
                return Refusal(RefusalCode.UNIVERSE, reason)
    return None


def describe_collision(name: PeerName, one: str, other: str) -> str:
    """The line a Weave user knows."""
    return f'local "{name}({one})" and remote "{name}({other})" peer names collision'
