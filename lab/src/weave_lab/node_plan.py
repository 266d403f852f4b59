"""What `weave_lab.node_init` is told and what it answers."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass

# Its first and only line, once the namespaces are made.
READY = "ready\n"


@dataclass(frozen=True, slots=True)
class NodePlan:
    """What the node's file system looks like. `binds` maps a path inside to the folder it shows."""

    host_name: str
    # An empty folder of the node on the host; a file system of the node's own is mounted there.
    scratch: str
    run_dir: str
    binds: dict[str, str]
    # Paths that every service uid must reach, and the closed folders on the way to them.
    covers: dict[str, list[str]]

    def to_json(self) -> str:
        """The argument for `python -m weave_lab.node_init`."""
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, text: str) -> NodePlan:
        """What `to_json` gave."""
        return cls(**json.loads(text))
