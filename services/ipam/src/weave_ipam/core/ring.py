"""One family's ring at this peer: all documents, the view they give, and our own document in it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from weave_ipam.core.documents import (
    TOPIC_RING,
    AcceptorState,
    DocumentVersion,
    Unreadable,
    family_key,
)
from weave_ipam.core.effects import (
    Effect,
    Note,
    Persist,
    Publish,
    Quarantine,
    RingChanged,
    Severity,
)
from weave_ipam.core.genesis import differing, standing
from weave_ipam.core.granted import Taken
from weave_ipam.core.initial import Initial
from weave_ipam.core.own import is_worth_writing, settle
from weave_ipam.core.peers import Peers
from weave_ipam.core.records import DepartedGone, DepartedRecord, DocumentRecord, Owed
from weave_ipam.core.replicas import Replicas
from weave_ipam.core.view import Segment, View, compute_view, document_fault
from weave_model.peer import PeerName
from weave_model.prefix import Prefix, subtract
from weave_model.ring import Genesis, Receipt, RingDocument, RingView


class Ring:
    """Keeps `view` and the own document true to the documents held."""

    def __init__(
        self,
        universe: Prefix,
        own: RingDocument | None,
        departed: Mapping[PeerName, RingDocument],
        initial: Initial,
        peers: Peers,
        effects: list[Effect],
    ) -> None:
        self.universe = universe
        self.initial = initial
        self.view: View | None = None
        self.seen: RingView | None = None
        # Blocks of ours turned out to be another's since this was last set back.
        self.has_lost = False
        # See `settle`.
        self.may_be_another = True
        self.obeyed = 0
        self.heirs_life = 0
        # What we took over of whom since we started.
        self.taken: dict[PeerName, Taken] = {}
        # What our document must show.
        self.owed: Owed | None = None
        self.rejected: dict[PeerName, str] = {}
        self._replicas = Replicas(universe, peers.me)
        self._peers = peers
        self._effects = effects
        self._stale = True
        self._set_aside: dict[PeerName, DocumentVersion] = {}
        self._shown: list[Segment] = []
        self._contradiction = ""
        # Those that are needed; our document may hold more until it is written for another reason.
        self._receipts: tuple[Receipt, ...] | None = None
        for writer, document in departed.items():
            self._replicas.put_departed(writer, document)
        if own is not None:
            self._replicas.put_own(own)
            self._publish(own)

    @property
    def own(self) -> RingDocument | None:
        """Our document as it is stored and published."""
        return self._replicas.own

    @property
    def departed(self) -> frozenset[PeerName]:
        """Writers whose documents were removed and whose space nobody has taken yet."""
        return frozenset(self._replicas.departed)

    @property
    def documents(self) -> Mapping[PeerName, RingDocument]:
        """Those that `view` is of."""
        return self._replicas.grown_from(self.view.genesis) if self.view is not None else {}

    def life(self, peer: PeerName) -> int:
        """The last fence that a peer has obeyed, as far as its document says."""
        document = self._replicas.get(peer)
        return document.obeyed if document is not None else 0

    def document(self, writer: PeerName) -> RingDocument | None:
        """What a peer says, if it has no fault."""
        return self._replicas.get(writer)

    def touch(self) -> None:
        """Something besides the documents changed: look at everything again."""
        self._stale = True

    def receive(
        self, writer: PeerName, value: RingDocument | Unreadable, version: DocumentVersion
    ) -> None:
        """A document is new or newer. Our own counts only while we have none: state was lost."""
        if writer != self._peers.me:
            had_departed = writer in self.departed
            self._stale |= self._replicas.receive(writer, value, version)
            if had_departed and writer not in self.departed:
                self._effects.append(self._gone(writer))
        elif (
            self.own is None
            and isinstance(value, RingDocument)
            and document_fault(self.universe, value) is None
        ):
            self._stale = True
            self._replicas.put_own(value)
            self._receipts = None
            self._effects.append(Persist((DocumentRecord(value),)))
            self._note(Severity.WARNING, "Our own ring document was taken back from other peers")

    def vote_received(self, voter: PeerName, state: AcceptorState) -> str:
        """A voter's document is new or newer. Gives why it does not count, if so."""
        before = (self.initial.rejected.get(voter), self.rejected.get(voter))
        fault = self.initial.receive(voter, state)
        if fault and fault not in before:
            self._note(Severity.WARNING, f"{self._peers.label(voter)}: {fault}")
        return fault

    def remove(self, writer: PeerName) -> None:
        """A document was removed from gossip; ours is written again."""
        self._stale = True
        if writer != self._peers.me:
            if self._replicas.depart(writer) and (document := self.document(writer)) is not None:
                self._effects.append(Persist((DepartedRecord(writer, document),)))
        elif self.own is not None:
            self._publish(self.own)

    def forget(self, writer: PeerName) -> None:
        """The space of a departed writer has been taken care of."""
        self._stale = True
        self._keep_no_longer(writer)

    def write(self, document: RingDocument) -> None:
        """Makes a new own document durable, then publishes it."""
        document = self._with_debts(document)
        self._stale = True
        self._replicas.put_own(document)
        self._effects.append(Persist((DocumentRecord(document),)))
        self._publish(document)

    def refresh(self, *, may_write: bool, share_for: PeerName | None) -> bool:
        """Brings view and own document up to date. Says if anything changed.

        `may_write`: all that we wrote in an earlier life is known. `share_for`: see `settle`.
        """
        if not self._stale:
            return False
        self._look()
        if may_write and self.view is not None:
            before = self.own
            document = settle(
                self.view,
                self._peers.me,
                self._with_needed_receipts(before),
                share_for,
                self.documents,
                obeyed=self.obeyed,
                heirs_life=self.heirs_life,
                may_be_another=self.may_be_another,
                taken=self.taken,
            )
            if document is not None:
                document = self._with_debts(document)
                self._receipts = document.receipts
                if is_worth_writing(document, before):
                    self._explain(before, document)
                    self.write(document)
                    self._look()
        self._stale = False
        if may_write:
            self._drop_departed()
        self._report()
        return True

    def _with_needed_receipts(self, own: RingDocument | None) -> RingDocument | None:
        if own is None or self._receipts is None:
            return own
        return replace(own, receipts=self._receipts)

    def _with_debts(self, document: RingDocument) -> RingDocument:
        owed = self.owed
        mine = [
            address
            for address in sorted(owed.addresses if owed is not None else ())
            if address.family is self.universe.family
            and any(block.prefix.contains(address) for block in document.blocks)
        ]
        if owed is None or not mine:
            return replace(document, owed=(), owed_to=None, owed_life=0)
        owed_life = self.heirs_life
        return replace(document, owed=tuple(mine), owed_to=owed.heir, owed_life=owed_life)

    def contradiction(self) -> str:
        """The seeds given to us are not those of the ring that stands; empty when they are."""
        given = self.initial.contradicts(self.view.genesis) if self.view is not None else None
        return differing(self.view.genesis, given) if self.view and given else ""

    def _look(self) -> None:
        genesis = self._genesis()
        self.view = None
        if genesis is not None:
            documents = self._replicas.grown_from(genesis)
            self.view = compute_view(self.universe, genesis, documents)

    def _genesis(self) -> Genesis | None:
        return self.initial.pinned or standing(self._replicas.geneses()) or self.initial.hint

    def _explain(self, before: RingDocument | None, after: RingDocument) -> None:
        if before is None:
            return
        if before.genesis != after.genesis:
            self._note(Severity.ERROR, differing(after.genesis, before.genesis))
        assert self.view is not None
        lost = subtract(
            (block.prefix for block in before.blocks), (block.prefix for block in after.blocks)
        )
        self.has_lost |= bool(lost)
        for prefix in lost:
            owners = {segment.owner for segment in self.view.within(prefix)}
            names = ", ".join(self._peers.label(owner) for owner in sorted(owners)) or "nobody"
            self._note(
                Severity.WARNING,
                f"IP range {prefix} is given up: by all documents it belongs to {names} now",
            )

    def _drop_departed(self) -> None:
        for writer in self.departed:
            document = self._replicas.get(writer)
            if (
                self.view is None
                or document is None
                or document.genesis != self.view.genesis
                or (
                    not any(s.owner == writer for s in self.view.segments)
                    and all(self.view.is_fulfilled(grant) for grant in document.grants)
                )
            ):
                self._keep_no_longer(writer)

    def _keep_no_longer(self, writer: PeerName) -> None:
        if writer in self.departed:
            self._effects.append(self._gone(writer))
        self._replicas.discard(writer)

    def _gone(self, writer: PeerName) -> Effect:
        return Persist((DepartedGone(writer, self.universe.family),))

    def _report(self) -> None:
        rejected = self._replicas.rejected(self.view.genesis if self.view else None)
        key = family_key(self.universe.family)
        versions = {writer: self._replicas.version(writer) for writer in rejected}
        for writer, reason in rejected.items():
            same_reason = self.rejected.get(writer) == reason
            if not same_reason and self.initial.rejected.get(writer) != reason:
                self._note(Severity.WARNING, f"{self._peers.label(writer)}: {reason}")
            if not same_reason or self._set_aside.get(writer) != versions[writer]:
                aside = Quarantine(TOPIC_RING, writer, key, versions[writer], reason)
                self._effects.append(aside)
        self.rejected, self._set_aside = rejected, versions
        contradiction = self.contradiction()
        if contradiction and contradiction != self._contradiction:
            self._note(Severity.WARNING, contradiction)
        self._contradiction = contradiction
        # Most documents change generations or grants only.
        if self.view is not None and self.view.segments != self._shown:
            self._shown = self.view.segments
            seen = self.view.ring()
            if seen != self.seen:
                self.seen = seen
                self._effects.append(RingChanged(seen))

    def _publish(self, document: RingDocument) -> None:
        key = family_key(self.universe.family)
        self._effects.append(Publish(TOPIC_RING, key, document))

    def _note(self, severity: Severity, text: str) -> None:
        self._effects.append(Note(severity, text))
