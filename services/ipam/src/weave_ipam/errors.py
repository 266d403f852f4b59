"""What goes wrong in ipam's shell, beside what the core says.

DomainError
+-- NotReady
|   +-- Starting        nothing can be answered yet; says what is waited for
|   +-- Overloaded      more callers wait than are served
|   +-- StillWaiting    the caller's time is over; says what was waited for
+-- Conflict
    +-- StateDamaged    the store holds an entry that means nothing
    +-- NameChanged     gossip gives another name than the one this process works under
"""

from __future__ import annotations

from weave_model.errors import Conflict, NotReady


class Starting(NotReady):
    """Nothing can be answered yet."""


class Overloaded(NotReady):
    """More callers wait than are served."""


class StillWaiting(NotReady):
    """The caller's time is over."""


class StateDamaged(Conflict):
    """The store holds an entry that means nothing; it is left as it is."""


class NameChanged(Conflict):
    """Gossip gives another peer name than the one this process works under."""
