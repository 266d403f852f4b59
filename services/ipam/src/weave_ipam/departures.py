"""Takes over the space of peers whose machines the cluster no longer has.

Every peer tries, after a while of its own; the fence in Coordination lets one of them succeed.
"""

from __future__ import annotations

import asyncio
import functools
import logging
import random
from collections.abc import Callable, Mapping

from weave_ipam.core.effects import RequestId
from weave_ipam.core.results import Reclaimed
from weave_ipam.gossip_client import Peer
from weave_ipam.loop import Owner
from weave_model.errors import DomainError
from weave_model.peer import PeerName
from weave_runtime.logs import once_per

log = logging.getLogger(__name__)
log.addFilter(once_per(60))

# Weave Net's agents spread their attempts over 5 s, too.
PERIOD_S = 5.0
# Coordination may be slow; the next round tries again.
LIMIT_S = 30.0


class Departures:
    """`peers` gives all that gossip knows now; clock and randomness only spread the attempts."""

    def __init__(
        self,
        owner: Owner,
        peers: Callable[[], Mapping[PeerName, Peer]],
        rng: random.Random,
        period_s: float = PERIOD_S,
    ) -> None:
        self._owner = owner
        self._peers = peers
        self._rng = rng
        self._period_s = period_s

    async def run(self) -> None:
        """Looks again and again, until cancelled."""
        while True:
            await asyncio.sleep(self._period_s * (0.5 + self._rng.random()))
            for peer in self._peers().values():
                if peer.departed and not peer.reachable and not peer.is_self:
                    await self._take_over(peer.name)

    async def _take_over(self, victim: PeerName) -> None:
        reclaim = functools.partial(_reclaim, self._owner, victim)
        try:
            outcome = await self._owner.call(reclaim, timeout_s=LIMIT_S)
        except DomainError as error:
            log.info("space of a departed peer not taken over", extra={"reason": str(error)})
            return
        assert isinstance(outcome, Reclaimed)
        log.info("rmpeer of %s: %d IPs taken over", victim, outcome.addresses)


def _reclaim(owner: Owner, victim: PeerName, id_: RequestId, now: float) -> None:
    owner.allocator.reclaim(id_, victim, now)
