"""The planner: routes are a pure function of ring, peers and attachments."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

import pytest
from hypothesis import given

from services.router.tests.worlds import NAMES, SELF, V4, V6, inputs
from weave_model.prefix import Family, Prefix
from weave_model.ring import OwnedBlock, RingView
from weave_router.core import naming, plan, ports, switches, tunnels
from weave_router.core.diff import Remove, diff
from weave_router.core.inputs import Inputs, Options, Path, PathKind, Peer
from weave_router.core.state import (
    MAIN_TABLE,
    Accept,
    Blocker,
    Element,
    KernelState,
    Link,
    Route,
    RouteKind,
    Rule,
    Sysctl,
)
from weave_router.kernel.fake import FakeKernel

OTHER, THIRD = NAMES[1], NAMES[2]
LOWER, UPPER = V4.halves()
OWN = Prefix.parse("10.32.0.1")
BASE = Inputs(
    options=Options(SELF, (Prefix.parse("10.99.0.1"),), 1450, (V4,)),
    overlay=(OWN,),
    rings={Family.IPV4: RingView(V4, (OwnedBlock(LOWER, SELF), OwnedBlock(UPPER, OTHER)))},
    peers=tuple(Peer(n, (Prefix.parse(f"10.99.0.{i}"),)) for i, n in enumerate(NAMES[:3], 1)),
)
PORT = ports.Port(
    "vethweplaaaaaaa", "weave/c/eth0", b"\x0a\x20\0\0\0\2", (Prefix.parse("10.32.0.2"),), 1450, True
)


def routes(of: Inputs, found: KernelState | None = None) -> frozenset[Route]:
    return plan.plan(of, found or KernelState()).routes


def relayed_blocks(of: Inputs, found: KernelState | None = None) -> frozenset[Element]:
    return plan.plan(of, found or KernelState()).sets["relayed4"]


def tunnel_route(block: Prefix, hop: str = "10.99.0.2") -> Route:
    gateway = Prefix.parse(hop)
    return Route(block, link="vxlan-6784", gateway=gateway, onlink=True, source=OWN)


def test_a_remote_block_goes_to_its_owner_and_the_rest_nowhere() -> None:
    assert routes(BASE) == {tunnel_route(UPPER), Route(V4, RouteKind.UNREACHABLE)}


def test_a_relayed_peer_is_closed_to_transit() -> None:
    relayed = replace(BASE, paths={OTHER: Path(PathKind.RELAY, via=THIRD)})

    assert tunnel_route(UPPER, hop="10.99.0.3") in routes(relayed)
    assert relayed_blocks(relayed) == {UPPER}
    assert relayed_blocks(BASE) == frozenset()


def test_transit_is_closed_before_the_relay_is_used_and_opened_after() -> None:
    found = plan.plan(BASE, KernelState())
    relayed = plan.plan(replace(BASE, paths={OTHER: Path(PathKind.RELAY, via=THIRD)}), found)

    def steps(desired: KernelState, found: KernelState) -> list[str]:
        return [type(operation).__name__ for operation in diff(desired, found)]

    assert steps(relayed, found) == ["UpdateSets", "Change"]
    assert steps(found, relayed) == ["Change", "UpdateSets"]


def test_rules_and_routes_for_transit_of_older_releases_go() -> None:
    found = plan.plan(BASE, KernelState())
    rule = Rule(Family.IPV4, 6784, "vxlan-6784", 6784)
    home = Route(LOWER, RouteKind.THROW, 6784)
    older = replace(found, rules=frozenset({rule}), routes=found.routes | {home})

    assert diff(plan.plan(BASE, older), older) == [Remove(rule), Remove(home)]


def test_a_direct_peer_needs_no_tunnel() -> None:
    direct = replace(BASE, paths={OTHER: Path(PathKind.DIRECT, link="eth0", mtu=1500)})
    expected = Route(UPPER, link="eth0", gateway=Prefix.parse("10.99.0.2"), source=OWN, mtu=1500)

    assert expected in routes(direct)


def test_ipv6_of_a_direct_peer_stays_in_the_tunnel() -> None:
    lower, upper = V6.halves()
    ring = RingView(V6, (OwnedBlock(lower, SELF), OwnedBlock(upper, OTHER)))
    direct = Path(PathKind.DIRECT, link="eth0", mtu=1500, tunnel_mtu=1300)
    both = replace(BASE, rings={Family.IPV6: ring}, paths={OTHER: direct})
    (route,) = (r for r in routes(both) if r.destination == upper)

    assert (route.link, route.mtu) == ("vxlan-6784", 1300)


def test_a_peer_without_a_path_is_unreachable() -> None:
    nowhere = replace(BASE, paths={OTHER: Path(PathKind.NONE)})

    assert routes(nowhere) == {Route(V4, RouteKind.UNREACHABLE)}


def test_a_peer_with_an_address_of_this_node_is_unreachable() -> None:
    """It was this machine, before that lost its state."""
    former = replace(BASE, peers=(Peer(OTHER, BASE.options.underlay),))

    assert routes(former) == {Route(V4, RouteKind.UNREACHABLE)}


def test_one_owner_of_everything_leaves_no_rest() -> None:
    all_theirs = replace(BASE, rings={Family.IPV4: RingView(V4, (OwnedBlock(V4, OTHER),))})

    assert routes(all_theirs) == {tunnel_route(V4)}


def test_a_pod_whose_link_is_gone_has_nothing_left() -> None:
    found = KernelState(links=frozenset({ports.link(PORT)}))
    with_pod = replace(BASE, ports=(PORT,))

    assert Route(PORT.addresses[0], link=PORT.link, source=OWN) in routes(with_pod, found=found)
    assert routes(with_pod) == routes(BASE)


def test_a_closed_port_has_a_neighbour_but_no_route_and_no_binding() -> None:
    found = KernelState(links=frozenset({ports.link(PORT)}))
    desired = plan.plan(replace(BASE, ports=(replace(PORT, open=False),)), found)

    assert {n.link for n in desired.neighbours} == {PORT.link, "vxlan-6784"}
    assert not {r for r in desired.routes if r.link == PORT.link}
    assert desired.sets["bindings4"] == frozenset()


def test_what_is_not_known_yet_stands_as_found() -> None:
    found = plan.plan(BASE, KernelState())
    blind = replace(BASE, overlay=None, rings=None, peers=None)

    assert diff(plan.plan(blind, found), found) == []


def test_a_forgotten_port_is_removed_while_others_are_away() -> None:
    found = KernelState(links=frozenset({ports.link(PORT)}))
    found = plan.plan(replace(BASE, ports=(PORT,)), found)
    blind = replace(BASE, rings=None, peers=None)

    assert not {r for r in routes(blind, found=found) if r.link == PORT.link}


def test_ipv6_peers_get_a_device_of_their_own() -> None:
    underlay = (Prefix.parse("10.99.0.1"), Prefix.parse("fd99::1"))
    options = replace(
        BASE.options, underlay=underlay, tunnel_mtus={Family.IPV4: 1450, Family.IPV6: 1430}
    )
    peer = Peer(OTHER, (Prefix.parse("fd99::2"),))
    desired = plan.plan(replace(BASE, options=options, peers=(peer,)), KernelState())
    (route,) = (r for r in desired.routes if r.key == (MAIN_TABLE, UPPER))
    mtus = {link.name: link.mtu for link in desired.links}

    assert (route.link, route.gateway) == ("vxlan6-6784", naming.tunnel_link_local(OTHER))
    assert mtus == {"weave": 1450, "vxlan-6784": 1450, "vxlan6-6784": 1430}


def test_foreign_chains_get_one_rule_where_it_can_help() -> None:
    chains = [Accept("ip", "filter", "FORWARD"), Accept("ip", "early", "FORWARD")]
    blockers = frozenset({Blocker(chains[0], 0), Blocker(chains[1], -150)})
    found = KernelState(blockers=blockers)
    desired = plan.plan(BASE, found)

    assert desired.accepts == frozenset(chains[:1])
    assert "chain marks" in desired.ruleset
    assert plan.impassable(found) == ["ip early FORWARD"]


@pytest.mark.parametrize(("family", "expected"), [(Family.IPV4, 1450), (Family.IPV6, 1430)])
def test_a_tunnel_costs_its_headers(family: Family, expected: int) -> None:
    assert tunnels.tunnel_mtu(family, 1500) == expected


@given(inputs())
def test_no_two_objects_share_a_place(wanted: Inputs) -> None:
    desired = plan.plan(wanted, _with_pods(wanted))

    for kind in ("links", "addresses", "routes", "rules", "neighbours", "fdb", "sysctls"):
        objects = getattr(desired, kind)
        assert len({item.key for item in objects}) == len(objects)


@given(inputs())
def test_prefixes_of_a_set_never_overlap(wanted: Inputs) -> None:
    sets = plan.plan(wanted, KernelState()).sets

    for elements in sets.values():
        prefixes = sorted(e for e in elements if isinstance(e, Prefix))
        assert not [pair for pair in pairwise(prefixes) if pair[0].overlaps(pair[1])]


@given(inputs(), inputs())
def test_applying_the_difference_leads_to_the_plan(before: Inputs, after: Inputs) -> None:
    """From any state to any other, by what a kernel accepts, in one round."""
    kernel = FakeKernel()
    for wanted in (before, after):
        for port in wanted.ports:
            kernel.objects.setdefault((Link, port.link), ports.link(port))
            kernel.ends.setdefault(port.link, ("/gone", "eth0"))
        found = kernel.found(_SWITCHES)
        operations = diff(plan.plan(wanted, found), found)
        assert kernel.apply(operations) == []
        found = kernel.found(_SWITCHES)
        assert diff(plan.plan(wanted, found), found) == []


@pytest.mark.parametrize(("of_all", "wanted"), [("0", "0"), ("1", "2"), ("2", "2"), (None, "2")])
def test_a_tunnel_filters_no_route_back_whatever_holds_for_all(
    of_all: str | None, wanted: str
) -> None:
    """The larger value counts, and a host where nobody filters need not look routes up."""
    path = "net/ipv4/conf/all/rp_filter"
    options = BASE.options
    assert path in switches.paths(options)
    found = KernelState(sysctls=frozenset([Sysctl(path, of_all)] if of_all else []))

    planned = frozenset(switches.wanted(options, found))

    assert Sysctl("net/ipv4/conf/vxlan-6784/rp_filter", wanted) in planned
    assert path not in {switch.path for switch in planned}


_SWITCHES = (
    "net/ipv4/ip_forward",
    "net/ipv6/conf/all/forwarding",
    "net/ipv6/conf/vxlan-6784/disable_ipv6",
    "net/ipv6/conf/vxlan6-6784/disable_ipv6",
    "net/ipv4/conf/vxlan-6784/rp_filter",
    "net/ipv4/conf/vxlan6-6784/rp_filter",
)


def _with_pods(wanted: Inputs) -> KernelState:
    return KernelState(links=frozenset(ports.link(port) for port in wanted.ports))
