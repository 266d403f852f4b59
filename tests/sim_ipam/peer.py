"""One simulated node: the allocator, a store that survives it, its callers and its containers."""

from __future__ import annotations

import random
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, replace

from tests.sim.scheduler import Scheduler
from tests.sim_ipam.coordination import Coordination
from tests.sim_ipam.mesh import DocumentId, Mesh, Replica, Stored
from weave_ipam.core.allocator import Allocator
from weave_ipam.core.documents import TOPICS_NEEDED, Message
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
    RequestId,
    RingChanged,
    SendMessage,
    WriteFence,
)
from weave_ipam.core.fences import Fence
from weave_ipam.core.options import Options
from weave_ipam.core.records import State
from weave_ipam.core.results import Allocated, Claimed, InUse, PeerInfo, Result
from weave_model.attachment import AttachmentKey
from weave_model.errors import DomainError
from weave_model.peer import PeerName

Outcome = Result | DomainError

# Deadlines at one moment, one after the other; more is a deadline that its tick does not meet.
MAX_ALARMS = 100


@dataclass(slots=True)
class Call:
    """A caller's request and its fate."""

    request: RequestId
    done: Callable[[Outcome], None] | None = None
    outcome: Outcome | None = None
    given_up: bool = False

    @property
    def is_answered(self) -> bool:
        return self.outcome is not None


@dataclass(slots=True)
class Speed:
    """How long things take on a node, in seconds."""

    commit_s: float = 0.0
    coordination_s: float = 0.0
    start_s: float = 0.0


