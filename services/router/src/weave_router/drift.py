"""What in the kernel was changed by others: told once, remembered for status."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass

# Status shows the latest; a node on which more than this happens has one cause for all of it.
MAX_ENTRIES = 64

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class DriftEntry:
    """Something that had changed without us."""

    what: str
    since_unix_s: float
    repaired: bool


class DriftNotes:
    """Notes of one scope (the node, a sandbox) replace those before; repairs are kept."""

    def __init__(self, wall_clock: Callable[[], float] = time.time) -> None:
        self.repairs = 0
        self._wall_clock = wall_clock
        # What differs now, by scope and text.
        self._present: dict[str, dict[str, DriftEntry]] = {}
        self._repaired: dict[str, DriftEntry] = {}

    @property
    def entries(self) -> list[DriftEntry]:
        """What differs now and what was repaired of late, newest last."""
        present = [entry for scope in self._present.values() for entry in scope.values()]
        everything = sorted([*self._repaired.values(), *present], key=lambda e: e.since_unix_s)
        return everything[-MAX_ENTRIES:]

    def note(self, scope: str, found: Mapping[str, bool]) -> None:
        """Notes all that differs in a scope; the value says whether it was repaired."""
        now = self._wall_clock()
        before = self._present.pop(scope, {})
        present = {}
        for text, is_repaired in found.items():
            if is_repaired:
                self.repairs += 1
                log.warning("repaired: %s", text)
                self._repaired.pop(text, None)
                self._repaired[text] = DriftEntry(text, now, repaired=True)
                continue
            if text not in before:
                log.warning("changed by others: %s", text)
            since = before[text].since_unix_s if text in before else now
            present[text] = DriftEntry(text, since, repaired=False)
        if present:
            self._present[scope] = present
        while len(self._repaired) > MAX_ENTRIES:
            del self._repaired[next(iter(self._repaired))]

    def forget(self, scope: str) -> None:
        """Drops what is noted of a scope that is no more."""
        self._present.pop(scope, None)
