"""The owner of the allocator: one task through which every input passes, in turns.

A turn takes all inputs that have come, hands them to the core, writes everything the core wants
durable in one commit, and only then performs the other effects, in order. Inputs that come while a
commit is under way are the next turn's: that is the whole of group commit.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import Callable, Hashable, Iterable
from dataclasses import dataclass
from typing import Protocol, TypeVar

from weave_ipam.core.allocator import Allocator
from weave_ipam.core.effects import Answer, Effect, Note, Persist, RequestId, Severity
from weave_ipam.core.results import Allocated, Result, Status
from weave_ipam.errors import StillWaiting
from weave_ipam.records import entries_of
from weave_ipam.requests import Requests
from weave_model.attachment import AttachmentKey
from weave_model.errors import NotReady
from weave_runtime.store import Store, StoreError

R = TypeVar("R")
Submit = Callable[[RequestId, float], None]

# A store that cannot write (disk full, Redis away) is tried again this often.
FIRST_STORE_RETRY_S = 0.1
LONGEST_STORE_RETRY_S = 5.0
# What the answer to a caller whose time is over may take to reach it: a part of its time, within
# bounds.
MARGIN = 0.1
LEAST_MARGIN_S = 0.02
GREATEST_MARGIN_S = 0.5

_LEVELS = {
    Severity.INFO: logging.INFO,
    Severity.WARNING: logging.WARNING,
    Severity.ERROR: logging.ERROR,
}

log = logging.getLogger(__name__)


class Performer(Protocol):
    """Does what concerns other services. Must neither block nor raise."""

    def perform(self, effect: Effect) -> None:
        """Does it, or begins to."""


@dataclass(frozen=True, slots=True)
class _Submission:
    """How to hand a request to the core, and which attachment it is about."""

    submit: Submit
    key: AttachmentKey | None
    allocates: bool = False


class Owner:
    """Drives one allocator; `run` is its task, everything else posts to it."""

    def __init__(
        self, allocator: Allocator, store: Store, clock: Callable[[], float] = time.time
    ) -> None:
        self.allocator = allocator
        # Why nothing can be made durable at present; empty while the store works.
        self.store_failure = ""
        self._performer: Performer | None = None
        self._store = store
        self._clock = clock
        self._requests = Requests()
        self._submissions: list[tuple[RequestId, _Submission]] = []
        self._inputs: dict[Hashable, Callable[[float], None]] = {}
        self._readers: list[tuple[asyncio.Future[None], Callable[[], None]]] = []
        self._entries: dict[str, bytes | None] = {}
        self._wake = asyncio.Event()
        self._status: Status | None = None

    @property
    def waiting(self) -> int:
        """Callers whose request has not ended."""
        return len(self._requests)

    def status(self) -> Status:
        """The core's status as of the last turn."""
        if self._status is None:
            self._status = self.allocator.status()
        return self._status

    def post(self, work: Callable[[float], None], replaces: Hashable = None) -> None:
        """Has `work` done in the next turn, with the time.

        Of inputs that replace each other (an equal `replaces`) only the newest is done.
        """
        self._inputs[replaces if replaces is not None else object()] = work
        self._wake.set()

    def remember(self, key: str, value: bytes | None) -> None:
        """Has a store entry of the shell's own written with the next commit."""
        self._entries[key] = value
        self._wake.set()

    async def call(
        self, submit: Submit, *, timeout_s: float, key: AttachmentKey | None = None
    ) -> Result:
        """Submits a request, about one attachment or none, and waits for its outcome.

        Raises DomainError.
        """
        outcome, _ = await self._call(_Submission(submit, key), timeout_s)
        return outcome

    async def allocate(
        self, submit: Submit, key: AttachmentKey, *, timeout_s: float
    ) -> tuple[Allocated, bool]:
        """Submits an allocation; says also whether it was there before. Raises DomainError.

        When the call is cancelled or its time is over, nothing of a new allocation stays.
        """
        submission = _Submission(submit, key, allocates=True)
        outcome, generation_before = await self._call(submission, timeout_s)
        assert isinstance(outcome, Allocated)
        return outcome, outcome.generation == generation_before

    async def _call(self, submission: _Submission, timeout_s: float) -> tuple[Result, int]:
        self._check_store()
        request, future = self._requests.open(submission.key if submission.allocates else None)
        self._submissions.append((request, submission))
        self._wake.set()
        told = False
        try:
            async with asyncio.timeout(timeout_s - margin(timeout_s)):
                outcome = await future
            told = True
            return outcome, self._requests.generation_before(request)
        except TimeoutError:
            why = self.allocator.why_pending(request)
            raise StillWaiting(why or "not done in time") from None
        finally:
            if told:
                self._requests.end(request, told=True)
            else:
                if future.done() and not future.cancelled():
                    future.exception()  # nobody else will look at it
                future.cancel()
                self.post(lambda now: self._abandon(request, now))

    async def read(self, query: Callable[[], R]) -> R:
        """What `query` gives at a moment at which all that is known is durable."""
        self._check_store()
        results: list[R] = []
        done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._readers.append((done, lambda: results.append(query())))
        self._wake.set()
        await done
        return results[0]

    async def until_done(self) -> None:
        """Returns when everything posted so far is done and durable, however long it takes."""
        while True:
            try:
                return await self.read(lambda: None)
            except NotReady:
                await asyncio.sleep(LONGEST_STORE_RETRY_S)

    async def run(self, performer: Performer) -> None:
        """Drives the allocator for ever."""
        self._performer = performer
        while True:
            await self._input_or_deadline()
            await self._turn()

    async def _input_or_deadline(self) -> None:
        deadline = self.allocator.next_deadline()
        wait_s = None if deadline is None else max(0.0, deadline - self._clock())
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(wait_s):
                await self._wake.wait()

    async def _turn(self) -> None:
        self._wake.clear()
        submissions, self._submissions = self._submissions, []
        inputs, self._inputs = self._inputs, {}
        readers, self._readers = self._readers, []
        now = self._clock()
        self._submit(submissions, now)
        for work in inputs.values():
            work(now)
        self.allocator.tick(now)
        for _, query in readers:
            query()
        effects = self.allocator.take_effects()
        self._status = None
        await self._commit(effects, [done for done, _ in readers])
        self._perform(effects)
        for done, _ in readers:
            if not done.done():
                done.set_result(None)

    async def _commit(self, effects: list[Effect], readers: Iterable[asyncio.Future[None]]) -> None:
        """Returns when everything is durable. While that fails nobody is told anything else."""
        records = (r for effect in effects if isinstance(effect, Persist) for r in effect.records)
        entries = entries_of(records) | self._entries
        self._entries = {}
        delay_s = FIRST_STORE_RETRY_S
        while entries:
            try:
                await self._store.commit(entries)
                break
            except StoreError as error:
                if not self.store_failure:
                    log.error("state cannot be written", extra={"reason": str(error)})  # noqa: TRY400
                self.store_failure = str(error)
                self._refuse(effects, readers)
                await asyncio.sleep(delay_s)
                delay_s = min(delay_s * 2, LONGEST_STORE_RETRY_S)
        if self.store_failure:
            log.info("state is written again")
            self.store_failure = ""

    def _refuse(self, effects: list[Effect], readers: Iterable[asyncio.Future[None]]) -> None:
        for effect in effects:
            if isinstance(effect, Answer):
                self._requests.answer(effect.request, NotReady(self.store_failure))
        for done in readers:
            if not done.done():
                done.set_exception(NotReady(self.store_failure))

    def _perform(self, effects: Iterable[Effect]) -> None:
        assert self._performer
        for effect in effects:
            match effect:
                case Persist():
                    pass
                case Answer(request, outcome):
                    self._requests.answer(request, outcome)
                case Note(severity, text):
                    log.log(_LEVELS[severity], "%s", text)
                case _:
                    self._performer.perform(effect)

    def _submit(self, submissions: list[tuple[RequestId, _Submission]], now: float) -> None:
        """Hands requests to the core, each with what its attachment holds at that moment.

        Every look-up behind a change makes the core think. So all are looked up first; only what an
        earlier request of this turn may have changed is looked up again.
        """
        held = {s.key: self._generation(s.key) for _, s in submissions if s.allocates}
        touched: set[AttachmentKey | None] = set()
        for request, submission in submissions:
            generation = 0
            if submission.allocates:
                key = submission.key
                generation = self._generation(key) if key in touched else held[key]
            touched.add(submission.key)
            if self._requests.submit(request, generation):
                submission.submit(request, now)

    def _generation(self, key: AttachmentKey | None) -> int:
        allocation = self.allocator.lookup(key) if key is not None else None
        return allocation.generation if allocation is not None else 0

    def _abandon(self, request: RequestId, now: float) -> None:
        self.allocator.cancel(request, now)
        key = self._requests.end(request, told=False)
        allocation = self.allocator.lookup(key) if key is not None else None
        if key is not None and allocation is not None:
            self.allocator.release(self._requests.spare_id(), key, allocation.generation, now)

    def _check_store(self) -> None:
        if self.store_failure:
            raise NotReady(self.store_failure)


def margin(timeout_s: float) -> float:
    """What to keep back of a caller's time."""
    return min(max(timeout_s * MARGIN, LEAST_MARGIN_S), GREATEST_MARGIN_S)
