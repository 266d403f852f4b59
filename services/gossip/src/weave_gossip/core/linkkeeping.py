"""The life of links: established, pinged, challenged, replaced, given up.

Of two links to one peer the one with the greater (epoch, dialler) stays, on both sides; a link of a
newer life replaces one of an older life. Who may have a link at all is decided in admission.py and
overlay.py.
"""

from __future__ import annotations

from random import Random

from weave_gossip.core.admission import (
    CHALLENGE_S,
    Judgement,
    Liveness,
    PresentLink,
    judge_hello,
)
from weave_gossip.core.effects import LogLevel
from weave_gossip.core.links import (
    DROP_AFTER_S,
    PING_SLACK_S,
    Challenge,
    LinkState,
    LinkTable,
)
from weave_gossip.core.messages import Hello, Ping, Pong, Refusal, RefusalCode
from weave_gossip.core.outbox import Outbox
from weave_gossip.core.replica import Replica
from weave_model.peer import PeerName

# How long an answered challenge proves that two machines have one name: longer than the first
# back-off of the other, short enough that a restart afterwards is looked at anew.
PROOF_HOLDS_S = 30.0
# Peers whose last life is remembered for the log, those linked last: far more than a peer has
# links, and half a megabyte when somebody comes under ever new names.
MAX_REMEMBERED_LIVES = 4096


class LinkKeeper:
    """Adds and removes links, and keeps them alive."""

    def __init__(self, links: LinkTable, replica: Replica, outbox: Outbox, rng: Random) -> None:
        self.terminated = 0
        self._links = links
        self._replica = replica
        self._outbox = outbox
        self._rng = rng
        # A lower bound of the next ping or drop: receiving puts them off without touching it.
        self._due = float("inf")
        # Instance last seen of each peer that had a link, to tell a restart in the log.
        self._instances: dict[PeerName, bytes] = {}

    def next_deadline(self) -> float:
        return self._due

    def judge(
        self,
        own: Hello,
        theirs: Hello,
        *,
        precedence: tuple[int, PeerName],
        has_room: bool,
        limit: int,
    ) -> Refusal | None:
        """The verdict on a Hello; challenges a present link that its news put in doubt."""
        link = self._links.to(theirs.name)
        if link is not None:
            self._forget_old_proof(link)
        judgement: Judgement = judge_hello(
            own=own,
            theirs=theirs,
            precedence=precedence,
            present=None if link is None else _present(link),
            has_room=has_room,
            connection_limit=limit,
        )
        if judgement.challenge and link is not None and link.challenge is None:
            nonce = self._ping(link)
            link.challenge = Challenge(nonce, self._outbox.now + CHALLENGE_S)
            self._due = min(self._due, link.challenge.due)
        if judgement.refusal is not None and judgement.refusal.code is RefusalCode.NAME_COLLISION:
            self._outbox.log(LogLevel.ERROR, judgement.refusal.reason)
        return judgement.refusal

    def add(self, link: LinkState) -> None:
        """Takes a link to a peer that has none now."""
        self._links.add(link)
        before = self._instances.pop(link.peer, None)
        self._instances[link.peer] = link.hello.instance
        if len(self._instances) > MAX_REMEMBERED_LIVES:
            del self._instances[next(iter(self._instances))]
        kind = "new" if before is None or before == link.hello.instance else "restarted"
        self._outbox.log(LogLevel.INFO, f"{link.label}: connection added ({kind} peer)")
        if link.outbound:
            # Shows at once whether the two hold the same documents.
            self._ping(link)
        self._due = min(self._due, link.ping_due() + PING_SLACK_S, link.drop_due())

    def remove(self, link: LinkState, reason: str) -> None:
        """Forgets a link that has ended."""
        self._links.remove(link)
        self.terminated += 1
        self._outbox.log(
            LogLevel.INFO, f"{link.label}: connection shutting down due to error: {reason}"
        )

    def forget_peer(self, peer: PeerName) -> None:
        self._instances.pop(peer, None)

    def receive_pong(self, link: LinkState, pong: Pong) -> None:
        if pong.nonce == link.ping_nonce and link.ping_sent is not None:
            link.rtt_s = self._outbox.now - link.ping_sent
        challenge = link.challenge
        if challenge is not None and pong.nonce == challenge.nonce:
            challenge.answered_at = self._outbox.now

    def run(self, now: float) -> list[tuple[LinkState, Refusal]]:
        """Pings what was silent; returns the links to give up, and why."""
        if now < self._due:
            return []
        lost = []
        for link in self._links:
            if now >= link.drop_due():
                lost.append((link, Refusal(RefusalCode.TIMEOUT, _silence(link, now))))
            elif now >= link.ping_due():
                self._ping(link)
        self.reschedule()
        return lost

    def reschedule(self) -> None:
        self._due = self._links.next_deadline()

    def _forget_old_proof(self, link: LinkState) -> None:
        challenge = link.challenge
        if challenge is None or challenge.answered_at is None:
            return
        if self._outbox.now - challenge.answered_at > PROOF_HOLDS_S:
            link.challenge = None

    def _ping(self, link: LinkState) -> int:
        link.ping_nonce = self._rng.getrandbits(32)
        link.ping_sent = self._outbox.now
        self._outbox.send(link, Ping(link.ping_nonce, self._replica.state_digest))
        return link.ping_nonce


def _present(link: LinkState) -> PresentLink:
    is_proved = link.challenge is not None and link.challenge.is_answered
    return PresentLink(
        incarnation=link.hello.incarnation,
        instance=link.hello.instance,
        nickname=link.hello.nickname,
        precedence=link.precedence,
        liveness=Liveness.ANSWERED if is_proved else Liveness.UNKNOWN,
    )


def _silence(link: LinkState, now: float) -> str:
    if link.challenge is not None and not link.challenge.is_answered and now >= link.challenge.due:
        return f"no answer for {CHALLENGE_S:g} s while another life of {link.peer} said hello"
    if link.blocked_since is not None and now >= link.blocked_since + DROP_AFTER_S:
        return f"nothing could be sent for {DROP_AFTER_S:g} s"
    return f"nothing received for {DROP_AFTER_S:g} s"
