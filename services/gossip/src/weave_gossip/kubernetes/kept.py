"""What Coordination held when it was last seen, for a restart while the API server is away.

Nothing can be written while the store is away, so what was seen until then still stands; an agent
that starts anew meanwhile must know as much as one that went on running. After a boot it must not:
the machine may have been gone for days, and others may have taken its space over.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping
from pathlib import Path

from weave_gossip.coordination.backend import UNINSTALL_KEY, Entry
from weave_runtime.store import Store

_KEY = "coordination"
_BOOT_ID = Path("/proc/sys/kernel/random/boot_id")


class KeptEntries:
    """All entries of one Coordination, in the state of this agent."""

    def __init__(self, store: Store, boot_id: Path = _BOOT_ID) -> None:
        self._store = store
        self._boot_id = boot_id

    async def save(self, entries: Mapping[str, Entry]) -> None:
        """Replaces what is kept. Nothing outlives an uninstall: the next install begins anew."""
        if UNINSTALL_KEY in entries:
            await self._store.commit({_KEY: None})
            return
        shown = {
            key: [entry.revision, base64.b64encode(entry.value).decode()]
            for key, entry in entries.items()
        }
        document = {"boot": self._boot_id.read_text(), "entries": shown}
        await self._store.commit({_KEY: json.dumps(document).encode()})

    async def load(self) -> dict[str, Entry] | None:
        """What is kept of this boot of the machine; None where nothing is."""
        raw = (await self._store.load(_KEY)).get(_KEY)
        document = json.loads(raw) if raw else {}
        if document.get("boot") != self._boot_id.read_text():
            return None
        return {
            key: Entry(revision, base64.b64decode(value))
            for key, (revision, value) in document["entries"].items()
        }
