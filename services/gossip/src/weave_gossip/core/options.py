"""What an operator may choose about the mesh.

Times that are protocol rather than choice are constants of the modules.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class MeshOptions:
    """Validated by the shell's configuration; raises ValueError for what it may not let through."""

    # CONN_LIMIT: links this peer holds at most; 0: unlimited.
    connection_limit: int = 30
    # False: only targets are dialled, never addresses learnt from the mesh.
    discovery: bool = True

    def __post_init__(self) -> None:
        if self.connection_limit < 0:
            raise ValueError(
                f"connection limit {self.connection_limit} is negative; 0 means unlimited"
            )
