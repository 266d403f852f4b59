"""What of a stored state fits the options of this start."""

from __future__ import annotations

from dataclasses import replace

from weave_ipam.core.effects import Effect, Note, Persist, Severity
from weave_ipam.core.options import Options
from weave_ipam.core.records import (
    DepartedGone,
    DocumentGone,
    NameRecord,
    OwedRecord,
    Record,
    State,
)


def fitting(state: State, options: Options, effects: list[Effect]) -> State:
    """The state without documents and votes of another peer or another range, in Weave Net's words.

    Allocations and quarantine stay whatever happens: pods may be running with these addresses.
    """
    records: list[Record] = []
    documents, acceptors = dict(state.documents), dict(state.acceptors)
    fence, owed = state.fence_revision, state.owed
    ranges = {option.family: option.universe for option in options.families}
    if state.name is not None and state.name != options.name:
        effects.append(_note(f"Deleting persisted data for peername {state.name}"))
        records += [DocumentGone(family) for family in documents]
        documents, acceptors, fence, owed = {}, {}, 0, None
        if state.owed is not None:
            records.append(OwedRecord(None))
    for family, document in list(documents.items()):
        ours = ranges.get(family)
        if document.universe != ours:
            text = f"our range is {ours}" if ours is not None else "we have no such range"
            effects.append(
                _note(f"Deleting persisted data for IPAM range {document.universe}; {text}")
            )
            records.append(DocumentGone(family))
            del documents[family]
    if state.name is not None and state.name != options.name:
        # A state without a name stays so until the addresses in use are known: see `adopt`.
        records.append(NameRecord(options.name))
    departed = dict(state.departed)
    for (family, writer), document in state.departed.items():
        if document.universe != ranges.get(family):
            records.append(DepartedGone(writer, family))
            del departed[family, writer]
    if records:
        effects.append(Persist(tuple(records)))
    if state.name is None:
        effects.append(Note(Severity.INFO, "No valid persisted data"))
    elif documents:
        effects.append(Note(Severity.INFO, "Initialising with persisted data"))
    return replace(
        state,
        documents=documents,
        departed=departed,
        acceptors=acceptors,
        fence_revision=fence,
        owed=owed,
    )


def _note(text: str) -> Note:
    return Note(Severity.WARNING, text)
