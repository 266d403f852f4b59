"""What every kernel promises the router, played or real: see weave_router.kernel.api."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TypeVar

import pytest

from weave_model.attachment import AttachmentKey, ContainerId, Route
from weave_model.errors import Invalid
from weave_model.peer import PeerName
from weave_model.prefix import Family, Prefix
from weave_model.ring import OwnedBlock, RingView
from weave_router.core import naming, plan, ports, sandbox
from weave_router.core import state as kernel_state
from weave_router.core.attachments import Attachment, Phase, Record
from weave_router.core.connections import Connection
from weave_router.core.diff import Add, Change, Remove, UpdateSets, diff
from weave_router.core.inputs import Inputs, Options, Peer
from weave_router.core.state import KernelObject, KernelState, Link, LinkKind, Rule, Vxlan
from weave_router.errors import HostNamespace, InterfaceTaken, NoSuchNamespace
from weave_router.kernel.api import Kernel, PodLink

T = TypeVar("T")

SELF = PeerName.parse("02:00:00:00:00:01")
OTHER = PeerName.parse("02:00:00:00:00:02")
THIRD = PeerName.parse("02:00:00:00:00:03")
V4 = Prefix.parse("10.32.0.0/12")
V6 = Prefix.parse("fd00:32::/32")
OVERLAY = (Prefix.parse("10.32.0.1"), Prefix.parse("fd00:32::1"))
SWITCHES = (
    "net/ipv4/ip_forward",
    "net/ipv6/conf/all/forwarding",
    "net/ipv6/conf/vxlan-6784/disable_ipv6",
    "net/ipv4/conf/vxlan-6784/rp_filter",
)

# As older releases led what comes out of a tunnel to a table of its own.
_RULE = Rule(Family.IPV4, 6784, "vxlan-6784", 6784)


def ring(universe: Prefix, *owners: PeerName) -> RingView:
    """A universe shared in equal parts, one per owner; their number is a power of two."""
    blocks = [universe]
    while len(blocks) < len(owners):
        blocks = [half for block in blocks for half in block.halves()]
    owned = (OwnedBlock(block, owner) for block, owner in zip(blocks, owners, strict=True))
    return RingView(universe, tuple(owned))


def inputs(*records: Record, owners: tuple[PeerName, ...] = (SELF, OTHER)) -> Inputs:
    """Two nodes, both families, with these attachments."""
    return Inputs(
        options=Options(SELF, (Prefix.parse("10.99.0.1"),), 1450, (V4, V6)),
        overlay=OVERLAY,
        rings={Family.IPV4: ring(V4, *owners), Family.IPV6: ring(V6, *owners)},
        peers=(
            Peer(SELF, (Prefix.parse("10.99.0.1"),)),
            Peer(OTHER, (Prefix.parse("10.99.0.2"),)),
            Peer(THIRD, (Prefix.parse("10.99.0.3"),)),
        ),
        ports=tuple(map(ports.port, records)),
    )


@dataclass
class Rig:
    """A kernel under test. `inside` runs work where the kernel is; `sandbox` is a fresh
    namespace; `track` lets a connection be tracked, `tracked` says which are."""

    kernel: Kernel
    inside: Callable[[Callable[[], object]], object]
    sandbox: str
    own_namespace: str
    track: Callable[[Connection], None]
    tracked: Callable[[], set[Connection]]

    def do(self, work: Callable[[], T]) -> T:
        """Runs work against the kernel."""
        return self.inside(work)  # type: ignore[return-value]

    def found(self) -> KernelState:
        """What is there."""
        return self.do(lambda: self.kernel.found(SWITCHES))

    def reconcile(self, wanted: Inputs) -> KernelState:
        """One round; everything must be accepted."""
        found = self.found()
        desired = plan.plan(wanted, found)
        failed = self.do(lambda: self.kernel.apply(diff(desired, found)))
        assert failed == []
        return desired

    def attach(self, record: Record, *, routes: tuple[Route, ...] | None = None) -> Record:
        """Prepares and activates."""
        attachment = record.attachment
        if routes is None:
            routes = sandbox.default_routes(attachment)
        port = ports.port(record)
        pod = PodLink(
            ports.link(port),
            tuple(ports.neighbours(port)),
            sandbox.sandbox(attachment, record.mtu, routes),
            sandbox.universe_routes(attachment, (V4, V6)),
        )
        installed = self.do(lambda: self.kernel.attach(pod, attachment.netns_path))
        opening = ports.opening(port, OVERLAY)
        assert self.do(lambda: self.kernel.apply_to_pod(opening)) == []
        return replace(record, phase=Phase.ACTIVE, routes=installed)

    def record(self, container: str = "c1", interface: str = "eth0", *addresses: str) -> Record:
        """An attachment to this rig's sandbox."""
        key = AttachmentKey("weave", ContainerId(container), interface)
        wanted = addresses or ("10.32.0.2", "fd00:32::2")
        prefixes = tuple(Prefix.parse(text) for text in wanted)
        attachment = Attachment(key, prefixes, netns_path=self.sandbox)
        return Record(attachment, naming.pod_link(key), Phase.PREPARED, 1450)


