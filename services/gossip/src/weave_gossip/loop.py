"""Drives the core: feeds it inputs and time, performs its effects in order.

Effects go through one queue. A `Persist*` holds back what follows until the store has it, so that
nobody hears of a document that a crash could take back; pings pass, because a slow disk must not
look like a dead peer.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Callable
from typing import Protocol, TypeVar, assert_never

from weave_gossip import state
from weave_gossip.core.effects import (
    CloseLink,
    DeliverUnicast,
    Dial,
    DocumentChanged,
    DocumentRemoved,
    Effect,
    LinkId,
    LogEvent,
    LogLevel,
    PeerChanged,
    PeerRemoved,
    PersistDocument,
    PersistIncarnation,
    PersistTargets,
    Send,
)
from weave_gossip.core.facts import PeerFacts
from weave_gossip.core.mesh import Mesh
from weave_gossip.core.messages import Hello, Message, Ping, Pong, Refusal
from weave_gossip.views import Views
from weave_runtime.logs import once_per
from weave_runtime.store import Store, StoreError

log = logging.getLogger(__name__)
# The core's lines. Its back-off bounds those about links; what is wrong (a name collision at each
# start of a clone) is said once a minute.
mesh_log = logging.getLogger("weave_gossip.mesh")
_repeats = once_per(60)
mesh_log.addFilter(lambda record: record.levelno < logging.WARNING or _repeats.filter(record))

R = TypeVar("R")

# A full disk is not emptied within a second.
COMMIT_RETRY_S = 1.0

_LEVELS = {
    LogLevel.DEBUG: logging.DEBUG,
    LogLevel.INFO: logging.INFO,
    LogLevel.WARNING: logging.WARNING,
    LogLevel.ERROR: logging.ERROR,
}


class Network(Protocol):
    """Performs the effects that touch links."""

    def send(self, link: LinkId, message: Message) -> bool:
        """Queues a frame. False: the link cannot take more for now. An unknown link is no error."""
        ...

    def close(self, link: LinkId, refusal: Refusal | None) -> None:
        """Ends a link. An unknown one is no error."""
        ...

    def dial(self, address: str, epoch: int) -> None:
        """Starts a dial; its outcome comes as an input."""
        ...


class Driver:
    """The only one who touches the core. Belongs to one event loop; no call blocks."""

    def __init__(self, mesh: Mesh, store: Store, views: Views, seen: state.SeenDocuments) -> None:
        self._mesh = mesh
        self._store = store
        self._views = views
        self._seen = seen
        self._network: Network | None = None
        self._loop = asyncio.get_running_loop()
        self._queue: deque[Effect | asyncio.Future[None]] = deque()
        self._commit: asyncio.Task[None] | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._is_advancing = False
        self.store_error = ""

    def start(self, network: Network) -> None:
        """From here on effects are performed and time passes."""
        self._network = network
        self.call(lambda mesh, now: mesh.tick(now))

    async def close(self) -> None:
        """Stops time and waits for a commit under way."""
        self._network = None
        if self._timer is not None:
            self._timer.cancel()
        if self._commit is not None:
            self._commit.cancel()
            await asyncio.wait({self._commit})

    def now(self) -> float:
        """The core's clock."""
        return self._loop.time()

    def ask(self, question: Callable[[Mesh], R]) -> R:
        """Reads from the core."""
        return question(self._mesh)

    def call(self, command: Callable[[Mesh, float], R]) -> R:
        """Gives the core one input and starts what follows from it."""
        try:
            return command(self._mesh, self._loop.time())
        finally:
            self._pump()

    async def call_durably(self, command: Callable[[Mesh, float], R]) -> R:
        """Like `call`; returns when all effects up to now are performed, so when it is durable."""
        result = self.call(command)
        if self._queue:
            performed = self._loop.create_future()
            self._queue.append(performed)
            await performed
        return result

    def update_facts(self, facts: PeerFacts) -> None:
        """Publishes changed facts about this peer."""
        self.call(lambda mesh, now: mesh.update_facts(facts, now))

    # Inputs from the network

    def own_hello(self, epoch: int) -> Hello:
        """See Side."""
        return self._mesh.own_hello(epoch)

    def judge_hello(self, hello: Hello, *, outbound: bool, epoch: int) -> Refusal | None:
        """See Side."""
        return self.call(
            lambda mesh, now: mesh.judge_hello(hello, outbound=outbound, epoch=epoch, now=now)
        )

    def link_received(self, link: LinkId, message: Message) -> None:
        """See LinkEvents."""
        self._mesh.receive(link, message, self._loop.time())
        self._pump()

    def link_drained(self, link: LinkId) -> None:
        """See LinkEvents."""
        self.call(lambda mesh, now: mesh.link_drained(link, now))

    def link_ended(self, link: LinkId, refusal: Refusal) -> None:
        """See LinkEvents."""
        self.call(lambda mesh, now: mesh.link_lost(link, refusal.reason, now))

    # Effects

    def _pump(self) -> None:
        if self._network is None:
            return
        # Performing may tell the core that a link is blocked, which may have effects in turn.
        while effects := self._mesh.take_effects():
            for effect in effects:
                match effect:
                    case Send(_, Ping() | Pong()) if self._commit is not None:
                        self._perform(effect)
                    case _:
                        self._queue.append(effect)
            self._advance()
        self._arm()

    def _advance(self) -> None:
        if self._is_advancing:
            return
        self._is_advancing = True
        try:
            while self._queue and self._commit is None:
                head = self._queue.popleft()
                match head:
                    case PersistIncarnation() | PersistDocument() | PersistTargets():
                        self._queue.appendleft(head)
                        self._commit = self._loop.create_task(
                            self._persist(self._take_batch()), name="persist"
                        )
                    case asyncio.Future():
                        if not head.done():
                            head.set_result(None)
                    case _:
                        self._perform(head)
        finally:
            self._is_advancing = False

    def _take_batch(self) -> dict[str, bytes | None]:
        """The run of persist effects at the head of the queue, as one commit."""
        batch: dict[str, bytes | None] = {}
        while self._queue:
            match self._queue[0]:
                case PersistIncarnation(incarnation):
                    key, value = state.incarnation_entry(incarnation)
                case PersistDocument(document):
                    key, value = state.own_document_entry(document)
                case PersistTargets(targets):
                    key, value = state.targets_entry(targets)
                case _:
                    break
            batch[key] = value
            self._queue.popleft()
        return batch

    async def _persist(self, batch: dict[str, bytes | None]) -> None:
        while True:
            try:
                await self._store.commit(batch)
                break
            except StoreError as error:
                if str(error) != self.store_error:
                    self.store_error = str(error)
                    log.warning("state cannot be written, trying again: %s", error)
                await asyncio.sleep(COMMIT_RETRY_S)
        self.store_error = ""
        self._commit = None
        self._advance()
        self._pump()

    def _perform(self, effect: Effect) -> None:
        network = self._network
        assert network is not None
        match effect:
            case Send(link, message):
                if not network.send(link, message):
                    self._mesh.link_blocked(link)
            case CloseLink(link, refusal):
                network.close(link, refusal)
            case Dial(address, epoch):
                network.dial(address, epoch)
            case DocumentChanged(document):
                self._views.document_changed(document)
                self._seen.changed(document)
            case DocumentRemoved(document_id):
                self._views.document_removed(document_id)
                self._seen.removed(document_id)
            case PeerChanged(peer):
                self._views.peer_changed(peer)
            case PeerRemoved(name):
                self._views.peers.remove(name)
            case DeliverUnicast():
                self._views.deliver(effect)
            case LogEvent(level, message, fields):
                mesh_log.log(_LEVELS[level], "%s", message, extra=fields)
            case PersistIncarnation() | PersistDocument() | PersistTargets():
                raise AssertionError("persisted by the queue")
            case _:
                assert_never(effect)

    # Time

    def _arm(self) -> None:
        """Re-arms the timer only for an earlier deadline: one that fires too early is harmless."""
        deadline = self._mesh.next_deadline()
        if deadline is None:
            return
        if self._timer is not None:
            if self._timer.when() <= deadline:
                return
            self._timer.cancel()
        self._timer = self._loop.call_at(deadline, self._tick)

    def _tick(self) -> None:
        self._timer = None
        self.call(lambda mesh, now: mesh.tick(now))
