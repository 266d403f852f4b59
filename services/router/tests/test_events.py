"""Which kernel events make the router look again."""

from __future__ import annotations

from dataclasses import replace

import pytest

from weave_model.prefix import Family, Prefix
from weave_router.core import naming, ruleset
from weave_router.core.state import Address, Link, LinkKind, Neighbour, Route, Rule
from weave_router.kernel.api import Concern
from weave_router.kernel.events import NftablesEvents, RouteEvents
from weave_router.kernel.netlink import addresses, links, neighbours, routes, wire
from weave_router.kernel.netlink.wire import Message, Request

OWN_PORT, OTHER_PORT = 77, 78
BRIDGE = Link("weave", LinkKind.BRIDGE, naming.GATEWAY_MAC, 1450, up=False)
ROUTE = Route(Prefix.parse("10.40.0.0/13"), link="vxlan-6784")
ADDRESS = Address("weave", Prefix.parse("10.32.0.1"))
NEIGHBOUR = Neighbour("weave", ADDRESS.prefix, b"\2" * 6)
EVENTS = RouteEvents(
    frozenset({OWN_PORT}), lambda: {"weave": 5}, lambda name: BRIDGE if name == "weave" else None
)


def message(request: Request, kind: int = 0, port: int = OTHER_PORT) -> Message:
    """A request as the kernel tells of it afterwards."""
    return Message(kind or request.kind, 0, 0, port, request.payload)


def address(index: int) -> Request:
    return addresses.add(index, ADDRESS.prefix, link_scope=False, subject="")


@pytest.mark.parametrize(
    ("event", "concern"),
    [
        (message(routes.add(ROUTE, 9), routes.RTM_DELROUTE), Concern.STATE),
        (message(routes.on_link(9, ROUTE.destination, "")), Concern.NOTHING),
        (message(routes.add_rule(Rule(Family.IPV4, 1, "x", 2))), Concern.STATE),
        (message(address(5)), Concern.STATE),
        (message(address(6)), Concern.UPLINKS),
        (message(neighbours.set_neighbour(NEIGHBOUR, 5)), Concern.STATE),
        (message(neighbours.set_neighbour(NEIGHBOUR, 6)), Concern.NOTHING),
        (message(links.create(BRIDGE)), Concern.NOTHING),
        (message(links.create(replace(BRIDGE, mtu=1300))), Concern.STATE),
        (message(links.create(BRIDGE), links.RTM_DELLINK), Concern.STATE),
        (message(links.create(replace(BRIDGE, name="vethweplnew"))), Concern.PORT),
        (message(links.create(replace(BRIDGE, name="eth0"))), Concern.UPLINKS),
        (Message(80, 0, 0, 0, bytes(4) + wire.u32(1, 0xFFFFFFFF)), Concern.STATE),
        (Message(80, 0, 0, 0, bytes(4) + wire.u32(1, 5)), Concern.STATE),
        (Message(80, 0, 0, 0, bytes(4) + wire.u32(1, 6)), Concern.NOTHING),
    ],
)
def test_events_of_others(event: Message, concern: Concern) -> None:
    assert EVENTS.judge([event]) == concern


def test_our_own_changes_are_no_news() -> None:
    own = message(routes.add(ROUTE, 9), routes.RTM_DELROUTE, OWN_PORT)

    assert EVENTS.judge([own]) == Concern.NOTHING


def nft(kind: int, *attributes: bytes, port: int = OTHER_PORT, family: int = 1) -> Message:
    payload = bytes([family, 0, 0, 0]) + b"".join(attributes)
    return Message(10 << 8 | kind, 0, 0, port, payload)


GENERATION = 15
OURS, THEIRS = wire.text(1, "weave"), wire.text(1, "kube-proxy")
COMMENT = wire.text(7, ruleset.FOREIGN_COMMENT)
HOOK = wire.nested(4, wire.u32(1, 2))


@pytest.mark.parametrize(
    ("transaction", "concern"),
    [
        ([nft(12, OURS)], Concern.STATE),
        ([nft(12, OURS, family=2)], Concern.NOTHING),
        ([nft(12, THEIRS)], Concern.NOTHING),
        ([nft(3, THEIRS)], Concern.NOTHING),
        ([nft(3, THEIRS, HOOK)], Concern.STATE),
        ([nft(5, THEIRS, HOOK)], Concern.STATE),
        ([nft(8, THEIRS)], Concern.NOTHING),
        ([nft(8, THEIRS, COMMENT)], Concern.STATE),
        ([Message(1 << 8, 0, 0, 0, OURS)], Concern.NOTHING),
    ],
)
def test_transactions_of_others(transaction: list[Message], concern: Concern) -> None:
    assert NftablesEvents(frozenset({OWN_PORT})).judge([*transaction, nft(GENERATION)]) == concern


def test_our_own_transactions_are_no_news() -> None:
    events = NftablesEvents(frozenset({OWN_PORT}))

    assert events.judge([nft(12, OURS), nft(GENERATION, port=OWN_PORT)]) == Concern.NOTHING
    assert events.judge([nft(GENERATION)]) == Concern.NOTHING
