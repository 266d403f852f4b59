"""Connection tracking of a namespace as another library sees it (docs/adr/0005)."""

from __future__ import annotations

import socket
from dataclasses import dataclass
from functools import partial
from typing import Any

from pyroute2 import NFCTSocket
from pyroute2.netlink.nfnetlink.nfctsocket import NFCTAttrTuple

from tests.kernel.namespaces import Netns
from weave_model.prefix import Family, Prefix, format_address
from weave_router.core.connections import Connection

_UDP = 17
_PORT = 5000
_TIMEOUT_S = 300
_AF = {Family.IPV4: socket.AF_INET, Family.IPV6: socket.AF_INET6}


@dataclass(frozen=True, slots=True)
class Tracking:
    """Makes and lists entries; those it makes are of UDP, and long-lived. What leads to the port
    that all have which name none says nothing of ports."""

    node: Netns

    def track(self, connection: Connection, zone: int = 0) -> None:
        """Lets a connection be tracked."""
        port = connection.reply_source_port or _PORT
        original = _tuple(connection.source, connection.destination)
        reply = _tuple(connection.reply_source, connection.reply_destination, port)

        def add() -> None:
            with NFCTSocket(original.family) as conntrack:
                conntrack.entry(
                    "add", timeout=_TIMEOUT_S, zone=zone, tuple_orig=original, tuple_reply=reply
                )

        self.node.call(add)

    def tracked(self) -> set[Connection]:
        """All that are tracked."""

        def read(family: int) -> list[Any]:
            with NFCTSocket(family) as conntrack:
                return list(conntrack.dump())

        both = [self.node.call(partial(read, family)) for family in _AF.values()]
        return {_connection(entry) for entries in both for entry in entries}


def _tuple(source: Prefix, destination: Prefix, source_port: int = _PORT) -> NFCTAttrTuple:
    ends = [format_address(end.family, end.address) for end in (source, destination)]
    return NFCTAttrTuple(
        family=_AF[source.family],
        saddr=ends[0],
        daddr=ends[1],
        proto=_UDP,
        sport=source_port,
        dport=_PORT,
    )


def _connection(entry: Any) -> Connection:
    ends = []
    for direction in ("CTA_TUPLE_ORIG", "CTA_TUPLE_REPLY"):
        ip = entry.get_attr(direction).get_attr("CTA_TUPLE_IP")
        family = Family.IPV4 if ip.get_attr("CTA_IP_V4_SRC") else Family.IPV6
        ends += [ip.get_attr(f"CTA_IP_V{family}_{end}") for end in ("SRC", "DST")]
    port = (
        entry.get_attr("CTA_TUPLE_REPLY").get_attr("CTA_TUPLE_PROTO").get_attr("CTA_PROTO_SRC_PORT")
    )
    if port == _PORT:
        return Connection(*map(Prefix.parse, ends))
    return Connection(*map(Prefix.parse, ends), protocol=_UDP, reply_source_port=port)