def test_a_fresh_kernel_holds_nothing_of_ours(rig: Rig) -> None:
    found = rig.found()

    assert replace(found, sysctls=frozenset()) == KernelState()


def test_what_was_applied_is_found(rig: Rig) -> None:
    desired = rig.reconcile(inputs())

    assert diff(desired, rig.found()) == []


def test_another_ring_is_applied_completely(rig: Rig) -> None:
    rig.reconcile(inputs())

    desired = rig.reconcile(inputs(owners=(OTHER, THIRD, SELF, OTHER)))

    assert diff(desired, rig.found()) == []


def test_an_overlay_too_narrow_for_ipv6_is_accepted(rig: Rig) -> None:
    """The kernel has no IPv6 on such a device, and refuses what would need it."""
    wide = inputs()
    assert wide.rings is not None
    assert wide.overlay is not None
    options = replace(wide.options, mtu=1200, universes=(V4,))
    ring4 = {Family.IPV4: wide.rings[Family.IPV4]}
    narrow = replace(wide, options=options, rings=ring4, overlay=wide.overlay[:1])

    desired = rig.reconcile(narrow)

    assert diff(desired, rig.found()) == []


def test_a_ring_that_is_taken_back_leaves_nothing(rig: Rig) -> None:
    rig.reconcile(inputs())
    first = rig.found()
    rig.reconcile(inputs(owners=(SELF, OTHER, THIRD, THIRD)))

    rig.reconcile(inputs())

    assert rig.found() == first


@pytest.mark.parametrize(
    "change",
    [
        pytest.param(lambda link: replace(link, mtu=1400), id="mtu"),
        pytest.param(lambda link: replace(link, mac=b"\x02\0\0\0\0\x77"), id="mac"),
        pytest.param(
            lambda link: replace(link, vxlan=Vxlan(6784, 6784, Family.IPV4, None, learning=True)),
            id="learning",
        ),
    ],
)
def test_a_device_that_was_changed_is_repaired(rig: Rig, change: Callable[[Link], Link]) -> None:
    desired = rig.reconcile(inputs())
    (tunnel,) = (link for link in desired.links if link.kind is LinkKind.VXLAN)
    wrong = replace(desired, links=desired.links - {tunnel} | {change(tunnel)})
    rig.do(lambda: rig.kernel.apply(diff(wrong, rig.kernel.found(SWITCHES))))
    assert diff(desired, rig.found()) != []

    rig.reconcile(inputs())

    assert diff(desired, rig.found()) == []


def test_an_attach_is_what_the_planner_expects(rig: Rig) -> None:
    rig.reconcile(inputs())

    record = rig.attach(rig.record())

    found = rig.found()
    assert diff(plan.plan(inputs(record), found), found) == []


def test_a_sandbox_holds_what_was_asked_for(rig: Rig) -> None:
    rig.reconcile(inputs())

    record = rig.attach(rig.record())

    found = rig.do(lambda: rig.kernel.inspect(rig.sandbox, "eth0"))
    wanted = sandbox.sandbox(record.attachment, record.mtu, record.routes)
    assert sandbox.differences(wanted, found) == []


