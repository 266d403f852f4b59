"""The callers that wait, and what is to be undone when one of them has gone.

An allocation that no caller was told of must not stay. But several calls for one attachment share
its allocation, so the last of them to end decides: it undoes what none of them was told and what
was not there before the first came. Knows nothing of gRPC.
"""

from __future__ import annotations

import asyncio
import itertools
from dataclasses import dataclass

from weave_ipam.core.effects import RequestId
from weave_ipam.core.results import Result
from weave_ipam.errors import Overloaded
from weave_model.attachment import AttachmentKey
from weave_model.errors import DomainError

# A node has some hundreds of pods; more callers than this is a fault elsewhere.
MAX_WAITING = 4096


@dataclass(slots=True)
class _Interest:
    """The calls under way for one attachment."""

    held_before: bool
    outstanding: int = 0
    told: bool = False


@dataclass(slots=True)
class _Waiting:
    future: asyncio.Future[Result]
    key: AttachmentKey | None
    submitted: bool = False
    # Of what the attachment held when the core saw the request; 0: nothing.
    generation_before: int = 0


class Requests:
    """All requests of this process that have not ended."""

    def __init__(self) -> None:
        self._ids = itertools.count(1)
        self._waiting: dict[RequestId, _Waiting] = {}
        self._interests: dict[AttachmentKey, _Interest] = {}

    def __len__(self) -> int:
        return len(self._waiting)

    def open(self, key: AttachmentKey | None = None) -> tuple[RequestId, asyncio.Future[Result]]:
        """A new request; with a key it allocates for that attachment. Raises Overloaded."""
        if len(self._waiting) >= MAX_WAITING:
            raise Overloaded(f"{len(self._waiting)} calls are waiting, more are not accepted")
        request = RequestId(next(self._ids))
        future: asyncio.Future[Result] = asyncio.get_running_loop().create_future()
        self._waiting[request] = _Waiting(future, key)
        return request, future

    def spare_id(self) -> RequestId:
        """An id for a request whose answer nobody waits for."""
        return RequestId(next(self._ids))

    def submit(self, request: RequestId, generation_before: int) -> bool:
        """The core is about to see the request; False: its caller has gone, leave it out.

        The generation is that of what the attachment holds at this moment, 0 for nothing.
        """
        waiting = self._waiting.get(request)
        if waiting is None or waiting.future.done():
            return False
        waiting.submitted = True
        waiting.generation_before = generation_before
        if waiting.key is not None:
            fresh = _Interest(held_before=generation_before > 0)
            interest = self._interests.setdefault(waiting.key, fresh)
            interest.outstanding += 1
        return True

    def generation_before(self, request: RequestId) -> int:
        """What `submit` was told of a request that has not ended."""
        return self._waiting[request].generation_before

    def answer(self, request: RequestId, outcome: Result | DomainError) -> None:
        """Tells the caller, if it still waits."""
        waiting = self._waiting.get(request)
        if waiting is None or waiting.future.done():
            return
        if isinstance(outcome, DomainError):
            waiting.future.set_exception(outcome)
        else:
            waiting.future.set_result(outcome)

    def end(self, request: RequestId, *, told: bool) -> AttachmentKey | None:
        """The request is over; gives the attachment whose allocation is to be undone, if any is."""
        waiting = self._waiting.pop(request)
        if waiting.key is None or not waiting.submitted:
            return None
        interest = self._interests[waiting.key]
        interest.outstanding -= 1
        interest.told |= told
        if interest.outstanding:
            return None
        del self._interests[waiting.key]
        return None if interest.told or interest.held_before else waiting.key
