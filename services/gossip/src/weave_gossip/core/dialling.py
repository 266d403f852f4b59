"""Addresses we dial, and the back-off of each.

After a failure an address waits 2 s, then half as long again each time, up to 6 minutes, each wait
times a random 0.5 to 1.5. A link that lived over 60 s clears this. A refusal that no retry can
change (ourselves, a name collision) ends it until the operator says `connect` again. Whom to dial
at all is decided in overlay.py.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from random import Random

from weave_gossip.core.effects import Dial
from weave_gossip.core.messages import PERMANENT_REFUSALS, Refusal
from weave_model.peer import PeerName

# Weave Net's back-off, which users know: 2 s to 6 min, forgotten by a link that lived a minute.
FIRST_INTERVAL_S = 2.0
INTERVAL_GROWTH = 1.5
LONGEST_INTERVAL_S = 360.0
STABLE_AFTER_S = 60.0
NEVER = float("inf")
# Dials started at once, and how many a second after that: a thousand targets that refuse at once
# must not become a thousand dials in a row.
DIAL_BURST = 32
DIALS_PER_S = 16.0
# Addresses that peers named in refusals; they only have to last until the next dials.
MAX_HINTS = 64


@dataclass(slots=True, eq=False)
class Target:
    """One address and how dialling it went."""

    address: str
    next_try: float
    interval_s: float = FIRST_INTERVAL_S
    is_dialling: bool = False
    # Who was found behind it; stays known while the address is.
    peer: PeerName | None = None
    last_error: str = ""


class Dialler:
    """The state of each address that was dialled or is to be."""

    def __init__(self, rng: Random, direct: Iterable[str], now: float) -> None:
        self._rng = rng
        self._targets: dict[str, Target] = {}
        self.direct: dict[str, None] = dict.fromkeys(direct)
        self.hints: dict[str, None] = {}
        self._epoch = 0
        self._dials_by_epoch: dict[int, Target] = {}
        self._tokens = float(DIAL_BURST)
        self._refilled = now

    # What is wanted

    def connect(self, addresses: Sequence[str], *, replace: bool) -> None:
        """Adds or replaces the direct targets, and lets each be tried at once."""
        if replace:
            self.direct.clear()
        for address in addresses:
            self.direct[address] = None
            target = self._targets.get(address)
            if target is not None:
                target.next_try = float("-inf")
                target.interval_s = FIRST_INTERVAL_S

    def forget(self, addresses: Sequence[str]) -> None:
        for address in addresses:
            self.direct.pop(address, None)

    def hint(self, addresses: Iterable[str]) -> None:
        """Remembers addresses that another peer named."""
        for address in addresses:
            self.hints[address] = None
        while len(self.hints) > MAX_HINTS:
            del self.hints[next(iter(self.hints))]

    def retain(self, addresses: set[str]) -> None:
        """Drops what is known of all other addresses but direct targets and those being dialled."""
        for address, target in list(self._targets.items()):
            if not (address in addresses or address in self.direct or target.is_dialling):
                del self._targets[address]

    # Dialling

    @property
    def dialling(self) -> int:
        """How many dials are in flight."""
        return len(self._dials_by_epoch)

    def target(self, address: str, *, first_try: float = float("-inf")) -> Target:
        """The state of an address; one never seen may be dialled from `first_try` on."""
        target = self._targets.get(address)
        if target is None:
            target = self._targets[address] = Target(address, first_try)
        return target

    def targets(self) -> list[Target]:
        return list(self._targets.values())

    def may_dial_at(self, now: float) -> float:
        """When the limit on the rate allows the next dial: `now` or later."""
        self._tokens = min(DIAL_BURST, self._tokens + (now - self._refilled) * DIALS_PER_S)
        self._refilled = now
        return now if self._tokens >= 1.0 else now + (1.0 - self._tokens) / DIALS_PER_S

    def dial(self, address: str) -> Dial:
        """Starts a dial, whatever the address's back-off says."""
        target = self.target(address)
        assert not target.is_dialling
        target.is_dialling = True
        self._tokens -= 1.0
        self._epoch += 1
        self._dials_by_epoch[self._epoch] = target
        self.hints.pop(address, None)
        return Dial(address, self._epoch)

    def saw_epoch(self, epoch: int) -> None:
        """Ours stay greater than those we have seen, so that a newer dial of a pair wins."""
        if epoch < 1 << 62:
            self._epoch = max(self._epoch, epoch)

    def identified(self, epoch: int, peer: PeerName) -> None:
        """The peer behind the address of a dial in flight said its name."""
        target = self._dials_by_epoch.get(epoch)
        if target is not None:
            target.peer = peer

    def connected(self, address: str, peer: PeerName) -> None:
        """A dial became a link."""
        target = self.target(address)
        self._end_dial(target)
        target.peer = peer
        target.last_error = ""

    def failed(self, address: str, refusal: Refusal, now: float) -> None:
        """A dial came to nothing."""
        target = self.target(address)
        self._end_dial(target)
        target.last_error = refusal.reason
        if refusal.code in PERMANENT_REFUSALS:
            target.next_try = NEVER
        else:
            self._back_off(target, now)

    def lost(self, address: str, reason: str, lived_s: float, now: float) -> None:
        """A link that we dialled ended."""
        target = self._targets.get(address)
        if target is None:
            return
        target.last_error = reason
        if lived_s > STABLE_AFTER_S:
            target.interval_s = FIRST_INTERVAL_S
            target.next_try = now
        else:
            self._back_off(target, now)

    def encourage(self, address: str, not_before: float) -> None:
        """What was true of an address no longer is: it may be tried again soon."""
        target = self._targets.get(address)
        if target is not None and target.next_try != NEVER:
            target.interval_s = FIRST_INTERVAL_S
            target.next_try = min(target.next_try, not_before)

    def delay(self, address: str, until: float) -> None:
        """Leaves the dialling to the other side for a while."""
        target = self.target(address)
        target.next_try = max(target.next_try, until)

    def _end_dial(self, target: Target) -> None:
        target.is_dialling = False
        for epoch, dialled in list(self._dials_by_epoch.items()):
            if dialled is target:
                del self._dials_by_epoch[epoch]

    def _back_off(self, target: Target, now: float) -> None:
        target.next_try = now + target.interval_s * self._rng.uniform(0.5, 1.5)
        target.interval_s = min(target.interval_s * INTERVAL_GROWTH, LONGEST_INTERVAL_S)
