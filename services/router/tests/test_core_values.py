"""Names, overlap, adoption, partition, drift, the text of the rules."""

from __future__ import annotations

from dataclasses import replace

import pytest

from weave_model.attachment import AttachmentKey, ContainerId, Route
from weave_model.peer import PeerName
from weave_model.prefix import Family, Prefix
from weave_router.core import naming, ruleset
from weave_router.core import state as kernel_state
from weave_router.core.adoption import Witness, rebuild
from weave_router.core.attachments import Phase
from weave_router.core.diff import (
    Add,
    Change,
    LoadRuleset,
    Operation,
    Remove,
    UpdateSets,
    diff,
)
from weave_router.core.drift import Baseline
from weave_router.core.overlap import overlaps
from weave_router.core.partition import partition
from weave_router.core.state import (
    Address,
    Binding,
    FdbEntry,
    KernelState,
    Link,
    LinkKind,
    Neighbour,
    Sysctl,
    Vxlan,
)
from weave_router.kernel.api import Uplink

KEY = AttachmentKey("weave", ContainerId("c1"), "eth0")
POD = Prefix.parse("10.32.0.2")
LINK = Link("vethwepl1", LinkKind.VETH, naming.GATEWAY_MAC, 1450, alias=str(KEY))
PEERS = frozenset({Prefix.parse("10.99.0.2")})


def test_names_fit_and_differ() -> None:
    names = {naming.pod_link(KEY, attempt) for attempt in range(100)}

    assert len(names) == 100
    assert all(len(name) == 15 for name in names)


def test_an_alias_is_read_back() -> None:
    assert naming.parse_alias(naming.alias(KEY)) == KEY


@pytest.mark.parametrize("alias", ["", "weave/c1", "we ave/c1/eth0", "weave/c1/eth0/x", "//"])
def test_a_foreign_alias_names_no_attachment(alias: str) -> None:
    assert naming.parse_alias(alias) is None


def test_hardware_addresses_are_unicast_and_local() -> None:
    peers = [PeerName(bytes([first, 0, 0, 0, 0, 1])) for first in range(256)]
    macs = {naming.tunnel_mac(peer) for peer in peers}
    macs |= {naming.pod_mac(POD), naming.pod_mac(Prefix.parse("fd00::1")), naming.GATEWAY_MAC}

    assert len(macs) == 259
    assert all(mac[0] & 3 == 2 for mac in macs)


@pytest.mark.parametrize(
    ("route", "is_overlap"),
    [
        ("10.32.0.0/12", True),
        ("10.40.1.0/24", True),
        ("10.0.0.0/8", True),
        ("10.48.0.0/12", False),
        ("0.0.0.0/0", False),
        ("0.0.0.0/1", False),
        ("fd00::/8", False),
    ],
)
def test_overlap_with_a_route_of_the_host(route: str, is_overlap: bool) -> None:
    universe, prefix = Prefix.parse("10.32.0.0/12"), Prefix.parse(route)

    assert overlaps([universe], [prefix]) == ([(universe, prefix)] if is_overlap else [])


def test_a_link_tells_its_attachment() -> None:
    mac = naming.pod_mac(POD)
    routes = (Route(Prefix.parse("0.0.0.0/0"), naming.GATEWAY_IPV4),)
    found = KernelState(
        neighbours=frozenset({Neighbour(LINK.name, POD, mac)}),
        sets={"bindings4": frozenset({Binding(LINK.name, mac, POD)}), "peers4": PEERS},
    )
    record = rebuild(Witness(LINK, "/run/netns/a", 1400, routes), found)

    assert record is not None
    assert (record.key, record.attachment.addresses) == (KEY, (POD,))
    assert (record.phase, record.mtu, record.routes) == (Phase.ACTIVE, 1400, routes)
    assert record.attachment.mac == b""

    closed = rebuild(Witness(LINK, "", 0, ()), replace(found, sets={}))
    assert closed is not None
    assert (closed.phase, closed.mtu) == (Phase.PREPARED, 1450)


def test_a_hardware_address_that_was_asked_for_is_kept() -> None:
    mac = b"\2\0\0\0\0\7"
    found = KernelState(neighbours=frozenset({Neighbour(LINK.name, POD, mac)}))
    record = rebuild(Witness(LINK, "", 0, ()), found)

    assert record is not None
    assert record.attachment.mac == mac


@pytest.mark.parametrize(
    ("link", "neighbours"),
    [
        (replace(LINK, alias="something else"), {Neighbour(LINK.name, POD, b"\2" * 6)}),
        (LINK, set()),
        (LINK, {Neighbour(LINK.name, POD, b"\1" * 6)}),
    ],
)
def test_a_link_that_tells_nothing_is_not_adopted(link: Link, neighbours: set[Neighbour]) -> None:
    found = KernelState(neighbours=frozenset(neighbours))

    assert rebuild(Witness(link, "", 0, ()), found) is None


def test_operations_on_ports_are_set_apart() -> None:
    binding = Binding(LINK.name, b"\2" * 6, POD)
    shared_route = kernel_state.Route(Prefix.parse("10.40.0.0/13"), link="vxlan-6784")
    pod_route = kernel_state.Route(POD, link=LINK.name)
    update = UpdateSets(removed={"bindings4": frozenset({binding})}, added={"peers4": PEERS})
    operations: list[Operation] = [Remove(LINK), Add(shared_route), update]
    operations += [Add(pod_route), LoadRuleset("x")]

    shared, by_port = partition(operations)

    assert shared == [Add(shared_route), UpdateSets(added={"peers4": PEERS}), LoadRuleset("x")]
    assert by_port == {
        LINK.name: [
            Remove(LINK),
            UpdateSets(removed={"bindings4": frozenset({binding})}),
            Add(pod_route),
        ]
    }


