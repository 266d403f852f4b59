"""What happens when links come, fail and go: the parts that keep them are told here, in one place.

Who judges what: the shell judges the greeting (magic, protocol, cluster, secret), TLS and the
greeting digest; then admission.py judges the Hello, knowing the other links. overlay.py says which
links there should be, dialling.py when an address may be tried, linkkeeping.py which link is alive.
"""

from __future__ import annotations

from weave_gossip.core.dialling import Dialler
from weave_gossip.core.effects import LinkId, LogLevel
from weave_gossip.core.knowledge import Knowledge
from weave_gossip.core.linkkeeping import LinkKeeper
from weave_gossip.core.links import LinkState, LinkTable
from weave_gossip.core.messages import Hello, Refusal, RefusalCode
from weave_gossip.core.options import MeshOptions
from weave_gossip.core.outbox import Outbox
from weave_gossip.core.overlay import Overlay
from weave_gossip.core.publishing import Publisher
from weave_model.peer import PeerName

# Peers are found in crowds; links are thought about once per crowd.
OVERLAY_DELAY_S = 0.05
# A link that ends for one of these was given up on purpose: both ends live and know it.
_AGREED_ENDS = frozenset({RefusalCode.SHED, RefusalCode.DUPLICATE})


class Connector:
    """Takes what the shell reports about links, and says which to dial and to close."""

    def __init__(
        self,
        own_name: PeerName,
        options: MeshOptions,
        outbox: Outbox,
        links: LinkTable,
        knowledge: Knowledge,
        publisher: Publisher,
        keeper: LinkKeeper,
        dialler: Dialler,
        overlay: Overlay,
    ) -> None:
        self._own_name = own_name
        self._options = options
        self._outbox = outbox
        self._links = links
        self._knowledge = knowledge
        self._publisher = publisher
        self._keeper = keeper
        self._dialler = dialler
        self._overlay = overlay
        self._overlay_due = outbox.now

    def next_deadline(self) -> float:
        return min(self._keeper.next_deadline(), self._overlay_due)

    def keep_alive(self, now: float) -> None:
        """Pings silent links and ends dead ones."""
        for link, refusal in self._keeper.run(now):
            self.close(link, refusal)

    def run(self, now: float) -> None:
        """Dials and lets go, if it is time to think about links."""
        if now < self._overlay_due:
            return
        while (link := self._overlay.shed(now)) is not None:
            reason = "one connection too many; others lead here"
            self.close(link, Refusal(RefusalCode.SHED, reason, self._overlay.alternatives()))
        dials, self._overlay_due = self._overlay.dial(now)
        for dial in dials:
            self._outbox.log(LogLevel.INFO, f"->[{dial.address}] attempting connection")
            self._outbox.put(dial)

    # What the shell reports

    def own_hello(self, epoch: int) -> Hello:
        """What to say on a new link."""
        facts = self._publisher.facts
        return Hello(
            name=self._own_name,
            nickname=facts.nickname,
            incarnation=self._publisher.incarnation,
            instance=facts.instance,
            listen_port=facts.listen_port,
            link_epoch=epoch,
            node_uid=facts.node_uid,
            features=facts.features,
            universes=facts.universes,
            underlay_addresses=facts.underlay_addresses,
        )

    def judge(self, hello: Hello, *, outbound: bool, epoch: int) -> Refusal | None:
        """The verdict on a Hello; one for want of room names other peers to try."""
        if outbound:
            self._dialler.identified(epoch, hello.name)
        refusal = self._keeper.judge(
            self.own_hello(epoch),
            hello,
            precedence=self._precedence(hello, outbound=outbound, epoch=epoch),
            has_room=self._overlay.has_room_for(hello.name),
            limit=self._options.connection_limit,
        )
        if refusal is not None and refusal.code is RefusalCode.LIMIT:
            return Refusal(refusal.code, refusal.reason, self._overlay.alternatives())
        return refusal

    def established(
        self, link: LinkId, hello: Hello, *, outbound: bool, address: str, epoch: int
    ) -> None:
        """Both verdicts accepted; of two links to one peer the one with precedence stays."""
        now = self._outbox.now
        precedence = self._precedence(hello, outbound=outbound, epoch=epoch)
        state = LinkState(link, hello, outbound, address, precedence, now, now, now)
        self._dialler.saw_epoch(epoch)
        if outbound:
            self._dialler.connected(address, hello.name)
        if self._replace(state):
            self._keeper.add(state)
            self._publisher.link_added()
        self._overlay_due = now

    def lost(self, link: LinkState, refusal: Refusal) -> None:
        """The stream ended, or the other side said why it ends the link."""
        self._remove(link, refusal)

    def dial_failed(self, address: str, refusal: Refusal) -> None:
        """A dial came to nothing."""
        self._dialler.failed(address, refusal, self._outbox.now)
        self.hint(refusal)
        self._outbox.log(
            LogLevel.INFO, f"->[{address}] error during connection attempt: {refusal.reason}"
        )
        self._overlay_due = self._outbox.now

    def hint(self, refusal: Refusal) -> None:
        """Remembers where to try instead, unless only targets may be dialled."""
        if self._options.discovery:
            self._dialler.hint(refusal.alternatives)

    # What else changes which links there should be

    def close(self, link: LinkState, refusal: Refusal) -> None:
        """Ends a link and tells the other side why."""
        self._outbox.close(link, refusal)
        self._remove(link, refusal)

    def targets_changed(self) -> None:
        self._overlay_due = self._outbox.now

    def peer_moved(self, peer: PeerName, *, reachable: bool | None) -> None:
        """A peer was found, lost (False) or removed (None)."""
        now = self._outbox.now
        if reachable is None:
            self._overlay.peer_is_gone(peer)
            self._keeper.forget_peer(peer)
        elif reachable:
            self._overlay.peer_is_back(peer, now)
        else:
            self._overlay.peer_is_away(peer, now)
        self._overlay_due = min(self._overlay_due, now + OVERLAY_DELAY_S)

    # Inside

    def _precedence(self, hello: Hello, *, outbound: bool, epoch: int) -> tuple[int, PeerName]:
        return (epoch, self._own_name if outbound else hello.name)

    def _replace(self, link: LinkState) -> bool:
        """Ends the other link to the same peer, or the new one if that has to give way."""
        present = self._links.to(link.peer)
        if present is None:
            return True
        reason = f"Multiple connections to {link.peer}({link.hello.nickname})"
        if present.hello.instance == link.hello.instance and present.precedence > link.precedence:
            self._outbox.close(link, Refusal(RefusalCode.DUPLICATE, reason))
            return False
        self.close(present, Refusal(RefusalCode.DUPLICATE, reason))
        return True

    def _remove(self, link: LinkState, refusal: Refusal) -> None:
        now = self._outbox.now
        self._keeper.remove(link, refusal.reason)
        self._keeper.reschedule()
        if link.outbound:
            self._dialler.lost(link.address, refusal.reason, now - link.since, now)
        self._overlay.link_lost(link, now)
        self._publisher.link_removed(peer_is_alive=refusal.code in _AGREED_ENDS)
        self._overlay_due = now
