"""Simulated streams between nodes: dialling, handshake, frames, loss of a link."""

from __future__ import annotations

from random import Random
from typing import TYPE_CHECKING

from tests.sim.conditions import Conditions
from tests.sim.scheduler import Scheduler
from tests.sim.wire import frame_bytes, pass_through_encoding
from weave_gossip.core.effects import Dial, LinkId
from weave_gossip.core.messages import Hello, Message, Refusal, RefusalCode

if TYPE_CHECKING:
    from tests.sim.node import Node

# As a shell gives up a connect; a machine that is up but does not listen refuses at once.
CONNECT_TIMEOUT_S = 5.0


class Stream:
    """One end of a link, and the direction from here to the other end."""

    __slots__ = ("blocked", "bytes_under_way", "is_open", "last_arrival", "link", "node", "other")

    def __init__(self, node: Node, link: LinkId) -> None:
        self.node = node
        self.link = link
        self.other: Stream = self
        self.is_open = False
        self.last_arrival = 0.0
        self.bytes_under_way = 0
        self.blocked = False


class Network:
    """Carries frames by the conditions given; counts bytes."""

    def __init__(self, scheduler: Scheduler, rng: Random, conditions: Conditions) -> None:
        self.scheduler = scheduler
        self.conditions = conditions
        # One frame in so many goes through the real encoding and back; 0: none, sizes are computed.
        self.encode_every = 0
        self.frames = 0
        self.payload_bytes = 0
        # By body, for whoever wonders where the bytes go.
        self.bytes_by_kind: dict[str, int] = {}
        self._rng = rng
        self._nodes: dict[str, Node] = {}
        self._next_link = 0

    def listen(self, node: Node) -> None:
        self._nodes[node.address] = node

    # Handshake: connect, both Hellos, both verdicts

    def dial(self, source: Node, dial: Dial) -> None:
        """Takes three one-way delays until the other side judges, one more until we do."""
        target = self._nodes.get(dial.address)
        life = source.life
        if target is None or not self._is_round_trip(source, target):
            self.scheduler.after(CONNECT_TIMEOUT_S, self._fail, source, life, dial, "i/o timeout")
        elif not target.is_up:
            wait = CONNECT_TIMEOUT_S if target.is_dark else 2 * self._delay()
            reason = "i/o timeout" if target.is_dark else "connection refused"
            self.scheduler.after(wait, self._fail, source, life, dial, reason)
        else:
            wait = 3 * self._delay()
            self.scheduler.after(wait, self._judge, source, life, target, target.life, dial)

    def _judge(self, source: Node, life: int, target: Node, target_life: int, dial: Dial) -> None:
        if source.life != life or not source.is_up:
            return
        is_round_trip = self._is_round_trip(source, target)
        if target.life != target_life or not target.is_up or not is_round_trip:
            self.scheduler.after(CONNECT_TIMEOUT_S, self._fail, source, life, dial, "i/o timeout")
            return
        if target.stalled_until > self.scheduler.now:
            self.scheduler.at(
                target.stalled_until, self._judge, source, life, target, target_life, dial
            )
            return
        hello = source.mesh.own_hello(dial.epoch)
        refusal = target.judge(hello, outbound=False, epoch=dial.epoch)
        if refusal is not None:
            self.scheduler.after(self._delay(), self._refuse, source, life, dial, refusal)
        else:
            self.scheduler.after(
                self._delay(), self._settle, source, life, target, target_life, dial
            )

    def _settle(self, source: Node, life: int, target: Node, target_life: int, dial: Dial) -> None:
        if source.life != life or not source.is_up:
            return
        is_round_trip = self._is_round_trip(source, target)
        if target.life != target_life or not target.is_up or not is_round_trip:
            self._fail(source, life, dial, "connection reset")
            return
        theirs = target.mesh.own_hello(0)
        refusal = source.judge(theirs, outbound=True, epoch=dial.epoch)
        if refusal is not None:
            self._refuse(source, life, dial, refusal)
            return
        near = Stream(source, self._new_link())
        far = Stream(target, self._new_link())
        near.other, far.other = far, near
        hello = source.mesh.own_hello(dial.epoch)
        arrival = self._arrival(near)
        near.last_arrival = arrival
        self.scheduler.at(arrival, self._open, far, target_life, hello, source.address_from(), dial)
        near.is_open = True
        source.open(near, theirs, outbound=True, address=dial.address, epoch=dial.epoch)

    def _open(self, far: Stream, life: int, hello: Hello, address: str, dial: Dial) -> None:
        if far.node.life != life or not far.node.is_up or not far.other.is_open:
            return
        far.is_open = True
        far.node.open(far, hello, outbound=False, address=address, epoch=dial.epoch)

    def _refuse(self, source: Node, life: int, dial: Dial, refusal: Refusal) -> None:
        if source.life == life and source.is_up:
            source.dial_failed(dial.address, refusal)

    def _fail(self, source: Node, life: int, dial: Dial, reason: str) -> None:
        self._refuse(source, life, dial, Refusal(RefusalCode.UNSPECIFIED, reason))

    # Frames

    def send(self, stream: Stream, message: Message) -> None:
        """Puts a frame on its way."""
        if not stream.is_open:
            return
        size = frame_bytes(message)
        stream.node.sent_bytes += size
        self.frames += 1
        if self.encode_every and self.frames % self.encode_every == 0:
            message = pass_through_encoding(message)
        self.payload_bytes += size
        kind = type(message).__name__
        self.bytes_by_kind[kind] = self.bytes_by_kind.get(kind, 0) + size
        conditions = self.conditions
        stream.bytes_under_way += size
        if stream.bytes_under_way > conditions.window_bytes and not stream.blocked:
            stream.blocked = True
            self.scheduler.at(self.scheduler.now, stream.node.blocked, stream)
        lost = not self._is_path(stream.node, stream.other.node)
        arrival = self._arrival(stream)
        if conditions.loss and self._rng.random() < conditions.loss:
            lost = True
        if conditions.reordering and self._rng.random() < conditions.reordering:
            arrival += 3 * self._delay()
        else:
            arrival = max(arrival, stream.last_arrival)
            stream.last_arrival = arrival
        if lost:
            # A sender does not learn of loss: what is lost counts as drained when it would arrive.
            self.scheduler.at(arrival, self._drain, stream, size)
            return
        self.scheduler.at(arrival, self._arrive, stream, message, size)
        if conditions.duplication and self._rng.random() < conditions.duplication:
            self.scheduler.at(arrival + self._delay(), self._arrive, stream, message, 0)

    def _arrive(self, stream: Stream, message: Message, size: int) -> None:
        receiver = stream.other
        node = receiver.node
        if not node.is_up or not receiver.is_open:
            return
        if node.stalled_until > self.scheduler.now:
            self.scheduler.at(node.stalled_until, self._arrive, stream, message, size)
            return
        self._drain(stream, size)
        node.received_bytes += size
        node.receive(receiver, message)

    def _drain(self, stream: Stream, size: int) -> None:
        stream.bytes_under_way -= size
        if stream.blocked and stream.bytes_under_way <= self.conditions.window_bytes // 2:
            stream.blocked = False
            if stream.is_open:
                stream.node.drained(stream)

    def close(self, stream: Stream, reason: str, refusal: Refusal | None) -> None:
        """Ends a stream; the other end learns of it unless the path is cut."""
        if not stream.is_open:
            return
        stream.is_open = False
        if self._is_path(stream.node, stream.other.node):
            arrival = max(self._arrival(stream), stream.last_arrival)
            self.scheduler.at(arrival, self._closed, stream.other, reason, refusal)

    def _closed(self, stream: Stream, reason: str, refusal: Refusal | None) -> None:
        node = stream.node
        if not node.is_up or not stream.is_open:
            return
        if node.stalled_until > self.scheduler.now:
            self.scheduler.at(node.stalled_until, self._closed, stream, reason, refusal)
            return
        if refusal is not None:
            node.receive(stream, refusal)
        if stream.is_open:
            stream.is_open = False
            node.lost(stream, reason)

    def _is_path(self, one: Node, other: Node) -> bool:
        passes = self.conditions.passes
        return passes(one.number, other.number)

    def _is_round_trip(self, one: Node, other: Node) -> bool:
        """What a handshake needs."""
        return self._is_path(one, other) and self._is_path(other, one)

    def _arrival(self, stream: Stream) -> float:
        return self.scheduler.now + self._delay()

    def _delay(self) -> float:
        conditions = self.conditions
        return conditions.delay_s * (1 + conditions.jitter * (2 * self._rng.random() - 1))

    def _new_link(self) -> LinkId:
        self._next_link += 1
        return LinkId(self._next_link)
