"""Removal of devices without waiting for the kernel's own after-care.

The kernel takes a device out of all tables within about 2 ms and then lets the caller wait another
20 ms until the last reference is dropped. Nobody outside can tell the difference, so a thread of
ours does that waiting.
"""

from __future__ import annotations

import errno
import threading
from concurrent.futures import ThreadPoolExecutor, wait
from dataclasses import replace

from weave_router.kernel.netlink import links
from weave_router.kernel.netlink.socket import NetlinkError, NetlinkSocket

# Devices that the kernel may care for side by side; its waiting costs no CPU time.
_THREADS = 8
# How soon a removal is looked at again; asking waits for the kernel's lock anyway.
_LOOK_INTERVAL_S = 0.0005


class Reaper:
    """Removes devices of the namespace it was made in. Safe for several threads at once."""

    def __init__(self) -> None:
        self._sockets = [NetlinkSocket() for _ in range(_THREADS)]
        self._free = list(self._sockets)
        self._lock = threading.Lock()
        self._pool = ThreadPoolExecutor(_THREADS, thread_name_prefix="reaper")

    def close(self) -> None:
        """Waits for the removals under way and closes the sockets."""
        self._pool.shutdown()
        for socket in self._sockets:
            socket.close()

    def remove(self, name: str, watch: NetlinkSocket, watch_lock: threading.Lock) -> bool:
        """Returns as soon as the device is in no table any more; False: there was none.

        Looks through `watch`. Raises NetlinkError when the kernel refuses.
        """
        if not _is_there(name, watch, watch_lock):
            return False
        removal = self._pool.submit(self._remove, name)
        while not wait([removal], timeout=_LOOK_INTERVAL_S).done:
            if not _is_there(name, watch, watch_lock):
                return True
        return removal.result()

    def _remove(self, name: str) -> bool:
        with self._lock:
            socket = self._free.pop()
        try:
            failures = socket.execute([replace(links.remove(name), tolerated=())])
        finally:
            with self._lock:
                self._free.append(socket)
        if failures and failures[0].error.errno != errno.ENODEV:
            raise failures[0].error
        return not failures


def _is_there(name: str, watch: NetlinkSocket, lock: threading.Lock) -> bool:
    with lock:
        try:
            watch.get(links.get(name))
        except NetlinkError as error:
            if error.errno == errno.ENODEV:
                return False
            raise
    return True
