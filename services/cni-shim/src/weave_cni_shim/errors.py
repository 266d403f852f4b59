"""Errors of cni-shim.

DomainError
+-- AlreadyThere
|   +-- AlreadyAttached   an ADD names an attachment that lives; it is not touched
+-- Aborted
    +-- Superseded        a DEL of the same attachment came while its ADD was running
"""

from __future__ import annotations

from weave_model.errors import Aborted, AlreadyThere


class AlreadyAttached(AlreadyThere):
    """An ADD names an attachment that lives; it is not touched."""


class Superseded(Aborted):
    """A DEL of the same attachment came while its ADD was running; the ADD is undone."""
