"""What a removed peer claims from before its fence counts for less than what its heir took.

The heir may have taken over without knowing the victim's last documents, whose generations may be
higher, and have passed on what it took. So whoever brings such a document later, or the victim
itself, takes back nothing of that; what the heir did not know of is still the victim's.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace

from weave_model.peer import PeerName
from weave_model.ring import RingDocument, Takeover

# Of victims that never came back; those of the highest generations, the last, are kept.
MAX_TAKEOVERS = 256


def below(generation: int, bound: int) -> int:
    """The generation of a claim that has to stay below `bound`; 0: there is none."""
    return min(generation, bound - 1) if bound else generation


def below_grants(generation: int, bound: int) -> int:
    """As `below`, of a grant, whose heir claims it with one more."""
    return below(generation, max(bound - 1, 1)) if bound else generation


def lowered(document: RingDocument, bound: int) -> RingDocument:
    """All that a document claims, put below the bound."""
    return replace(
        document,
        blocks=tuple(replace(b, generation=below(b.generation, bound)) for b in document.blocks),
        grants=tuple(
            replace(g, generation=below_grants(g.generation, bound)) for g in document.grants
        ),
    )


def is_taken_over(
    victim: PeerName, revision: int, documents: Mapping[PeerName, RingDocument]
) -> bool:
    """Is there a document of whoever took `victim` over by this fence or a later one?"""
    return any(
        takeover.victim == victim and takeover.revision >= revision
        for document in documents.values()
        for takeover in document.takeovers
    )


class Bounds:
    """The bounds that all documents set."""

    def __init__(self, documents: Mapping[PeerName, RingDocument]) -> None:
        self._by_victim: dict[PeerName, list[Takeover]] = {}
        for document in documents.values():
            for takeover in document.takeovers:
                self._by_victim.setdefault(takeover.victim, []).append(takeover)

    def of(self, writer: PeerName, document: RingDocument) -> int:
        """The bound of what a document says; 0: none."""
        takeovers = self._by_victim.get(writer, ())
        return min((t.generation for t in takeovers if t.revision > document.obeyed), default=0)


def needed(
    takeovers: Iterable[Takeover], documents: Mapping[PeerName, RingDocument]
) -> tuple[Takeover, ...]:
    """The last of each victim that has not obeyed it, as far as its document says."""
    last: dict[PeerName, Takeover] = {}
    for takeover in takeovers:
        victim = documents.get(takeover.victim)
        known = last.get(takeover.victim, takeover)
        if victim is None or victim.obeyed < takeover.revision:
            last[takeover.victim] = max(known, takeover, key=lambda t: t.revision)
    first = sorted(last.values(), key=lambda t: (-t.generation, t.victim))
    return tuple(sorted(first[:MAX_TAKEOVERS]))
