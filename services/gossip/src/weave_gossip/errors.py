"""What can go wrong in the gossip service. Expected errors derive from the shared ones.

LinkError                   a link ended or did not come up; carries the reason both sides show
DomainError
+-- StartError              (Conflict) the service cannot start here: one line, exit status 1
+-- RevisionConflictError   (Aborted) Coordination: the key is at another revision
+-- CoordinationAwayError   (NotReady) Coordination: the back-end cannot be reached or read
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from weave_model.errors import Aborted, Conflict, NotReady

if TYPE_CHECKING:
    from weave_gossip.core.messages import Refusal


class LinkError(Exception):
    """A link ended, or never came up. `told_by_peer`: the other side gave the reason."""

    def __init__(self, refusal: Refusal, *, told_by_peer: bool = False) -> None:
        super().__init__(refusal.reason)
        self.refusal = refusal
        self.told_by_peer = told_by_peer


class StartError(Conflict):
    """The service cannot start here; the text names the cause and what to do."""


class RevisionConflictError(Aborted):
    """Compare-and-swap found another revision."""

    def __init__(self, key: str, expected: int, present: int) -> None:
        super().__init__(f"{key!r} is at revision {present}, not {expected}")
        self.present = present


class CoordinationAwayError(NotReady):
    """The back-end of Coordination cannot be reached or read; the text says why."""
