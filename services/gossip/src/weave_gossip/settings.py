"""What this process is, once the options and the state are known: constant for its life."""

from __future__ import annotations

from dataclasses import dataclass

from weave_model.peer import PeerName


@dataclass(frozen=True, slots=True)
class Settings:
    """Shown in status; decided at start."""

    name: PeerName
    nickname: str
    port: int
    version: str
    is_encrypted: bool
    discovery: bool
