"""The few system calls for mount namespaces that Python 3.11 does not offer."""

from __future__ import annotations

import ctypes
import errno
import os
from pathlib import Path

# sched.h and sys/mount.h
CLONE_NEWNS = 0x00020000
CLONE_NEWUTS = 0x04000000
MS_NOSUID = 0x2
MS_NODEV = 0x4
MS_BIND = 0x1000
MS_MOVE = 0x2000
MS_REC = 0x4000
MS_PRIVATE = 0x40000
MS_SLAVE = 0x80000
MNT_DETACH = 0x2

_LIBC = ctypes.CDLL(None, use_errno=True)


def unshare(flags: int) -> None:
    """Gives this process new namespaces of the kinds in `flags`. Raises OSError."""
    _check(_LIBC.unshare(ctypes.c_int(flags)), "unshare")


def mount(source: str, target: Path, kind: str = "", flags: int = 0, options: str = "") -> None:
    """mount(2). Raises OSError naming the target."""
    result = _LIBC.mount(
        source.encode(),
        os.fsencode(target),
        kind.encode() or None,
        ctypes.c_ulong(flags),
        options.encode() or None,
    )
    _check(result, str(target))


def detach(target: Path) -> None:
    """Takes off the topmost mount on `target` with all below it. Nothing there is no error."""
    if _LIBC.umount2(os.fsencode(target), ctypes.c_int(MNT_DETACH)) != 0:
        number = ctypes.get_errno()
        if number not in (errno.EINVAL, errno.ENOENT):
            raise OSError(number, os.strerror(number), str(target))


def set_hostname(name: str) -> None:
    """Sets the host name in this UTS namespace. Raises OSError."""
    raw = name.encode()
    _check(_LIBC.sethostname(raw, ctypes.c_size_t(len(raw))), name)


def _check(result: int, subject: str) -> None:
    if result != 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number), subject)
