"""Who this process works for, and which start of the machine it belongs to.

With the embedded store the peer's name is in the store. A shared store can be opened only under the
name, so there it is kept in a small file beside, for starts at which gossip is away.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from weave_ipam.gossip_client import GossipClient, Identity
from weave_model.errors import DomainError
from weave_model.peer import PeerName

# How long a process that knows its name from an earlier life waits for gossip to confirm it.
CONFIRM_TIMEOUT_S = 2.0
# Between tries to reach gossip at start: it starts at the same time as this process.
RETRY_S = 0.1
BOOT = "boot"

_BOOT_ID = Path("/proc/sys/kernel/random/boot_id")


@dataclass(frozen=True, slots=True)
class Boot:
    """A start of the machine. Allocations below `generation` are from before it."""

    id: str
    generation: int

    def to_entry(self) -> bytes:
        """As the store's entry `boot`."""
        return f"{self.id} {self.generation}".encode()


def boot_of(entries: Mapping[str, bytes], generation: int, boot_id: str) -> Boot:
    """The present start; `generation` is what the next allocation will have."""
    with contextlib.suppress(ValueError, KeyError):
        stored_id, stored_generation = entries[BOOT].decode().split()
        if stored_id == boot_id:
            return Boot(boot_id, int(stored_generation))
    return Boot(boot_id, generation)


def current_boot_id() -> str:
    """The kernel's random name for the present start of the machine."""
    return _BOOT_ID.read_text().strip()


async def find_identity(
    gossip: GossipClient, remembered: PeerName | None, waiting: Callable[[str], None]
) -> Identity | None:
    """Asks gossip until it answers; None when it does not but the name is remembered.

    `waiting` is told why it takes so long.
    """
    loop = asyncio.get_running_loop()
    give_up = loop.time() + CONFIRM_TIMEOUT_S
    while remembered is None or loop.time() < give_up:
        try:
            return await gossip.identity(CONFIRM_TIMEOUT_S)
        except DomainError as error:
            waiting(f"waiting for gossip to say this peer's name ({error})")
        await asyncio.sleep(RETRY_S)
    return None


def remembered_name(directory: Path) -> PeerName | None:
    """The name this node had at its last start; None when there is none that can be read."""
    try:
        return PeerName.parse((directory / "peer").read_text().strip())
    except (OSError, ValueError):
        return None


def remember_name(directory: Path, name: PeerName) -> None:
    """Keeps the name for the next start. Raises OSError."""
    if remembered_name(directory) == name:
        return
    directory.mkdir(parents=True, exist_ok=True, mode=0o700)
    new = directory / "peer.new"
    new.write_text(f"{name}\n")
    new.rename(directory / "peer")