def test_a_second_interface_gets_universe_routes_beside_a_default(rig: Rig) -> None:
    rig.reconcile(inputs())
    rig.attach(rig.record())

    second = rig.attach(rig.record("c1", "net1", "10.32.0.3", "fd00:32::3"))

    assert [route.destination for route in second.routes] == [V4, V6]


def test_detach_leaves_the_state_before_the_attach(rig: Rig) -> None:
    rig.reconcile(inputs())
    before = rig.found()
    record = rig.attach(rig.record())

    closing = ports.closing(ports.port(record))
    rig.do(lambda: rig.kernel.apply_to_pod(closing))
    first = rig.do(lambda: rig.kernel.detach(record.link))
    second = rig.do(lambda: rig.kernel.detach(record.link))

    assert (first, second) == (True, False)
    assert rig.found() == before
    assert rig.do(lambda: rig.kernel.inspect(rig.sandbox, "eth0")) == sandbox.SandboxFound()


def test_closing_a_port_twice_is_no_harm(rig: Rig) -> None:
    rig.reconcile(inputs())
    closing = ports.closing(ports.port(rig.attach(rig.record())))

    assert rig.do(lambda: rig.kernel.apply_to_pod(closing)) == []
    assert rig.do(lambda: rig.kernel.apply_to_pod(closing)) == []


def test_a_link_left_behind_under_the_same_name_is_replaced(rig: Rig) -> None:
    rig.reconcile(inputs())
    record = rig.attach(rig.record())
    left_behind = rig.record("c1", "eth1", "10.32.0.9")

    rig.attach(replace(left_behind, link=record.link))

    assert rig.do(lambda: rig.kernel.inspect(rig.sandbox, "eth0")) == sandbox.SandboxFound()


def test_pods_are_shown_with_their_sandboxes(rig: Rig) -> None:
    rig.reconcile(inputs())
    record = rig.attach(rig.record())

    (pod,) = rig.do(rig.kernel.pods)

    assert (pod.link.name, pod.netns_path, pod.interface) == (record.link, rig.sandbox, "eth0")
    assert set(record.attachment.addresses) <= pod.found.addresses


def test_an_interface_that_is_not_ours_is_not_touched(rig: Rig) -> None:
    rig.reconcile(inputs())
    rig.attach(rig.record())
    before = rig.found()
    other = rig.record("c2", "eth0", "10.32.0.3", "fd00:32::3")

    with pytest.raises(InterfaceTaken):
        rig.attach(other)

    assert rig.found() == before


def test_a_missing_namespace_is_absent(rig: Rig) -> None:
    record = rig.record()
    missing = replace(record.attachment, netns_path="/run/netns/never-made")

    with pytest.raises(NoSuchNamespace):
        rig.attach(replace(record, attachment=missing))


def test_a_path_that_is_no_namespace_is_invalid(rig: Rig) -> None:
    record = rig.record()

    with pytest.raises(Invalid):
        rig.attach(replace(record, attachment=replace(record.attachment, netns_path="etc")))


def test_the_own_namespace_is_refused(rig: Rig) -> None:
    record = rig.record()
    own = replace(record.attachment, netns_path=rig.own_namespace)

    with pytest.raises(HostNamespace):
        rig.attach(replace(record, attachment=own))


def test_a_failing_operation_does_not_stop_the_rest(rig: Rig) -> None:
    rig.reconcile(inputs())
    good = kernel_state.Route(Prefix.parse("10.33.0.7"), kernel_state.RouteKind.UNREACHABLE)
    bad = kernel_state.Route(
        Prefix.parse("10.33.0.8"), link="weave", source=Prefix.parse("1.2.3.4")
    )

    failed = rig.do(lambda: rig.kernel.apply([Add(bad), Add(good)]))

    assert [item.operation for item in failed] == [Add(bad)]
    assert good in rig.found().routes


