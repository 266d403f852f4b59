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


# Of any kind: one that a request describes as the kernel tells of it afterwards.
POD = replace(BRIDGE, name="vethwepl1")


@pytest.mark.parametrize(
    ("told", "expected", "in_doubt"),
    [
        # An attach: a bare link first, then what was asked for.
        ([(replace(POD, mtu=1500), 16), (POD, 16)], POD, False),
        # A link that the attach under way has not finished when it is looked at.
        ([(replace(POD, mtu=1500), 16)], POD, True),
        # A detach, forgotten by the time it is looked at.
        ([(POD, 17)], None, False),
        # Somebody removed it.
        ([(POD, 17)], POD, True),
        # Somebody made one of our name.
        ([(POD, 16)], None, True),
    ],
)
def test_a_pods_link_is_doubted_until_it_is_as_expected(
    told: list[tuple[Link, int]], expected: Link | None, in_doubt: bool
) -> None:
    known: dict[str, Link] = {}
    events = RouteEvents(frozenset(), dict, known.get)
    for link, kind in told:
        assert events.judge([message(links.create(link), kind)]) == Concern.PORT
    if expected:
        known[expected.name] = expected

    assert events.is_in_doubt() is in_doubt
    assert events.is_in_doubt() is False


def test_what_is_taken_from_a_pods_link_is_doubted_while_the_pod_lives() -> None:
    known = {POD.name: POD}
    events = RouteEvents(frozenset(), lambda: {POD.name: 9}, known.get)
    gone = message(neighbours.set_neighbour(NEIGHBOUR, 9), neighbours.RTM_DELNEIGH)

    assert events.judge([gone]) == Concern.PORT
    assert events.is_in_doubt()
    events.judge([gone])
    known.clear()
    assert not events.is_in_doubt()


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
