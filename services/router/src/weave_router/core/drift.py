"""Which differences are somebody else's doing, and which follow from changed facts?

What was desired in the round before and is missing or wrong now was changed by others, and so was
what is there although it was not desired before. Everything else follows from what we have learnt
since.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable

from weave_router.core.diff import (
    Add,
    Change,
    LoadRuleset,
    Operation,
    Remove,
    UpdateSets,
)
from weave_router.core.state import KernelObject, KernelState


class Baseline:
    """What was desired in the round before."""

    def __init__(self, desired: KernelState) -> None:
        self._desired = desired
        self._objects: frozenset[KernelObject] = frozenset().union(*_collections(desired))
        self._keys: frozenset[tuple[type, Hashable]] = frozenset(
            (type(item), item.key) for item in self._objects
        )

    def is_drift(self, operation: Operation) -> bool:
        """Does the operation undo what others did?"""
        match operation:
            case Add(what) | Change(_, what):
                return what in self._objects
            case Remove(what):
                return (type(what), what.key) not in self._keys
            case UpdateSets(removed, added):
                sets = self._desired.sets
                return all(
                    elements <= sets.get(name, frozenset()) for name, elements in added.items()
                ) and not any(
                    elements & sets.get(name, frozenset()) for name, elements in removed.items()
                )
            case LoadRuleset(body):
                return body == self._desired.ruleset


def _collections(state: KernelState) -> Iterable[Iterable[KernelObject]]:
    return (
        state.links,
        state.addresses,
        state.routes,
        state.rules,
        state.neighbours,
        state.fdb,
        state.sysctls,
        state.accepts,
    )
