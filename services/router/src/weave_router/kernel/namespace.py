"""Work inside another network namespace.

A thread that has entered a namespace never comes back: it ends. A pool's thread that were left in a
sandbox would do the next piece of work in the wrong network.
"""

from __future__ import annotations

import ctypes
import errno
import fcntl
import os
import threading
from collections.abc import Callable
from types import TracebackType
from typing import Generic, Self, TypeVar

OWN_NAMESPACE = "/proc/thread-self/ns/net"

_CLONE_NEWNET = 0x40000000
# linux/nsfs.h: which kind of namespace a file is.
_NS_GET_NSTYPE = 0xB703
_LIBC = ctypes.CDLL(None, use_errno=True)

T = TypeVar("T")


class OpenedNamespace:
    """An open network namespace; being open keeps it alive."""

    def __init__(self, path: str) -> None:
        """Raises OSError: FileNotFoundError, or EINVAL when the file is no network namespace."""
        self.fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
        try:
            if fcntl.ioctl(self.fd, _NS_GET_NSTYPE) != _CLONE_NEWNET:
                raise OSError(errno.EINVAL, "it is another kind of namespace")
        except OSError as error:
            os.close(self.fd)
            if error.errno == errno.ENOTTY:
                raise OSError(errno.EINVAL, "it is no namespace") from error
            raise
        self.identity = identity(self.fd)

    def close(self) -> None:
        """Closes it."""
        os.close(self.fd)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()


def identity(path_or_fd: str | int) -> tuple[int, int]:
    """Device and inode: equal for two paths exactly when they are one namespace. Raises OSError."""
    status = os.stat(path_or_fd)  # noqa: PTH116 - also of an open file
    return status.st_dev, status.st_ino


def run_inside(namespace: OpenedNamespace, work: Callable[[], T]) -> T:
    """Runs `work` in a fresh thread inside the namespace and returns its result or raises its
    error.

    Blocks until it is done. Raises OSError when the namespace cannot be entered.
    """
    outcome: _Outcome[T] = _Outcome()

    def body() -> None:
        try:
            _enter(namespace.fd)
            outcome.value = work()
        except BaseException as error:  # noqa: BLE001 - raised again by the caller's thread
            outcome.error = error

    thread = threading.Thread(target=body, name="in-sandbox", daemon=True)
    thread.start()
    thread.join()
    return outcome.result()


class _Outcome(Generic[T]):
    def __init__(self) -> None:
        self.value: T | None = None
        self.error: BaseException | None = None

    def result(self) -> T:
        if self.error is not None:
            raise self.error
        return self.value  # type: ignore[return-value]  # set, as there was no error


def _enter(fd: int) -> None:
    if _LIBC.setns(fd, _CLONE_NEWNET) != 0:
        code = ctypes.get_errno()
        raise OSError(code, f"cannot enter the namespace: {os.strerror(code)}")
