"""A blocking netlink socket that sends requests in batches.

Requests go out many per system call; only the last of a batch asks for an acknowledgement, since
the kernel works in order and reports each failure anyway. So 10,000 routes cost some 160 system
calls.
"""

from __future__ import annotations

import errno
import os
import socket
import struct
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Self

from weave_router.kernel.netlink import wire
from weave_router.kernel.netlink.wire import Message, Request

NETLINK_ROUTE = 0
NETLINK_NETFILTER = 12

_SOL_NETLINK = 270
_NETLINK_CAP_ACK = 10
_NETLINK_EXT_ACK = 11
_NETLINK_GET_STRICT_CHK = 12

# 64 messages: their errors, if all fail, fit into the default receive buffer of 208 KiB.
_BATCH = 64
# The kernel fills up to 32 KiB per read of a dump.
_READ_BYTES = 65536
# The kernel answers at once but for waiting on its own lock; longer means that an answer was lost.
_ANSWER_TIMEOUT_S = 10
# A dump that other writers interrupt is read anew this often before what was read is taken.
_DUMP_ATTEMPTS = 5
_ERROR = struct.Struct("=i")


class NetlinkError(OSError):
    """The kernel refused a request; the text holds the request's subject and the kernel's own
    words."""

    def __init__(self, code: int, subject: object, words: str) -> None:
        reason = os.strerror(code) + (f" ({words})" if words else "")
        super().__init__(code, f"{subject}: {reason}" if str(subject) else reason)


@dataclass(frozen=True, slots=True)
class Failure:
    """A request of a batch that the kernel refused."""

    request: Request
    error: NetlinkError


class NetlinkSocket:
    """One netlink socket in the network namespace of the thread that made it.

    It stays in that namespace whoever uses it later. Not safe for two threads at once.
    """

    def __init__(self, protocol: int = NETLINK_ROUTE) -> None:
        self._socket = socket.socket(
            socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, protocol
        )
        for option in (_NETLINK_CAP_ACK, _NETLINK_EXT_ACK, _NETLINK_GET_STRICT_CHK):
            self._socket.setsockopt(_SOL_NETLINK, option, 1)
        seconds = struct.pack("ll", _ANSWER_TIMEOUT_S, 0)
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, seconds)
        self._socket.bind((0, 0))
        self.port: int = self._socket.getsockname()[0]
        self._sequence = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Closes the socket. Idempotent."""
        self._socket.close()

    def fileno(self) -> int:
        """The file descriptor."""
        return self._socket.fileno()

    def execute(self, requests: Sequence[Request]) -> list[Failure]:
        """Carries requests out in order and goes on after one fails; the failures come back.

        Raises OSError when the socket itself fails.
        """
        failures: list[Failure] = []
        for start in range(0, len(requests), _BATCH):
            failures += self._execute_batch(requests[start : start + _BATCH])
        return failures

    def execute_all(self, requests: Sequence[Request]) -> None:
        """As `execute`, but raises the first failure (after all were tried)."""
        failures = self.execute(requests)
        if failures:
            raise failures[0].error

    def get(self, request: Request) -> Message:
        """Sends a request that has one message as its answer. Raises NetlinkError."""
        sequence = self._next_sequence()
        self._socket.send(wire.frame(request, sequence, 0))
        while True:
            for message in self._receive():
                if message.sequence != sequence:
                    continue
                if message.kind == wire.NLMSG_ERROR:
                    raise _error_of(message, request)
                return message

    def dump(self, request: Request) -> list[Message]:
        """All messages of a dump; a dump that was interrupted by other writers is read again."""
        messages: list[Message] = []
        for _ in range(_DUMP_ATTEMPTS):
            messages, consistent = self._dump_once(request)
            if consistent:
                break
        return messages

    def skim(self, request: Request, matters: Callable[[bytes], bool]) -> Iterator[Message]:
        """The messages of a dump one by one, for tables too large to hold at once: of datagrams in
        which nothing matters none. To be read to its end, and nothing else be asked meanwhile."""
        for message in self._answers(request, matters):
            if message.kind != wire.NLMSG_DONE:
                yield message

    def _dump_once(self, request: Request) -> tuple[list[Message], bool]:
        messages = list(self._answers(request, lambda _: True))
        is_consistent = not any(message.flags & wire.NLM_F_DUMP_INTR for message in messages)
        return messages[:-1], is_consistent

    def _answers(self, request: Request, matters: Callable[[bytes], bool]) -> Iterator[Message]:
        """All of a dump, with the message that ends it. Raises NetlinkError."""
        sequence = self._next_sequence()
        self._socket.send(wire.frame(request, sequence, wire.NLM_F_DUMP))
        while True:
            datagram = self._receive_datagram()
            if not matters(datagram) and not wire.has_end(datagram):
                continue
            for message in wire.split_messages(datagram):
                if message.sequence != sequence:
                    continue
                if message.kind == wire.NLMSG_ERROR:
                    raise _error_of(message, request)
                yield message
                if message.kind == wire.NLMSG_DONE:
                    code = -_ERROR.unpack_from(message.payload)[0]
                    if code:
                        raise NetlinkError(code, request.subject, "")
                    return

    def _execute_batch(self, requests: Sequence[Request]) -> list[Failure]:
        first = self._sequence + 1
        last = first + len(requests) - 1
        self._sequence = last
        frames = [
            wire.frame(request, sequence, wire.NLM_F_ACK if sequence == last else 0)
            for sequence, request in enumerate(requests, first)
        ]
        self._socket.send(b"".join(frames))
        failures: list[Failure] = []
        while True:
            for message in self._receive():
                if message.kind != wire.NLMSG_ERROR or not first <= message.sequence <= last:
                    continue
                code = -_ERROR.unpack_from(message.payload)[0]
                request = requests[message.sequence - first]
                if code and code not in request.tolerated:
                    failures.append(Failure(request, _error_of(message, request)))
                if message.sequence == last:
                    return failures

    def _receive(self) -> Iterator[Message]:
        return wire.split_messages(self._receive_datagram())

    def _receive_datagram(self) -> bytes:
        try:
            return self._socket.recv(_READ_BYTES)
        except BlockingIOError as error:
            raise OSError(errno.ETIMEDOUT, "the kernel did not answer a netlink request") from error

    def _next_sequence(self) -> int:
        self._sequence += 1
        return self._sequence


def _error_of(message: Message, request: Request) -> NetlinkError:
    code = -_ERROR.unpack_from(message.payload)[0]
    words = ""
    if message.flags & wire.NLM_F_ACK_TLVS:
        # The code, the header of the request, then (unless capped) its payload, then attributes.
        (length,) = struct.unpack_from("=I", message.payload, 4)
        start = 4 + wire.HEADER.size if message.flags & wire.NLM_F_CAPPED else 4 + length
        attributes = wire.parse_attributes(message.payload, start)
        words = wire.read_text(attributes.get(wire.NLMSGERR_ATTR_MSG, b""))
    return NetlinkError(code, request.subject, words)
