"""A netlink socket that only listens to events; never blocks."""

from __future__ import annotations

import errno
import socket

from weave_router.kernel.netlink import wire
from weave_router.kernel.netlink.wire import Message

# A burst of 10,000 route events is some 4 MB of kernel memory; what does not fit is found by the
# full comparison that follows a loss.
_BUFFER_BYTES = 4 << 20
_READ_BYTES = 65536
# asm-generic/socket.h; beyond the host's limit, which needs CAP_NET_ADMIN.
_SO_RCVBUFFORCE = 33
# One turn of the event loop reads this many datagrams at most.
_READS_PER_TURN = 256


class Overrun(Exception):
    """Events were lost: anything may have changed."""


class Listener:
    """Events of some multicast groups, in the namespace of the thread that made it."""

    def __init__(self, protocol: int, groups: int, buffer_bytes: int = _BUFFER_BYTES) -> None:
        kind = socket.SOCK_RAW | socket.SOCK_CLOEXEC | socket.SOCK_NONBLOCK
        self._socket = socket.socket(socket.AF_NETLINK, kind, protocol)
        self._socket.setsockopt(socket.SOL_SOCKET, _SO_RCVBUFFORCE, buffer_bytes)
        self._socket.bind((0, groups))
        # Did the last read take all there was?
        self.is_drained = True

    def fileno(self) -> int:
        """The file descriptor, to wait for events."""
        return self._socket.fileno()

    def close(self) -> None:
        """Closes the socket. Idempotent."""
        self._socket.close()

    def read(self) -> list[Message]:
        """The events that have come; empty: none. Raises Overrun when some were lost."""
        messages: list[Message] = []
        self.is_drained = False
        for _ in range(_READS_PER_TURN):
            try:
                data = self._socket.recv(_READ_BYTES)
            except BlockingIOError:
                self.is_drained = True
                break
            except OSError as error:
                if error.errno == errno.ENOBUFS:
                    raise Overrun from error
                raise
            messages += wire.split_messages(data)
        return messages