def test_adding_what_is_there_is_refused(rig: Rig) -> None:
    rig.reconcile(inputs())
    route = kernel_state.Route(Prefix.parse("10.33.0.7"), kernel_state.RouteKind.UNREACHABLE)

    first = rig.do(lambda: rig.kernel.apply([Add(route)]))
    second = rig.do(lambda: rig.kernel.apply([Add(route)]))

    assert (len(first), len(second)) == (0, 1)


def test_rules_of_older_releases_are_found_and_removed(rig: Rig) -> None:
    desired = rig.reconcile(inputs())
    home = kernel_state.Route(V4.halves()[0], kernel_state.RouteKind.THROW, _RULE.table)
    rig.do(lambda: rig.kernel.apply([Add(home), Add(_RULE)]))
    assert diff(desired, rig.found()) == [Remove(_RULE), Remove(home)]

    rig.reconcile(inputs())
    assert diff(desired, rig.found()) == []


def test_removing_what_is_gone_is_success(rig: Rig) -> None:
    desired = rig.reconcile(inputs())
    (entry,) = (x for x in desired.fdb if x.remote == Prefix.parse("10.99.0.2"))
    neighbour = next(iter(desired.neighbours))
    address = next(x for x in desired.addresses if x.prefix == OVERLAY[0])
    gone: list[KernelObject] = [entry, neighbour, address, _RULE]
    gone += [x for x in desired.routes if x.destination == V4]
    removals = [Remove(what) for what in gone]

    assert rig.do(lambda: rig.kernel.apply(removals)) == []
    assert rig.do(lambda: rig.kernel.apply(removals)) == []


def test_a_changed_route_takes_the_place_of_the_old_one(rig: Rig) -> None:
    desired = rig.reconcile(inputs())
    (old,) = (r for r in desired.routes if r.key == (254, V4.halves()[1]))
    new = replace(old, mtu=1300)

    rig.do(lambda: rig.kernel.apply([Change(old, new)]))

    assert [r for r in rig.found().routes if r.key == old.key] == [new]


def test_elements_outlive_a_new_ruleset(rig: Rig) -> None:
    desired = rig.reconcile(inputs())

    hidden = replace(inputs(), options=replace(inputs().options, exposed=False))
    rig.reconcile(hidden)

    found = rig.found()
    assert found.ruleset != desired.ruleset
    assert found.sets == desired.sets


def test_updates_of_sets_are_all_or_nothing(rig: Rig) -> None:
    desired = rig.reconcile(inputs())
    good = frozenset({Prefix.parse("10.99.0.77")})
    update = UpdateSets(added={"peers4": good, "no_such_set": good})

    failed = rig.do(lambda: rig.kernel.apply([update]))

    assert [item.operation for item in failed] == [update]
    assert good.isdisjoint(desired.sets["peers4"])


def connection(source: str, destination: str, *, reply: tuple[str, str]) -> Connection:
    """A connection whose answers go from and to the addresses of `reply`."""
    return Connection(*(Prefix.parse(text) for text in (source, destination, *reply)))


OUTSIDE = connection("10.32.0.2", "192.0.2.1", reply=("192.0.2.1", "10.99.0.1"))
TO_POD = connection("10.32.0.1", "10.32.0.2", reply=("10.32.0.2", "10.32.0.1"))
TO_SERVICE = connection("10.99.0.7", "10.96.0.1", reply=("10.32.0.2", "10.99.0.7"))
BEHIND_US = connection("192.0.2.9", "10.99.0.1", reply=("10.99.0.1", "10.32.0.2"))
OUTSIDE_6 = connection("fd00:32::2", "2001:db8::1", reply=("2001:db8::1", "fd99::1"))
TO_SERVICE_6 = connection("fd99::7", "fd00:96::1", reply=("fd00:32::2", "fd99::7"))
# Their addresses look like those of others, as text or in part.
NEIGHBOURS = (
    connection("10.32.0.3", "192.0.2.1", reply=("192.0.2.1", "10.99.0.9")),
    connection("10.32.0.20", "32.0.2.10", reply=("32.0.2.10", "10.32.0.20")),
    connection("fd00:32::22", "2001:db8::1", reply=("2001:db8::1", "fd99::9")),
    # All of the address's bytes, but as a part of another.
    connection("fd00:a20:2::1", "2001:db8::2", reply=("2001:db8::2", "fd00:a20:2::1")),
)


