"""Does the old iptables (not its nftables successor) drop what it forwards?

Its rules are invisible to nftables. They are only read: its interface replaces whole tables, which
races with everybody else. Layouts are those of linux/netfilter_ipv4/ip_tables.h.
"""

from __future__ import annotations

import ctypes
import enum
import socket
import struct
from pathlib import Path

from weave_router.core import ruleset

_TABLES_IN_USE = Path("/proc/thread-self/net/ip_tables_names")
_FILTER = "filter"
_SO_GET_INFO = 64
_SO_GET_ENTRIES = 65
# Name, valid hooks, first entry of each hook, policy entry of each hook, number of entries, size.
_INFO = struct.Struct("=32sI5I5III")
# Name and size, padded to where the entries begin.
_ENTRIES_HEAD = struct.Struct("=32sI4x")
_FORWARD_HOOK = 2
_TARGET_OFFSET = struct.Struct("=H")
_TARGET_OFFSET_AT = 88
# A standard target is its size, name and revision, then the verdict; dropping is -NF_DROP - 1.
_VERDICT = struct.Struct("=i")
_VERDICT_AT = 32
_DROP = -1
_MARK_MATCH = struct.pack("=II", ruleset.MARK, ruleset.MARK)

_LIBC = ctypes.CDLL(None, use_errno=True)


class Verdict(enum.Enum):
    """What FORWARD does with what no rule of it knows."""

    ACCEPTS = enum.auto()
    DROPS = enum.auto()
    # It drops, but a rule of its owner's knows our mark.
    DROPS_OTHERS = enum.auto()


def forward_verdict() -> Verdict:
    """FORWARD's policy; where the old iptables is not used, it accepts."""
    try:
        if _FILTER not in _TABLES_IN_USE.read_text().split():
            return Verdict.ACCEPTS
    except OSError:
        return Verdict.ACCEPTS
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as any_socket:
        return _read(any_socket.fileno())


def _read(fd: int) -> Verdict:
    info = _get(fd, _SO_GET_INFO, _FILTER.encode().ljust(_INFO.size, b"\0"))
    if info is None:
        return Verdict.ACCEPTS
    fields = _INFO.unpack(info)
    first, policy, size = fields[2 + _FORWARD_HOOK], fields[7 + _FORWARD_HOOK], fields[-1]
    head = _ENTRIES_HEAD.pack(_FILTER.encode(), size)
    table = _get(fd, _SO_GET_ENTRIES, head.ljust(_ENTRIES_HEAD.size + size, b"\0"))
    if table is None:
        return Verdict.ACCEPTS
    entries = table[_ENTRIES_HEAD.size :]
    (target,) = _TARGET_OFFSET.unpack_from(entries, policy + _TARGET_OFFSET_AT)
    (verdict,) = _VERDICT.unpack_from(entries, policy + target + _VERDICT_AT)
    if verdict != _DROP:
        return Verdict.ACCEPTS
    return Verdict.DROPS_OTHERS if _MARK_MATCH in entries[first:policy] else Verdict.DROPS


def _get(fd: int, option: int, request: bytes) -> bytes | None:
    """getsockopt that hands a request in, which Python's cannot; None when the kernel refuses."""
    buffer = ctypes.create_string_buffer(request, len(request))
    length = ctypes.c_uint32(len(request))
    status = _LIBC.getsockopt(fd, socket.IPPROTO_IP, option, buffer, ctypes.byref(length))
    return bytes(buffer.raw) if status == 0 else None
