"""How values look on the terminal."""

from __future__ import annotations

import datetime as dt

from weave.types.v1 import types_pb2
from weave_model.prefix import Prefix, address_from_bytes, format_address

_LABEL_WIDTH = 15


def field(label: str, value: object) -> str:
    """A line of `weave status`: the labels end in one column.

    Keys of documents are of other peers' choice: a terminal must not obey them.
    """
    text = "".join(each if each.isprintable() else "?" for each in str(value))
    return f"{label:>{_LABEL_WIDTH}}: {text}"


def peer(name: str, nickname: str) -> str:
    """`7a:9f:c0:d4:b8:39(node1)`."""
    return f"{name}({nickname})"


def address(raw: bytes) -> str:
    """An address from its wire form; empty stays empty, anything else shows as hexadecimal."""
    if not raw:
        return ""
    try:
        return format_address(*address_from_bytes(raw))
    except ValueError:
        return raw.hex()


def cidr(prefix: types_pb2.Prefix) -> str:
    """An address with its length, `10.32.0.1/12`; the bits behind the length are kept."""
    return f"{address(prefix.address)}/{prefix.length}"


def mac(raw: bytes) -> str:
    """`7a:9f:c0:d4:b8:39`, or `-` where none is known."""
    return raw.hex(":") or "-"


def rtt(seconds: float) -> str:
    """A round trip in the unit that suits it."""
    return f"{seconds * 1e3:.1f}ms" if seconds < 1 else f"{seconds:.1f}s"


def moment(unix_s: float) -> str:
    """`2024-03-05 04:11:09 UTC`."""
    when = dt.datetime.fromtimestamp(unix_s, dt.UTC)
    return when.strftime("%Y-%m-%d %H:%M:%S UTC")


def counted(parts: list[tuple[int, str]]) -> str:
    """`2 established, 1 retrying`; zeros are left out."""
    return ", ".join(f"{number} {name}" for number, name in parts if number)


def size(prefix: types_pb2.Prefix) -> int:
    """Number of addresses in a range."""
    return Prefix.from_bytes(prefix.address, prefix.length).size
