"""What a sandbox should hold, and how differences from it read."""

from __future__ import annotations

from dataclasses import replace

import pytest

from weave_model.attachment import AttachmentKey, ContainerId, Route
from weave_model.prefix import Family, Prefix
from weave_router.core import naming
from weave_router.core.attachments import Attachment
from weave_router.core.sandbox import (
    SandboxFound,
    by_gateway,
    default_routes,
    differences,
    sandbox,
    universe_routes,
    with_gateways,
)

V4, V6 = Prefix.parse("10.32.0.2"), Prefix.parse("fd00:32::2")
GATEWAY4, GATEWAY6 = naming.GATEWAY_IPV4, naming.GATEWAY_IPV6
DEFAULT4, DEFAULT6 = Prefix.parse("0.0.0.0/0"), Prefix.parse("::/0")
ATTACHMENT = Attachment(AttachmentKey("weave", ContainerId("c1"), "eth0"), (V4, V6))
ROUTES = (Route(DEFAULT4, GATEWAY4), Route(DEFAULT6, GATEWAY6))
WANTED = sandbox(ATTACHMENT, 1450, ROUTES)
RIGHT = SandboxFound(
    mac=ATTACHMENT.hardware_address,
    mtu=1450,
    up=True,
    addresses=frozenset({V4, V6, Prefix.parse("fe80::7/128")}),
    routes=frozenset({*ROUTES, Route(Prefix.parse("fe80::/64"))}),
    neighbours=frozenset({(GATEWAY4, naming.GATEWAY_MAC), (GATEWAY6, naming.GATEWAY_MAC)}),
)


def test_both_families_get_a_default_route() -> None:
    assert default_routes(ATTACHMENT) == ROUTES


def test_universe_routes_follow_the_families_of_the_addresses() -> None:
    universes = (Prefix.parse("10.32.0.0/12"), Prefix.parse("fd00:32::/48"))
    only4 = replace(ATTACHMENT, addresses=(V4,))

    assert universe_routes(ATTACHMENT, universes) == (
        Route(universes[0], GATEWAY4),
        Route(universes[1], GATEWAY6),
    )
    assert universe_routes(only4, universes) == (Route(universes[0], GATEWAY4),)


def test_routes_without_a_gateway_get_ours() -> None:
    own = Route(Prefix.parse("10.1.0.0/16"), Prefix.parse("10.32.0.9"))
    bare = Route(Prefix.parse("10.2.0.0/16"))

    assert with_gateways([own, bare]) == (own, replace(bare, gateway=GATEWAY4))


def test_found_routes_by_our_gateways_are_ours() -> None:
    foreign = Route(Prefix.parse("10.1.0.0/16"), Prefix.parse("10.32.0.9"))

    assert by_gateway([*reversed(ROUTES), foreign]) == ROUTES


def test_a_right_sandbox_has_no_differences() -> None:
    assert differences(WANTED, RIGHT) == []


def test_further_routes_are_allowed() -> None:
    more = RIGHT.routes | {Route(Prefix.parse("192.0.2.0/24"), Prefix.parse("10.32.0.9"))}

    assert differences(WANTED, replace(RIGHT, routes=more)) == []


@pytest.mark.parametrize(
    ("found", "kinds"),
    [
        (None, ["link"]),
        (SandboxFound(), ["link"]),
        (replace(RIGHT, up=False), ["link"]),
        (replace(RIGHT, mtu=1400), ["mtu"]),
        (replace(RIGHT, mac=b"\2\0\0\0\0\1"), ["link"]),
        (replace(RIGHT, addresses=RIGHT.addresses - {V4}), ["address"]),
        (replace(RIGHT, addresses=RIGHT.addresses | {Prefix.parse("10.9.9.9")}), ["address"]),
        (replace(RIGHT, routes=frozenset()), ["route", "route"]),
        (replace(RIGHT, routes=RIGHT.routes - {ROUTES[0]} | {Route(DEFAULT4, V4)}), ["route"]),
        (replace(RIGHT, routes=RIGHT.routes - {ROUTES[0]} | {Route(DEFAULT4)}), ["route"]),
        (replace(RIGHT, neighbours=frozenset()), ["neighbour", "neighbour"]),
        (replace(RIGHT, neighbours=frozenset({(GATEWAY4, b"\2" * 6)})), ["neighbour"] * 2),
        (replace(RIGHT, redirects=frozenset({Family.IPV4})), ["sysctl"]),
    ],
)
def test_each_mutation_is_a_difference(found: SandboxFound | None, kinds: list[str]) -> None:
    assert [d.kind for d in differences(WANTED, found)] == kinds


def test_redirects_of_a_family_without_address_do_not_matter() -> None:
    only4 = sandbox(replace(ATTACHMENT, addresses=(V4,)), 1450, ROUTES[:1])
    found = replace(RIGHT, addresses=frozenset({V4}), redirects=frozenset({Family.IPV6}))

    assert differences(only4, found) == []
