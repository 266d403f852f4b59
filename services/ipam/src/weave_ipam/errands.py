"""The core's wishes to gossip, Coordination and router, carried out with patience.

What only the newest value matters for is kept until it is done; what the core asks for again by
itself is tried once. At most one errand of a kind and subject is under way.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Coroutine
from dataclasses import replace
from typing import Any

from weave_ipam import fence_book
from weave_ipam.core.allocator import Allocator
from weave_ipam.core.documents import TOPIC_MESSAGES
from weave_ipam.core.effects import (
    Answer,
    Effect,
    Note,
    Persist,
    ProposeGenesis,
    Publish,
    Quarantine,
    ReadFence,
    RemovePeer,
    RingChanged,
    SendMessage,
    WriteFence,
)
from weave_ipam.core.fences import Fence
from weave_ipam.gossip_client import GossipClient
from weave_ipam.loop import Owner
from weave_ipam.wire import (
    decode_genesis,
    encode_document,
    encode_genesis,
    encode_message,
)
from weave_model.errors import Conflict, DomainError, NotReady
from weave_model.peer import PeerName
from weave_model.prefix import Family
from weave_model.ring import RingView
from weave_runtime.watch import Table

# Errands under way. Whatever does not fit is asked for again by the core's own timers.
MAX_UNDER_WAY = 256
# Between tries of what has to be repeated until it is done.
RETRY_S = 5.0
# Fences of other victims that may come first, while ours is written into the key they share.
MAX_SWAPS = 16

log = logging.getLogger(__name__)


def genesis_key(family: Family) -> str:
    """Where in Coordination a family's first ring is."""
    return f"ipam/genesis/{int(family)}"


class Errands:
    """Performs every effect that concerns others; `run` is its task."""

    def __init__(self, owner: Owner, gossip: GossipClient, ring: Table[Family, RingView]) -> None:
        self._owner = owner
        self._core: Allocator = owner.allocator
        self._gossip = gossip
        self._ring = ring
        self._under_way: dict[object, asyncio.Task[None]] = {}

    def perform(self, effect: Effect) -> None:
        """Does it, or begins to. Never blocks, never raises."""
        match effect:
            case RingChanged(view):
                self._ring.put(view.family, view)
            case Publish(topic, key, value):
                self._gossip.publish(topic, key, encode_document(value))
            case SendMessage(peer, message):
                payload = encode_message(message)
                self._begin(effect, self._gossip.send(peer, TOPIC_MESSAGES, payload))
            case Quarantine():
                self._begin(effect, self._quarantine(effect))
            case RemovePeer(peer):
                self._begin(effect, self._until_done(lambda: self._remove(peer)))
            case ReadFence(victim):
                self._begin(effect, self._read_fence(victim))
            case WriteFence():
                self._begin(effect, self._write_fence(effect))
            case ProposeGenesis(family):
                self._begin(("genesis", family), self._propose(effect))
            case Persist() | Answer() | Note():
                pass  # the owner's own

    async def close(self) -> None:
        """Gives up what is under way."""
        tasks = list(self._under_way.values())
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks)

    def _begin(self, what: object, work: Coroutine[Any, Any, None]) -> None:
        if what in self._under_way or len(self._under_way) >= MAX_UNDER_WAY:
            work.close()
            if isinstance(what, ReadFence | WriteFence) and what not in self._under_way:
                victim = what.victim if isinstance(what, ReadFence) else what.fence.victim
                self._fence_failed(victim, NotReady("too much is under way"))
            return
        task = asyncio.create_task(_quietly(what, work))
        self._under_way[what] = task
        task.add_done_callback(lambda _: self._under_way.pop(what, None))

    async def _quarantine(self, effect: Quarantine) -> None:
        await self._gossip.quarantine(
            effect.topic,
            effect.writer,
            effect.key,
            (effect.version.incarnation, effect.version.version),
            effect.reason,
        )

    async def _remove(self, peer: PeerName) -> None:
        try:
            await self._gossip.remove_peer(peer)
        except Conflict as refusal:
            log.info("peer stays known", extra={"peer": peer, "reason": str(refusal)})

    async def _until_done(self, attempt: Callable[[], Awaitable[None]]) -> None:
        while True:
            try:
                return await attempt()
            except DomainError:
                await asyncio.sleep(RETRY_S)

    async def _read_fence(self, victim: PeerName) -> None:
        try:
            revision, fence = await self._find_fence(victim)
        except (DomainError, ValueError) as error:
            self._fence_failed(victim, error)
        else:
            self._owner.post(lambda now: self._core.fence_read(victim, revision, fence, now))

    async def _write_fence(self, wish: WriteFence) -> None:
        fence = wish.fence
        try:
            revision = await self._swap_fence(fence, wish.expected_revision)
            if revision is not None:
                fence = replace(fence, token=await self._draw_token(wish.floor))
                revision = await self._swap_fence(fence, revision, revision)
            own_revision, own = await self._find_fence(fence.heir)
        except (DomainError, ValueError) as error:
            self._fence_failed(fence.victim, error)
            return
        if revision is None:
            self._owner.post(lambda now: self._core.fence_raced(fence.victim, now))
            return
        self._owner.post(lambda now: self._core.fence_read(fence.heir, own_revision, own, now))
        self._owner.post(lambda now: self._core.fence_written(revision, fence, now))

    async def _swap_fence(self, fence: Fence, expected: int, revision: int = 0) -> int | None:
        """The fence's revision, a new one if none is given; None when another of this victim was
        written meanwhile."""
        key = fence_book.key_of(fence.victim)
        for _ in range(MAX_SWAPS):
            before, value = await self._gossip.get(key)
            present, _ = fence_book.find(value, fence.victim)
            if present != expected:
                return None
            wanted = fence_book.put(value, fence, revision or before + 1)
            if await self._gossip.compare_and_swap(key, before, wanted) is not None:
                return revision or before + 1
        raise NotReady("fences of other peers are being written all the time")

    async def _find_fence(self, victim: PeerName) -> tuple[int, Fence | None]:
        _, value = await self._gossip.get(fence_book.key_of(victim))
        return fence_book.find(value, victim)

    async def _draw_token(self, floor: int) -> int:
        """Greater than `floor`, and than all that anybody has drawn before."""
        for _ in range(MAX_SWAPS):
            revision, value = await self._gossip.get(fence_book.TOKENS)
            token = max(floor, int(value or b"0")) + 1
            drawn = str(token).encode()
            if await self._gossip.compare_and_swap(fence_book.TOKENS, revision, drawn) is not None:
                return token
        raise NotReady("fencing tokens are being drawn all the time")

    def _fence_failed(self, victim: PeerName, error: Exception) -> None:
        reason = f"fence of {victim} in Coordination: {error}"
        self._owner.post(lambda now: self._core.fence_failed(victim, reason, now))

    async def _propose(self, effect: ProposeGenesis) -> None:
        key = genesis_key(effect.family)
        revision, value = await self._gossip.get(key)
        if not revision:
            ours = encode_genesis(effect.genesis)
            if await self._gossip.compare_and_swap(key, 0, ours) is not None:
                value = ours
            else:
                _, value = await self._gossip.get(key)
        genesis = decode_genesis(value)
        self._owner.post(lambda now: self._core.genesis_agreed(effect.family, genesis, now))


async def _quietly(what: object, work: Coroutine[Any, Any, None]) -> None:
    """An errand's failure is no news to anybody but a developer: the core asks again."""
    try:
        await work
    except (DomainError, ValueError) as error:
        log.debug("errand failed", extra={"errand": what, "reason": str(error)})
