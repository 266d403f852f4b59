"""What the simulated network does to frames, and which paths there are."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(slots=True)
class Conditions:
    """Of all paths alike; times in seconds, shares of one."""

    # One way; each frame takes delay * (1 +- jitter).
    delay_s: float = 0.025
    jitter: float = 0.2
    # Frames lost, doubled, or overtaken by later ones. TCP would do none of this to a stream: it is
    # what the core must bear anyway, and harsher than the delays that TCP makes of it.
    loss: float = 0.0
    duplication: float = 0.0
    reordering: float = 0.0
    # Bytes under way to a peer after which its sender is told to wait.
    window_bytes: int = 256 * 1024
    # (from, to) pairs of node numbers that no packet passes.
    cuts: set[tuple[int, int]] = field(default_factory=set)
    # Nodes in different groups do not reach each other; a node not listed is in group 0.
    groups: dict[int, int] = field(default_factory=dict)

    def passes(self, source: int, destination: int) -> bool:
        """Whether packets get from one node to another."""
        if self.groups and self.groups.get(source, 0) != self.groups.get(destination, 0):
            return False
        return (source, destination) not in self.cuts

    def heal(self) -> None:
        """Takes away every cut and fault but delay and jitter."""
        self.cuts.clear()
        self.groups.clear()
        self.loss = self.duplication = self.reordering = 0.0