ROUTE = kernel_state.Route(Prefix.parse("10.40.0.0/13"), link="vxlan-6784")
DESIRED = KernelState(routes=frozenset({ROUTE}), ruleset="rules", sets={"peers4": PEERS})


@pytest.mark.parametrize(
    ("operation", "is_drift"),
    [
        (Add(ROUTE), True),
        (Change(replace(ROUTE, mtu=1), ROUTE), True),
        (Add(replace(ROUTE, mtu=1)), False),
        (Remove(replace(ROUTE, destination=POD)), True),
        (Remove(ROUTE), False),
        (LoadRuleset("rules"), True),
        (LoadRuleset("others"), False),
        (UpdateSets(added={"peers4": PEERS}), True),
        (UpdateSets(removed={"peers4": frozenset({POD})}), True),
        (UpdateSets(removed={"peers4": PEERS}), False),
        (UpdateSets(added={"peers4": frozenset({POD})}), False),
    ],
)
def test_drift_is_what_was_right_before(operation: object, is_drift: bool) -> None:
    assert Baseline(DESIRED).is_drift(operation) is is_drift  # type: ignore[arg-type]


def test_a_device_of_the_wrong_make_is_made_anew_with_all_that_stood_on_it() -> None:
    link = Link("vxlan-6784", LinkKind.VXLAN, b"\2" * 6, 1450, vxlan=Vxlan(1, 2, Family.IPV4, None))
    assert link.vxlan is not None
    wrong = replace(link, vxlan=replace(link.vxlan, learning=True))
    fdb = FdbEntry(link.name, b"\2" * 6, Prefix.parse("10.99.0.2"))
    address = Address(link.name, naming.GATEWAY_IPV4, link_scope=True)
    desired = KernelState(
        links=frozenset({link}),
        addresses=frozenset({address}),
        fdb=frozenset({fdb}),
        routes=frozenset({ROUTE}),
    )

    operations = diff(desired, replace(desired, links=frozenset({wrong})))

    assert operations == [Remove(wrong), Add(link), Add(address), Add(fdb), Add(ROUTE)]


def test_switches_of_the_host_are_never_taken_back() -> None:
    found = KernelState(sysctls=frozenset({Sysctl("net/ipv4/ip_forward", "1")}))

    assert diff(KernelState(), found) == []


def test_operations_read_as_what_was_wrong() -> None:
    update = UpdateSets({"local4": frozenset({POD})}, {"peers4": PEERS})
    texts = [
        Add(ROUTE),
        Change(replace(ROUTE, mtu=1300), ROUTE),
        Remove(replace(LINK, mac=b"\2" * 6)),
        LoadRuleset("x"),
        update,
    ]

    assert [str(text) for text in texts] == [
        "route 10.40.0.0/13 was missing",
        "route 10.40.0.0/13 was wrong (mtu 1300 instead of 0)",
        "link vethwepl1 was too much",
        "table inet weave was missing or changed",
        "set peers4 lacked 10.99.0.2/32; set local4 had too much 10.32.0.2/32",
    ]


def test_a_split_block_changes_its_set_in_one_transaction() -> None:
    whole = Prefix.parse("10.32.0.0/12")
    lower, _ = whole.halves()
    found = KernelState(sets={"local4": frozenset({whole})})
    desired = KernelState(sets={"local4": frozenset({lower})})

    assert diff(desired, found) == [
        UpdateSets(removed={"local4": frozenset({whole})}, added={"local4": frozenset({lower})})
    ]


def test_bindings_may_be_removed_twice() -> None:
    binding = Binding("vethwepl1", b"\2\0\0\0\0\1", POD)
    element = '{ "vethwepl1" . 02:00:00:00:00:01 . 10.32.0.2 }'

    assert ruleset.update({"bindings4": {binding}}, {"peers4": PEERS}) == (
        f"add element inet weave bindings4 {element}\n"
        f"delete element inet weave bindings4 {element}\n"
        "add element inet weave peers4 { 10.99.0.2 }\n"
    )
    assert ruleset.update({}, {"peers4": ()}) == ""


def test_a_replacement_empties_chains_before_it_removes_them() -> None:
    body = ruleset.text(ruleset.RulesetOptions())
    lines = ruleset.replacement(body, ["guard", "old"]).splitlines()

    assert lines[:4] == [
        "add table inet weave",
        "flush chain inet weave guard",
        "flush chain inet weave old",
        "delete chain inet weave old",
    ]


def test_options_change_the_rules() -> None:
    texts = {
        ruleset.text(ruleset.RulesetOptions(exposed, no_masq, mark))
        for exposed in (True, False)
        for no_masq in (True, False)
        for mark in (True, False)
    }

    assert len(texts) == 8


@pytest.mark.parametrize(
    ("address", "is_near"),
    [("10.99.0.2", True), ("10.99.1.2", False), ("fd99::2", False)],
)
def test_an_uplink_reaches_what_is_on_its_link(address: str, is_near: bool) -> None:
    uplink = Uplink(Prefix.parse("10.99.0.1"), "eth0", 1500, length=24)

    assert uplink.reaches(Prefix.parse(address)) is is_near
