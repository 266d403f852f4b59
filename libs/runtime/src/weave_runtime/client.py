"""The caller's side: channels to other services, deadlines, following a watch."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Mapping
from contextlib import aclosing
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, Protocol, TypeVar

import grpc

from weave_runtime import telemetry
from weave_runtime.status import reason_of
from weave_runtime.watch import Event, Removed, SnapshotStart, Synced, Upsert

K = TypeVar("K")
V = TypeVar("V")
M = TypeVar("M")
M_co = TypeVar("M_co", covariant=True)

# The largest document is 1 MiB; a ring of ten thousand blocks or a node's attachments are less.
MAX_MESSAGE_BYTES = 16 << 20
MESSAGE_LIMITS = (
    ("grpc.max_receive_message_length", MAX_MESSAGE_BYTES),
    ("grpc.max_send_message_length", MAX_MESSAGE_BYTES),
    # Probes of the bandwidth of a socket within the machine: two more frames a call.
    ("grpc.http2.bdp_probe", 0),
)
# Services of one pod restart often and within a second: gRPC's own 1 s to 120 s would be felt.
FIRST_RETRY_S = 0.05
LONGEST_RETRY_S = 1.0
# On a starved machine a service takes its time to answer a connection on its socket.
CONNECT_TIMEOUT_S = 5.0

_OPTIONS = (
    ("grpc.initial_reconnect_backoff_ms", int(FIRST_RETRY_S * 1000)),
    # gRPC gives up an attempt to connect after this long; it does not put off the next one.
    ("grpc.min_reconnect_backoff_ms", int(CONNECT_TIMEOUT_S * 1000)),
    ("grpc.max_reconnect_backoff_ms", int(LONGEST_RETRY_S * 1000)),
    ("grpc.enable_http_proxy", 0),
    *MESSAGE_LIMITS,
)

log = logging.getLogger(__name__)


def connect(socket_path: Path) -> grpc.aio.Channel:
    """Opens a channel that survives restarts of the service behind it; nobody need listen yet."""
    return grpc.aio.insecure_channel(
        f"unix://{socket_path.absolute()}",
        options=_OPTIONS,
        interceptors=telemetry.client_interceptors(),
    )


def time_left(
    context: grpc.aio.ServicerContext[Any, Any] | None, limit_s: float, *, margin_s: float = 0.0
) -> float:
    """Gives the `timeout` of a call made for another one: its time left, `limit_s` at most.

    `margin_s` is kept back for what is to be done after the call. Never negative.
    """
    left = context.time_remaining() if context else None
    return limit_s if left is None else max(0.0, min(limit_s, left - margin_s))


class Stream(Protocol[M_co]):
    """What a generated stub's server-streaming method returns."""

    def __aiter__(self) -> AsyncIterator[M_co]: ...

    def cancel(self) -> Any: ...


@dataclass(frozen=True, slots=True)
class State(Generic[K, V]):
    """One consistent state of the producer, and how it differs from the one before."""

    items: Mapping[K, V]
    changed: frozenset[K]
    removed: frozenset[K]


def event_decoder(
    item: Callable[[Any], tuple[K, V]], removed: Callable[[Any], K] | None = None
) -> Callable[[Any], Event[K, V] | None]:
    """Builds `decode` for messages whose `oneof event` has the parts that every watch has.

    `item` and `removed` read what the service put into the part of its own. An event of a newer
    producer that is not known here is passed over.
    """

    def decode(message: Any) -> Event[K, V] | None:
        match message.WhichOneof("event"):
            case None:
                return None
            case "snapshot_start":
                return SnapshotStart()
            case "synced":
                return Synced(message.synced.resume_token)
            case "removed" if removed:
                return Removed(removed(message.removed))
            case name:
                return Upsert(*item(getattr(message, name)))

    return decode


async def follow(
    name: str,
    open_stream: Callable[[bytes], Stream[M]],
    decode: Callable[[M], Event[K, V] | None],
    *,
    sleep: Callable[[float], Awaitable[object]] = asyncio.sleep,
) -> AsyncGenerator[State[K, V], None]:
    """Follows a watch for ever, over any number of restarts of the producer.

    `open_stream` starts the RPC with a resume token. Yields the first state as soon as it is whole,
    then one for every change; while the producer is away nothing is yielded, so the last one stays.
    Errors of `decode` are the caller's and end it. Close it (`contextlib.aclosing`) to end the RPC.
    """
    items: dict[K, V] | None = None
    token = b""
    link = _Link(name, sleep)
    while True:
        draft = dict(items or {})
        async with aclosing(link.events(open_stream(token), decode)) as events:
            async for event in events:
                match event:
                    case SnapshotStart():
                        draft = {}
                    case Upsert(key, item):
                        draft[key] = item
                    case Removed(key):
                        draft.pop(key, None)
                    case Synced(token):
                        state = _compared(draft, items or {})
                        if items is None or state.changed or state.removed:
                            items = dict(draft)
                            yield state
        await link.pause()


def _compared(items: Mapping[K, V], before: Mapping[K, V]) -> State[K, V]:
    changed = (key for key, item in items.items() if key not in before or before[key] != item)
    return State(dict(items), frozenset(changed), frozenset(before.keys() - items.keys()))


class _Link:
    """The way to a producer: tells its outages once each and waits longer as they last."""

    def __init__(self, name: str, sleep: Callable[[float], Awaitable[object]]) -> None:
        self._name = name
        self._sleep = sleep
        self._delay_s = FIRST_RETRY_S
        self._is_lost = False

    async def events(
        self, stream: Stream[M], decode: Callable[[M], Event[K, V] | None]
    ) -> AsyncGenerator[Event[K, V], None]:
        reason = "the producer ended the stream"
        try:
            async for message in stream:
                event = decode(message)
                if isinstance(event, Synced):
                    if self._is_lost:
                        log.info("watch resumed", extra={"watch": self._name})
                    self._delay_s, self._is_lost = FIRST_RETRY_S, False
                if event is not None:
                    yield event
        except grpc.aio.AioRpcError as error:
            reason = reason_of(error)
        finally:
            stream.cancel()
        if not self._is_lost:
            log.warning("watch lost", extra={"watch": self._name, "reason": reason})
        self._is_lost = True

    async def pause(self) -> None:
        await self._sleep(self._delay_s)
        self._delay_s = min(self._delay_s * 2, LONGEST_RETRY_S)
