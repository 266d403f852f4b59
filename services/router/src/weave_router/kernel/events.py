"""Which kernel events concern the router? Pure functions of netlink messages.

Our own changes come back as events too; they bear the port of the socket that made them.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Container, Iterable, Mapping
from dataclasses import dataclass, field

from weave_router.core import naming, ruleset
from weave_router.core.state import ROUTE_PROTOCOL, Link
from weave_router.kernel.api import Concern
from weave_router.kernel.netlink import addresses, links, neighbours, netconf, routes, wire
from weave_router.kernel.netlink.wire import Message

# Multicast groups of NETLINK_ROUTE (linux/rtnetlink.h), as bits of a bind mask.
ROUTE_GROUPS = sum(1 << (group - 1) for group in (1, 3, 5, 7, 8, 9, 11, 19, 24, 25))
SANDBOX_GROUPS = sum(1 << (group - 1) for group in (1, 3, 5, 7, 9, 11))
# NFNLGRP_NFTABLES of NETLINK_NETFILTER.
NFTABLES_GROUPS = 1 << (7 - 1)

_LINK_EVENTS = {links.RTM_NEWLINK, links.RTM_DELLINK}
_ADDRESS_EVENTS = {addresses.RTM_NEWADDR, addresses.RTM_DELADDR}
_ROUTE_EVENTS = {routes.RTM_NEWROUTE, routes.RTM_DELROUTE}
_RULE_EVENTS = {routes.RTM_NEWRULE, routes.RTM_DELRULE}
_NEIGHBOUR_EVENTS = {neighbours.RTM_NEWNEIGH, neighbours.RTM_DELNEIGH}

# struct rtmsg: rtm_protocol; struct ndmsg: ndm_ifindex; struct ifaddrmsg: ifa_index.
_ROUTE_PROTOCOL_OFFSET = 5
_INDEX = struct.Struct("=i")
_INDEX_OFFSET = 4

_NFNL_SUBSYS_NFTABLES = 10
_NFT_MSG_NEWCHAIN = 3
_NFT_MSG_DELCHAIN = 5
_NFT_MSG_DELRULE = 8
_NFT_MSG_NEWGEN = 15
# struct nfgenmsg, before the attributes; in all messages attribute 1 names the table.
_NFGENMSG_BYTES = 4
_TABLE_ATTRIBUTE = 1
_CHAIN_HOOK_ATTRIBUTE = 4
_FAMILY_INET = 1
_OWN_TABLE = "weave"


@dataclass(slots=True)
class RouteEvents:
    """Judges events of NETLINK_ROUTE. `own_ports`: sockets whose changes are ours."""

    own_ports: frozenset[int]
    # Index of each of our devices by name, as last seen.
    indexes: Callable[[], Mapping[str, int]]
    # What a device of ours should be; None: nobody knows of it.
    expected: Callable[[str], Link | None]
    # Pods' links that were told to be otherwise than expected, as last seen; None: removed.
    _suspects: dict[str, Link | None] = field(default_factory=dict)
    # Pods' links of which something else was taken.
    _touched: set[str] = field(default_factory=set)

    def is_in_doubt(self) -> bool:
        """Is a pod's link of which PORT told still not as expected? Forgets all of them.

        An attach or a detach goes through states that nobody expects and leaves what is expected.
        """
        suspects, self._suspects = self._suspects, {}
        touched, self._touched = self._touched, set()
        return any(self.expected(name) != link for name, link in suspects.items()) or any(
            self.expected(name) is not None for name in touched
        )

    def judge(self, messages: Iterable[Message]) -> Concern:
        """What these events make necessary."""
        concern = Concern.NOTHING
        # A copy: attaches change it in threads of their own.
        devices = {index: name for name, index in dict(self.indexes()).items()}
        for message in messages:
            if message.port not in self.own_ports:
                concern |= self._judge_one(message, devices)
        return concern

    def _judge_one(self, message: Message, devices: Mapping[int, str]) -> Concern:
        kind = message.kind
        if kind in _LINK_EVENTS:
            return self._judge_link(message, devices)
        if kind in _ADDRESS_EVENTS:
            name = devices.get(_index(message))
            return Concern.UPLINKS if name is None else self._judge_part(name)
        if kind in _ROUTE_EVENTS:
            is_ours = message.payload[_ROUTE_PROTOCOL_OFFSET] == ROUTE_PROTOCOL
            return Concern.STATE if is_ours else Concern.NOTHING
        if kind in _NEIGHBOUR_EVENTS:
            name = devices.get(_index(message))
            return Concern.NOTHING if name is None else self._judge_part(name)
        if kind == netconf.RTM_NEWNETCONF:
            index = netconf.index(message)
            is_ours = index == netconf.ALL_DEVICES or index in devices
            return Concern.STATE if is_ours else Concern.NOTHING
        return Concern.STATE if kind in _RULE_EVENTS else Concern.NOTHING

    def _judge_part(self, name: str) -> Concern:
        """An address or a neighbour of a device of ours; the kernel takes them with the device."""
        if not name.startswith(naming.POD_LINK_PREFIX):
            return Concern.STATE
        self._touched.add(name)
        return Concern.PORT

    def _judge_link(self, message: Message, devices: Container[int]) -> Concern:
        found = links.decode(message)
        is_ours = found.index in devices or _is_own_name(found.name)
        if not is_ours:
            return Concern.UPLINKS
        # The kernel tells many times that a device is as it should be: carrier, queues, peers.
        is_right = found.link is not None and self.expected(found.name) == found.link
        is_there = message.kind == links.RTM_NEWLINK
        if is_there and is_right:
            self._suspects.pop(found.name, None)
            return Concern.NOTHING
        if not found.name.startswith(naming.POD_LINK_PREFIX):
            return Concern.STATE
        # What a new link goes through is told without the port of the socket that asked for it.
        self._suspects[found.name] = found.link if is_there else None
        return Concern.PORT


@dataclass(slots=True)
class NftablesEvents:
    """Judges events of nf_tables: one transaction is many messages and a last one, NEWGEN."""

    own_ports: frozenset[int]
    _is_touched: bool = field(default=False)

    def judge(self, messages: Iterable[Message]) -> Concern:
        """What these events make necessary."""
        concern = Concern.NOTHING
        for message in messages:
            kind = message.kind & 0xFF
            if message.kind >> 8 != _NFNL_SUBSYS_NFTABLES:
                continue
            if kind != _NFT_MSG_NEWGEN:
                self._is_touched = self._is_touched or _concerns_us(kind, message)
                continue
            if self._is_touched and message.port not in self.own_ports:
                concern |= Concern.STATE
            self._is_touched = False
        return concern


def _concerns_us(kind: int, message: Message) -> bool:
    attributes = wire.parse_attributes(message.payload, _NFGENMSG_BYTES)
    table = wire.read_text(attributes.get(_TABLE_ATTRIBUTE, b""))
    if table == _OWN_TABLE and message.payload[0] == _FAMILY_INET:
        return True
    # kube-proxy changes chains all day; only those of a hook may drop what we forward.
    if kind in (_NFT_MSG_NEWCHAIN, _NFT_MSG_DELCHAIN):
        return _CHAIN_HOOK_ATTRIBUTE in attributes
    # Our rule in somebody else's chain bears its comment.
    return kind == _NFT_MSG_DELRULE and ruleset.FOREIGN_COMMENT.encode() in message.payload


def _index(message: Message) -> int:
    return int(_INDEX.unpack_from(message.payload, _INDEX_OFFSET)[0])


def _is_own_name(name: str) -> bool:
    own = {naming.BRIDGE, *naming.VXLAN.values()}
    return name in own or name.startswith(naming.POD_LINK_PREFIX)