class Peer:
    """Performs effects as the service does: in order, nothing before the commits in front of it."""

    def __init__(
        self,
        options: Options,
        scheduler: Scheduler,
        mesh: Mesh,
        coordination: Coordination,
        rng: random.Random,
        speed: Speed,
    ) -> None:
        self.options = options
        self.state = State()
        self.allocator: Allocator | None = None
        # What runs on the node: the kernel's truth.
        self.containers: dict[AttachmentKey, InUse] = {}
        self.calls: dict[RequestId, Call] = {}
        self.notes: list[str] = []
        self.quarantined: list[Quarantine] = []
        self.views = 0
        # Added to the time that the allocator is told.
        self.clock_offset = 0.0
        self._scheduler = scheduler
        self._mesh = mesh
        self._coordination = coordination
        self._rng = rng
        self._speed = speed
        self._effects: deque[Effect] = deque()
        # A commit is under way, or effects are being performed further up the stack.
        self._is_busy = False
        self._life = 0
        self._requests = 0
        self._alarm: float | None = None
        self._last_alarm = -1.0
        self._rung = 0
        self.replica: Replica = mesh.add(options.name, self)
        coordination.watches[options.name] = self._own_fence_changed

    @property
    def name(self) -> PeerName:
        return self.options.name

    @property
    def now(self) -> float:
        """Time as this node's clock has it."""
        return 1_700_000_000.0 + self._scheduler.now + self.clock_offset

    # Life

    def start(self) -> None:
        """The service comes up with what its store holds."""
        self._life += 1
        rng = random.Random(self._rng.getrandbits(64))
        self.allocator = Allocator(self.options, self.state, rng, self.now)
        self._later(self._speed.start_s, self._feed)
        self._stir()

    def crash(self) -> None:
        """The service is killed between any two effects; containers do not notice."""
        self._life += 1
        self.allocator = None
        self._effects.clear()
        self._is_busy = False
        self._alarm = None
        self.calls.clear()

    def lose_state(self) -> None:
        """The service's store is empty now; gossip's is not."""
        assert self.allocator is None
        self.state = State()

    def _feed(self) -> None:
        assert self.allocator is not None
        self.allocator.peers_changed(self._mesh.peers_of(self.replica), self.now)
        documents = list(self.replica.documents.items())
        self._rng.shuffle(documents)
        for (topic, writer, key), stored in documents:
            self.allocator.document_received(
                topic, writer, key, stored.value, self.now, stored.order
            )
        for topic in sorted(TOPICS_NEEDED):
            self.allocator.documents_synced(topic, self.now)
        if self.allocator.needs_adoption:
            self._later(self._speed.start_s, self._adopt)
        self._stir()

    def _adopt(self) -> None:
        assert self.allocator is not None
        self.allocator.adopt(self.containers.values(), self.now)
        self._stir()

    # Gossip's listener

    def document_received(self, document: DocumentId, stored: Stored) -> None:
        if self.allocator is not None:
            topic, writer, key = document
            self.allocator.document_received(
                topic, writer, key, stored.value, self.now, stored.order
            )
            self._stir()

    def document_removed(self, document: DocumentId) -> None:
        if self.allocator is not None:
            self.allocator.document_removed(*document, self.now)
            self._stir()

    def peers_changed(self, peers: list[PeerInfo]) -> None:
        if self.allocator is not None:
            self.allocator.peers_changed(peers, self.now)
            self._stir()

    def message_received(self, source: PeerName, message: Message) -> None:
        if self.allocator is not None:
            self.allocator.message_received(source, message, self.now)
            self._stir()

    # Callers

    def call(
        self,
        begin: Callable[[Allocator, RequestId], None],
        done: Callable[[Outcome], None] | None = None,
    ) -> Call:
        """Makes a request; the service must be up."""
        assert self.allocator is not None
        self._requests += 1
        call = self.calls[RequestId(self._requests)] = Call(RequestId(self._requests), done)
        begin(self.allocator, call.request)
        self._stir()
        return call

    def give_up(self, call: Call) -> None:
        """The caller's deadline is over. What is answered too late is released again."""
        if self.allocator is None or call.outcome is not None or call.request not in self.calls:
            return
        call.given_up = True
        if self.allocator.cancel(call.request, self.now):
            del self.calls[call.request]
        self._stir()

    def tick(self) -> None:
        """Time has passed."""
        assert self.allocator is not None
        self.allocator.tick(self.now)
        self._stir()

    # Effects

    def _later(self, delay: float, call: Callable[..., None], *arguments: object) -> None:
        """Runs it after some time, unless the service was killed meanwhile."""
        if delay == 0:
            self._scheduler.after(0, self._if_alive, self._life, call, arguments)
        else:
            delay *= 0.2 + 1.6 * self._rng.random()
            self._scheduler.after(delay, self._if_alive, self._life, call, arguments)

    def _if_alive(
        self, life: int, call: Callable[..., None], arguments: tuple[object, ...]
    ) -> None:
        if life == self._life:
            call(*arguments)

    def _stir(self) -> None:
        assert self.allocator is not None
        self._effects.extend(self.allocator.take_effects())
        if self._effects and not self._is_busy:
            self._perform()
        deadline = self.allocator.next_deadline()
        if deadline is not None:
            when = max(0.0, deadline - self.now) + self._scheduler.now
            if self._alarm is None or when < self._alarm or self._alarm < self._scheduler.now:
                self._alarm = when
                self._scheduler.at(when, self._if_alive, self._life, self._ring, (when,))

    def _ring(self, when: float) -> None:
        if self._alarm == when:
            self._alarm = None
            self._rung = self._rung + 1 if when == self._last_alarm else 0
            self._last_alarm = when
            assert self._rung < MAX_ALARMS, f"{self.name} is never done at {when}"
            self.tick()

    def _perform(self) -> None:
        self._is_busy = True
        while self._effects:
            effect = self._effects.popleft()
            if isinstance(effect, Persist):
                records = list(effect.records)
                if self._rng.random() < 0.5:
                    # Group commit: what is behind in the queue is written with it.
                    later = [one for one in self._effects if isinstance(one, Persist)]
                    records += [record for one in later for record in one.records]
                    self._effects = deque(e for e in self._effects if not isinstance(e, Persist))
                if self._speed.commit_s == 0:
                    self.state = self.state.with_records(records)
                    continue
                self._later(self._speed.commit_s, self._committed, records)
                return
            self._perform_one(effect)
        self._is_busy = False

    def _committed(self, records: list[object]) -> None:
        self.state = self.state.with_records(records)  # type: ignore[arg-type]
        self._is_busy = False
        self._perform()
        if self.allocator is not None:
            self._stir()

    def _perform_one(self, effect: Effect) -> None:
        match effect:
            case Publish():
                self._mesh.publish(self.replica, effect.topic, effect.key, effect.value)
            case SendMessage():
                self._mesh.send(self.replica, effect.peer, effect.message)
            case Answer():
                self._answer(effect)
            case ReadFence():
                self._later(self._speed.coordination_s, self._read_fence, effect.victim)
            case WriteFence():
                self._later(self._speed.coordination_s, self._write_fence, effect)
            case ProposeGenesis():
                self._later(self._speed.coordination_s, self._propose, effect)
            case RemovePeer():
                self._mesh.remove_peer(self.replica, effect.peer)
            case Note():
                self.notes.append(effect.text)
            case Quarantine():
                self.quarantined.append(effect)
            case RingChanged():
                self.views += 1
            case Persist():
                raise AssertionError("a commit is not performed here")

    def _answer(self, answer: Answer) -> None:
        call = self.calls.pop(answer.request, None)
        if call is None:
            return
        call.outcome = answer.outcome
        if call.given_up:
            self._undo(answer)
        elif call.done is not None:
            call.done(answer.outcome)

    def _undo(self, answer: Answer) -> None:
        outcome = answer.outcome
        if isinstance(outcome, Allocated | Claimed) and self.allocator is not None:
            held = next(
                (a for a in self.allocator.allocations() if a.generation == outcome.generation),
                None,
            )
            if held is not None and held.key not in self.containers:
                generation = outcome.generation
                self.call(lambda a, r: a.release(r, held.key, generation, self.now))

    def _read_fence(self, victim: PeerName) -> None:
        assert self.allocator is not None
        if self.name in self._coordination.cut_off:
            self.allocator.fence_failed(victim, "cut off", self.now)
        else:
            self.allocator.fence_read(victim, *self._coordination.fence(victim), self.now)
        self._stir()

    def _own_fence_changed(self) -> None:
        if self.allocator is not None:
            self._later(self._speed.coordination_s, self._see_own_fence)

    def _see_own_fence(self) -> None:
        # A watch says nothing while Coordination is out of reach.
        if self.name not in self._coordination.cut_off:
            self._read_fence(self.name)

    def _write_fence(self, effect: WriteFence) -> None:
        if self._is_cut_off(effect.fence):
            return
        assert self.allocator is not None
        revision = self._coordination.swap(effect.fence, effect.expected_revision)
        if revision is None:
            self.allocator.fence_raced(effect.fence.victim, self.now)
            self._stir()
        else:
            delay_s = self._speed.coordination_s
            self._later(delay_s, self._draw_token, effect.fence, revision, effect.floor)

    def _draw_token(self, fence: Fence, revision: int, floor: int) -> None:
        if not self._is_cut_off(fence):
            fence = replace(fence, token=self._coordination.draw(floor))
            self._later(self._speed.coordination_s, self._complete_fence, fence, revision)

    def _complete_fence(self, fence: Fence, revision: int) -> None:
        if self._is_cut_off(fence):
            return
        assert self.allocator is not None
        if self._coordination.complete(fence, revision):
            self._later(self._speed.coordination_s, self._look_at_own_fence, fence, revision)
        else:
            self.allocator.fence_raced(fence.victim, self.now)
            self._stir()

    def _look_at_own_fence(self, fence: Fence, revision: int) -> None:
        if self._is_cut_off(fence):
            return
        own = self._coordination.fence(self.name)
        self._later(self._speed.coordination_s, self._fence_written, fence, revision, *own)

    def _fence_written(
        self, fence: Fence, revision: int, own_revision: int, own: Fence | None
    ) -> None:
        assert self.allocator is not None
        self.allocator.fence_read(self.name, own_revision, own, self.now)
        self.allocator.fence_written(revision, fence, self.now)
        self._stir()

    def _is_cut_off(self, fence: Fence) -> bool:
        """Coordination cannot be reached: then the allocator is told so."""
        if self.name not in self._coordination.cut_off:
            return False
        assert self.allocator is not None
        self.allocator.fence_failed(fence.victim, "cut off", self.now)
        self._stir()
        return True

    def _propose(self, effect: ProposeGenesis) -> None:
        assert self.allocator is not None
        if self.name not in self._coordination.cut_off:
            agreed = self._coordination.geneses.setdefault(effect.family, effect.genesis)
            self.allocator.genesis_agreed(effect.family, agreed, self.now)
            self._stir()