@pytest.mark.parametrize(
    ("address", "gone"),
    [
        ("10.32.0.2", [OUTSIDE, TO_POD, TO_SERVICE, BEHIND_US]),
        ("fd00:32::2", [OUTSIDE_6, TO_SERVICE_6]),
    ],
)
def test_connections_of_an_address_go_wherever_it_stands_in_them(
    rig: Rig, address: str, gone: list[Connection]
) -> None:
    for each in (*gone, *NEIGHBOURS):
        rig.track(each)

    removed = rig.do(lambda: rig.kernel.remove_connections({Prefix.parse(address)}))

    assert removed == len(gone)
    assert rig.tracked() == set(NEIGHBOURS)


def test_connections_of_many_addresses_go_at_once(rig: Rig) -> None:
    """More than the kernel tells of in one datagram."""
    peer = Prefix.parse("192.0.2.1")
    addresses = {Prefix.parse(f"10.33.0.{number}") for number in range(256)}
    for address in addresses:
        rig.track(Connection(address, peer, peer, address))
    rig.track(OUTSIDE)

    removed = rig.do(lambda: rig.kernel.remove_connections(addresses))

    assert removed == 256
    assert rig.tracked() == {OUTSIDE}


def test_removing_connections_of_an_address_that_has_none_is_success(rig: Rig) -> None:
    rig.track(OUTSIDE)

    for _ in range(2):
        assert rig.do(lambda: rig.kernel.remove_connections({Prefix.parse("10.32.0.9")})) == 0

    assert rig.tracked() == {OUTSIDE}


def led(source: str, service: str, *, to: str, port: int, reply_to: str) -> Connection:
    """A pod's connection by way of a Service."""
    ends = map(Prefix.parse, (source, service, to, reply_to))
    return Connection(*ends, protocol=17, reply_source_port=port)


def test_connections_that_the_rules_forbid_go(rig: Rig) -> None:
    us, peer, outside, service = "10.99.0.1", "10.99.0.2", "192.0.2.7", "10.96.0.1"
    gone = {
        led("10.32.0.3", service, to="10.99.0.2", port=6783, reply_to=us),
        led("10.32.0.4", service, to="10.99.0.2", port=6784, reply_to=us),
        led("10.32.0.5", service, to="10.99.0.2", port=6785, reply_to="10.32.0.5"),
        led("fd00:32::3", "fd00:96::1", to="fd99::2", port=6784, reply_to="fd99::1"),
        led("10.32.0.6", outside, to=outside, port=6784, reply_to=us),
        led("10.32.0.12", peer, to=peer, port=6785, reply_to=us),
    }
    stay = {
        # Other ports.
        led("10.32.0.7", service, to="10.99.0.2", port=6782, reply_to=us),
        led("10.32.0.8", service, to="10.99.0.2", port=6786, reply_to=us),
        # To a pod; to the outside but no tunnel; without a translation.
        led("10.32.0.9", service, to="10.40.0.7", port=6784, reply_to=us),
        led("10.32.0.10", outside, to=outside, port=6785, reply_to=us),
        led("10.32.0.11", outside, to=outside, port=6784, reply_to="10.32.0.11"),
        # A node's own.
        led("10.99.0.9", peer, to=peer, port=6783, reply_to="10.99.0.9"),
    }
    for each in gone | stay:
        rig.track(each)

    universes = [Prefix.parse("10.32.0.0/12"), Prefix.parse("fd00:32::/48")]
    peers = [Prefix.parse(peer)]
    removed = rig.do(lambda: rig.kernel.remove_forbidden_connections(universes, peers))

    assert removed == len(gone)
    assert rig.tracked() == stay


def test_reset_leaves_nothing_of_ours(rig: Rig) -> None:
    rig.reconcile(inputs())
    rig.attach(rig.record())

    left = rig.do(rig.kernel.reset)

    assert left == []
    assert replace(rig.found(), sysctls=frozenset()) == KernelState()
