"""Traps of the data plane. Each test takes away what guards against one and shows the fault, then
lets the router put it back and shows the fault gone.

All run under every setting of `rp_filter` and of `bridge-nf-call-iptables`, since nodes come with
any. Names: a, b, c are nodes; every node has the pods p0 and p1.
"""

from __future__ import annotations

import contextlib
import json
import socket
from collections.abc import Iterator
from dataclasses import dataclass

import pytest

from tests.kernel import packets
from tests.kernel.cluster import Cluster, Node, Pod, cluster, relay
from tests.kernel.forgeries import PORT, arrives_by_tunnel, dnat
from tests.kernel.namespaces import Netns, join, netns
from weave_model.prefix import Prefix
from weave_router.core import naming, plan
from weave_router.core.diff import Add
from weave_router.core.inputs import Path, PathKind
from weave_router.core.state import FdbEntry

pytestmark = pytest.mark.kernel

SERVICE = "10.96.0.10"
GATEWAY = "169.254.1.1"
NODE_PORT = 30080


@dataclass(frozen=True)
class Filters:
    """Switches of a node that change what the kernel lets pass."""

    rp_filter: int
    bridge_nf: int

    def __str__(self) -> str:
        return f"rp_filter{self.rp_filter}-nf{self.bridge_nf}"


ALL_FILTERS = [Filters(rp_filter, nf) for rp_filter in (0, 1, 2) for nf in (0, 1)]


@pytest.fixture(scope="module")
def shared() -> Iterator[Cluster]:
    """One cluster for all tests and settings: to make it takes longer than to switch it over."""
    with cluster(4) as made:
        yield made


@pytest.fixture(scope="module", params=ALL_FILTERS, ids=str)
def filters(request: pytest.FixtureRequest, shared: Cluster) -> Filters:
    """The switches of this run."""
    chosen: Filters = request.param
    for node in shared.nodes:
        node.set_filters(chosen.rp_filter, chosen.bridge_nf)
    return chosen


@pytest.fixture
def whole(shared: Cluster, filters: Filters) -> Iterator[Cluster]:
    """The cluster as it should be, with these switches."""
    yield shared
    shared.reconcile()


@pytest.fixture
def a(whole: Cluster) -> Node:
    return whole.nodes[0]


@pytest.fixture
def b(whole: Cluster) -> Node:
    return whole.nodes[1]


@pytest.fixture
def c(whole: Cluster) -> Node:
    return whole.nodes[2]


def assert_all_talk(*pods: Pod) -> None:
    """ICMP both families and TCP between all ordered pairs."""
    for source in pods:
        for destination in pods:
            if source is not destination:
                assert source.ping(destination.ip, count=1)
                assert source.ping(destination.ip6, count=1)
                assert packets.can_talk_tcp(source.netns, destination.netns, destination.ip)


def test_pods_of_all_nodes_talk(a: Node, b: Node) -> None:
    assert_all_talk(*a.pods, b.pods[0])


# Row: Service -> pod on the same node, hairpin


def test_a_service_reaches_a_pod_of_the_same_node(a: Node, filters: Filters) -> None:
    p0, p1 = a.pods
    if filters.bridge_nf:
        assert not _isolated_bridge_ports_reach_a_service(filters)
    a.foreign(dnat(p1.ip, "prerouting", f"ip daddr {SERVICE}"))

    assert p0.ping(SERVICE)


def test_a_pod_reaches_itself_by_its_service(a: Node) -> None:
    p0 = a.pods[0]
    masquerade = f"ip saddr {p0.ip} ip daddr {p0.ip} masquerade"
    a.foreign(dnat(p0.ip, "prerouting", f"ip daddr {SERVICE}", masquerade=masquerade))

    assert p0.ping(SERVICE)


def _isolated_bridge_ports_reach_a_service(filters: Filters) -> bool:
    """The layout we did not choose: pods as isolated ports of one bridge."""
    with netns("bridged") as node, netns("left") as left, netns("right") as right:
        node.run("ip", "link", "add", "br0", "type", "bridge")
        node.run("ip", "link", "set", "br0", "up")
        node.run("ip", "addr", "add", "10.1.0.1/24", "dev", "br0")
        for path in ("net/ipv4/ip_forward", "net/bridge/bridge-nf-call-iptables"):
            node.set_sysctl(path, "1")
        node.set_sysctl("net/ipv4/conf/all/rp_filter", str(filters.rp_filter))
        for pod, number in ((left, 2), (right, 3)):
            join(node, pod, f"port{number}", "eth0")
            node.run("ip", "link", "set", f"port{number}", "master", "br0")
            node.run("bridge", "link", "set", "dev", f"port{number}", "isolated", "on")
            pod.run("ip", "addr", "add", f"10.1.0.{number}/24", "dev", "eth0")
            pod.run("ip", "route", "add", "default", "via", "10.1.0.1")
        node.run("nft", dnat("10.1.0.3", "prerouting", f"ip daddr {SERVICE}"))
        return left.ping(SERVICE)


# Row: redirects within a node


def test_redirects_do_not_leave_the_node(a: Node, b: Node) -> None:
    pod = a.pods[0]

    def redirects_arrive() -> bool:
        message = _redirect(pod, b.pods[0])
        with packets.packet_socket(pod.netns, "eth0") as wire:
            with contextlib.suppress(PermissionError):
                packets.send_icmp(a.netns, GATEWAY, pod.ip, message)
            return _sees(wire, message)

    a.forget_rule("redirects", "icmp type")
    assert redirects_arrive()

    a.reconcile()
    assert not redirects_arrive()


def test_pods_do_not_take_redirects(a: Node, b: Node) -> None:
    pod, far = a.pods[0], b.pods[0]
    neighbour = ["10.32.0.99", "lladdr", "0e:00:00:00:00:99", "dev", "eth0", "nud", "permanent"]
    pod.netns.run("ip", "neigh", "replace", *neighbour)
    a.forget_rule("redirects", "icmp type")

    def takes_redirects() -> bool:
        assert pod.ping(far.ip, count=1)
        packets.send_icmp(a.netns, GATEWAY, pod.ip, _redirect(pod, far))
        return "10.32.0.99" in pod.netns.run("ip", "route", "get", far.ip)

    assert not takes_redirects()

    # A namespace begins with the host's switches; one that forwards takes redirects only if both
    # say so.
    scopes = [f"net/ipv4/conf/{scope}/accept_redirects" for scope in ("all", "eth0")]
    for switch in scopes:
        pod.netns.set_sysctl(switch, "1")
    assert takes_redirects()
    for switch in scopes:
        pod.netns.set_sysctl(switch, "0")
    pod.netns.run("ip", "route", "flush", "cache")


def _redirect(pod: Pod, far: Pod) -> bytes:
    """A redirect for an echo reply of the pod: the kernel asks no socket whether it sent one."""
    reply = packets.ipv4_packet(pod.ip, far.ip, 1, b"\0\0\xff\xff\0\0\0\0")
    return packets.redirect("10.32.0.99", reply)


# Row: gateway fe80::1, DAD, NDP


def test_the_gateway_is_a_permanent_neighbour(a: Node, b: Node) -> None:
    pod = a.pods[0]
    entry = ("fe80::1", "lladdr", naming.GATEWAY_MAC.hex(":"), "dev", "eth0", "nud", "permanent")
    pod.netns.run("ip", "neigh", "del", "fe80::1", "dev", "eth0")
    assert not pod.ping(b.pods[0].ip6, count=1)

    pod.netns.run("ip", "neigh", "replace", *entry)
    assert pod.ping(b.pods[0].ip6, count=1)


def test_the_pod_is_a_permanent_neighbour_of_the_host(a: Node, b: Node) -> None:
    pod = a.pods[0]
    # A pod need not answer neighbour solicitations, whose senders the guard drops anyway.
    a.netns.run("ip", "neigh", "del", pod.ip6, "dev", pod.record.link)
    assert not b.pods[0].ping(pod.ip6, count=1)

    a.reconcile()
    assert b.pods[0].ping(pod.ip6, count=1)


def test_addresses_are_usable_at_once(a: Node) -> None:
    for space, device in ((a.pods[0].netns, "eth0"), (a.netns, "weave"), (a.netns, "vxlan-6784")):
        listed = space.run("ip", "-6", "addr", "show", "dev", device, "scope", "global")
        assert "nodad" in listed
        assert "tentative" not in listed

    a.netns.run("ip", "addr", "add", "fd00:99::1/128", "dev", "weave")
    assert "tentative" in a.netns.run("ip", "-6", "addr", "show", "dev", "weave")


# Rows: host -> remote pod, host -> ClusterIP -> remote pod


def test_the_host_reaches_remote_pods_from_its_overlay_address(a: Node, b: Node) -> None:
    pod = b.pods[0]
    a.forget_rule("nat", "oifname")
    block = str(b.block)
    a.netns.run("ip", "addr", "del", f"{a.overlay}/32", "dev", "vxlan-6784")
    gateway = ["via", b.underlay, "dev", "vxlan-6784", "onlink", "proto", "84"]
    a.netns.run("ip", "route", "replace", block, *gateway, "src", a.underlay)
    assert not a.netns.ping(pod.ip, count=1)

    a.reconcile()
    assert a.netns.ping(pod.ip)
    assert f"src {a.overlay}" in a.netns.run("ip", "route", "get", pod.ip)


def test_the_host_reaches_remote_pods_by_their_service(a: Node, b: Node) -> None:
    a.foreign(dnat(b.pods[0].ip, "output", f"ip daddr {SERVICE}"))
    a.forget_rule("nat", "oifname")
    assert not a.netns.ping(SERVICE, count=1)

    a.reconcile()
    assert a.netns.ping(SERVICE)


# Row: NodePort -> remote pod, NodePort Local -> own pod


def test_a_node_port_reaches_a_remote_pod(whole: Cluster, a: Node, b: Node) -> None:
    match, masquerade = f"udp dport {NODE_PORT}", f"udp dport {PORT} masquerade"
    rules = dnat(f"{b.pods[0].ip}:{PORT}", "prerouting", match, masquerade=masquerade)
    a.foreign(rules)
    a.netns.run("ip", "addr", "del", f"{a.overlay}/32", "dev", "vxlan-6784")
    assert not _node_port_answers(whole.outsider, a, b.pods[0])

    a.reconcile()
    assert _node_port_answers(whole.outsider, a, b.pods[0])


def _node_port_answers(client: Netns, node: Node, pod: Pod) -> bool:
    with packets.udp_socket(client) as near, packets.udp_socket(pod.netns, PORT) as far:
        near.sendto(b"hello", (node.underlay, NODE_PORT))
        got = packets.received(far)
        if got is None:
            return False
        far.sendto(b"world", got[1])
        return packets.received(near) is not None


def test_a_local_node_port_keeps_the_client_address(whole: Cluster, a: Node) -> None:
    pod = a.pods[0]
    a.foreign(dnat(f"{pod.ip}:{PORT}", "prerouting", f"udp dport {NODE_PORT}"))

    def seen() -> str:
        with packets.udp_socket(pod.netns, PORT) as listener:
            packets.send_datagram(whole.outsider, a.underlay, NODE_PORT, b"hello")
            got = packets.received(listener)
            assert got is not None
            return got[1][0]

    a.options(no_masq_local=False)
    assert seen() != "10.99.0.200"

    a.options(no_masq_local=True)
    assert seen() == "10.99.0.200"


# Row: removing an interface's last IPv4 address


def test_routes_outlive_the_removal_of_the_overlay_address(a: Node, b: Node) -> None:
    for device in ("weave", "vxlan-6784"):
        a.netns.run("ip", "addr", "del", "169.254.1.1/32", "dev", device)
    a.netns.run("ip", "addr", "del", f"{a.overlay}/32", "dev", "vxlan-6784")
    assert str(b.block) not in a.netns.run("ip", "route")

    a.reconcile()
    a.netns.run("ip", "addr", "del", f"{a.overlay}/32", "dev", "vxlan-6784")
    assert str(b.block) in a.netns.run("ip", "route")
    assert a.pods[0].ping(b.pods[0].ip)


# Row: pod scans unallocated addresses of our range


def test_unallocated_addresses_fill_no_neighbour_table(a: Node) -> None:
    # Not the pod of the next test: the kernel sends one host but five such errors in a row.
    pod = a.pods[1]
    targets = [f"10.32.7.{number}" for number in range(1, 21)]

    def entries_after_scan() -> int:
        for target in targets:
            packets.send_datagram(pod.netns, target, 9, b"scan")
        return sum(line.startswith("10.32.7.") for line in _neighbours(a))

    a.netns.run("ip", "route", "add", "10.32.7.0/24", "dev", "weave")
    assert entries_after_scan() >= len(targets)

    a.netns.run("ip", "route", "del", "10.32.7.0/24")
    a.netns.run("ip", "neigh", "flush", "dev", "weave")
    assert entries_after_scan() == 0


def test_unallocated_addresses_are_unreachable_at_once(whole: Cluster, a: Node) -> None:
    pod = a.pods[0]
    a.netns.run("ip", "route", "del", "unreachable", "10.32.0.0/12")
    with packets.packet_socket(whole.switch, "p1") as wire:
        packets.send_datagram(pod.netns, "10.32.7.1", 9, b"stray")
        assert _sees(wire, b"stray")

    a.reconcile()
    with packets.packet_socket(whole.switch, "p1") as wire:
        output = pod.netns.run("ping", "-n", "-c", "1", "-W", "1", "10.32.7.1", check=False)
        assert "Destination Host Unreachable" in output
        packets.send_datagram(pod.netns, "10.32.7.1", 9, b"stray")
        assert not _sees(wire, b"stray")


def _neighbours(node: Node) -> list[str]:
    return node.netns.run("ip", "neigh", "show", "dev", "weave").splitlines()


# Rows: relay, asymmetric relay, loops


def test_a_relay_forwards(a: Node, b: Node, c: Node) -> None:
    a.route(c, relay(b))
    c.route(a, relay(b))
    near, far = a.pods[0], c.pods[0]
    b.netns.set_sysctl("net/ipv4/ip_forward", "0")
    assert not near.ping(far.ip, count=1)

    b.reconcile()
    assert "ttl=61" in near.netns.run("ping", "-n", "-c", "1", "-W", "1", far.ip)
    assert near.ping(far.ip6)
    assert packets.can_talk_tcp(near.netns, far.netns, far.ip)


def test_tcp_survives_an_asymmetric_relay(a: Node, b: Node, c: Node) -> None:
    a.route(c, relay(b))
    b.foreign(
        "table inet kube { chain forward { type filter hook forward priority 0; "
        "ct state invalid drop; } ; }"
    )
    near, far = a.pods[0], c.pods[0]
    b.forget_rule("transit", "notrack")
    assert near.ping(far.ip)
    assert not packets.can_talk_tcp(near.netns, far.netns, far.ip)

    b.reconcile()
    assert packets.can_talk_tcp(near.netns, far.netns, far.ip)
    assert packets.can_talk_tcp(near.netns, far.netns, far.ip6)


def test_a_routing_loop_ends_after_one_packet(whole: Cluster, a: Node, b: Node, c: Node) -> None:
    d = whole.nodes[3]
    d.route(c, relay(a))
    a.route(c, relay(b))
    b.route(c, relay(a))

    a.foreign(
        "table inet count { counter passes { } ; chain in { type filter hook prerouting "
        'priority -450; iifname "vxlan-6784" udp dport 9 counter name passes; } ; }'
    )

    def looped() -> int:
        before = _passes(a)
        packets.send_datagram(d.pods[0].netns, c.pods[0].ip, 9, b"round and round")
        return _passes(a) - before

    for node in (a, b):
        node.forget_rule("transit", "reject")
    assert looped() > 10

    for node in (a, b):
        node.reconcile()
    assert looped() == 1
    for far in (c.pods[0].ip, c.pods[0].ip6):
        output = d.pods[0].netns.run("ping", "-n", "-c", "1", "-W", "1", far, check=False)
        assert "unreachable" in output.lower()


def _passes(node: Node) -> int:
    listing = json.loads(node.netns.run("nft", "-j", "list", "counters", "table", "inet", "count"))
    (count,) = [entry["counter"]["packets"] for entry in listing["nftables"] if "counter" in entry]
    assert isinstance(count, int)
    return count


# Row: route MTU to a peer


def test_a_lower_route_mtu_is_told_from_the_overlay_address(a: Node, b: Node) -> None:
    pod = a.pods[0]
    a.route(b, Path(PathKind.VXLAN, mtu=1300))
    ping = ["ping", "-n", "-c", "1", "-W", "1", "-M", "do", "-s", "1350", b.pods[0].ip]
    told = f"From {a.overlay} icmp_seq=1 Frag needed and DF set (mtu = 1300)"

    route = ["dev", pod.record.link, "proto", "84", "scope", "link"]
    a.netns.run("ip", "route", "replace", f"{pod.ip}/32", *route)
    assert told not in pod.netns.run(*ping, check=False)

    a.reconcile()
    pod.netns.run("ip", "route", "flush", "cache")
    assert told in pod.netns.run(*ping, check=False)
    assert "mtu 1300" in pod.netns.run("ip", "route", "get", b.pods[0].ip)
    pod.netns.run("ip", "route", "flush", "cache")


# Row: v4 VXLAN device, v6 peer


def test_an_ipv6_underlay_has_a_device_of_its_own(a: Node, filters: Filters) -> None:
    entry = FdbEntry("vxlan-6784", b"\x02\0\0\0\0\x77", Prefix.parse("fd99::2"))
    failed = a.netns.call(lambda: a.kernel.apply([Add(entry)]))
    assert "Address family not supported" in failed[0].reason

    rp_filter, bridge_nf = filters.rp_filter, filters.bridge_nf
    with cluster(2, pods=1, rp_filter=rp_filter, bridge_nf=bridge_nf, underlay6=True) as six:
        left, right = six.nodes
        assert_all_talk(left.pods[0], right.pods[0])
        assert left.netns.ping(right.pods[0].ip)


# Row: spoofed sources, unicast in a broadcast MAC


@pytest.mark.parametrize("lie", ["address", "hardware address"])
def test_a_pod_cannot_lie_about_itself(a: Node, b: Node, filters: Filters, lie: str) -> None:
    liar, neighbour, target = a.pods[0], a.pods[1], b.pods[0]
    source = neighbour.ip if lie == "address" else liar.ip
    mac = b"\x02\0\0\0\0\x66" if lie == "hardware address" else liar.mac
    packet = packets.udp_packet(source, target.ip, PORT, b"lie")

    def believed() -> bool:
        with packets.udp_socket(target.netns, PORT) as listener:
            data = packets.frame(mac, naming.GATEWAY_MAC, packet)
            packets.send_frame(liar.netns, "eth0", data)
            return packets.received(listener) is not None

    a.forget_rule("guard", "goto from_pod")
    # Reverse path filtering would find a stolen address by itself.
    assert believed() or (lie == "address" and filters.rp_filter)

    a.reconcile()
    assert not believed()


def test_unicast_in_a_broadcast_frame_is_not_delivered(a: Node) -> None:
    source, target = a.pods
    packet = packets.udp_packet(source.ip, target.ip, PORT, b"to all")
    data = packets.frame(source.mac, b"\xff" * 6, packet)
    assert _bridge_delivers_broadcast_unicast()

    with packets.udp_socket(target.netns, PORT) as listener:
        packets.send_frame(source.netns, "eth0", data)
        assert packets.received(listener) is None


def test_a_stolen_hardware_address_diverts_nothing(a: Node) -> None:
    thief, victim = a.pods
    packet = packets.udp_packet(thief.ip, a.overlay, PORT, b"mine")
    assert _bridge_learns_stolen_address()

    packets.send_frame(thief.netns, "eth0", packets.frame(victim.mac, naming.GATEWAY_MAC, packet))
    assert a.netns.ping(victim.ip)


def _bridge_delivers_broadcast_unicast() -> bool:
    with _bridged() as (_, left, right), packets.udp_socket(right, PORT) as listener:
        packet = packets.udp_packet("10.1.0.2", "10.1.0.3", PORT, b"to all")
        packets.send_frame(left, "eth0", packets.frame(b"\x02\0\0\0\0\x02", b"\xff" * 6, packet))
        return packets.received(listener) is not None


def _bridge_learns_stolen_address() -> bool:
    with _bridged() as (node, left, right):
        assert node.ping("10.1.0.3", count=1)
        (link,) = right.ip_json("link", "show", "eth0")
        stolen = bytes.fromhex(link["address"].replace(":", ""))
        packet = packets.udp_packet("10.1.0.2", "10.1.0.1", PORT, b"mine")
        packets.send_frame(left, "eth0", packets.frame(stolen, b"\xff" * 6, packet))
        with packets.packet_socket(right, "eth0") as listener:
            packets.send_datagram(node, "10.1.0.3", PORT, b"for the victim")
            return not _sees(listener, b"for the victim")


@contextlib.contextmanager
def _bridged() -> Iterator[tuple[Netns, Netns, Netns]]:
    """The layout we did not choose: pods as ports of one learning bridge."""
    with netns("bridged") as node, netns("left") as left, netns("right") as right:
        node.run("ip", "link", "add", "br0", "type", "bridge")
        node.run("ip", "link", "set", "br0", "up")
        node.run("ip", "addr", "add", "10.1.0.1/24", "dev", "br0")
        node.set_sysctl("net/ipv4/ip_forward", "1")
        for pod, number in ((left, 2), (right, 3)):
            join(node, pod, f"port{number}", "eth0")
            node.run("ip", "link", "set", f"port{number}", "master", "br0")
            pod.run("ip", "addr", "add", f"10.1.0.{number}/24", "dev", "eth0")
            pod.run("ip", "route", "add", "default", "via", "10.1.0.1")
        yield node, left, right


# Row: somebody else sends VXLAN


def test_tunnel_packets_are_taken_from_peers_only(whole: Cluster, a: Node, b: Node) -> None:
    def decapsulated() -> bool:
        return arrives_by_tunnel(a, whole.outsider, str(b.pods[0].ip))

    a.forget_rule("mesh_in", "udp dport 6784 drop")
    assert decapsulated()

    a.reconcile()
    assert not decapsulated()


def test_pods_cannot_send_into_the_tunnel_of_another_node(a: Node, b: Node) -> None:
    """Masqueraded by its node, a pod's packet comes from a valid peer."""

    def decapsulated() -> bool:
        return arrives_by_tunnel(b, a.pods[0].netns, a.pods[1].ip)

    a.forget_rule("new_out", "daddr @peers4 goto mesh_ports")
    a.forget_rule("new_out", "udp dport 6784 drop")
    assert decapsulated()

    a.reconcile()
    assert not decapsulated()


def test_pods_cannot_send_into_the_tunnel_of_their_own_node(a: Node, b: Node) -> None:
    def decapsulated() -> bool:
        return arrives_by_tunnel(a, a.pods[0].netns, b.pods[0].ip)

    a.forget_rule("mesh_in", "goto mesh_ports")
    a.forget_rule("mesh_in", "udp dport 6784 drop")
    assert decapsulated()

    a.reconcile()
    assert not decapsulated()


@pytest.mark.parametrize("port", [6783, 6784, 6785])
def test_pods_reach_no_peer_port_even_by_a_service(a: Node, b: Node, port: int) -> None:
    """The guard looks after DNAT, so a Service is no way around it."""
    a.foreign(dnat(f"{b.underlay}:{port}", "prerouting", f"udp dport {NODE_PORT}"))

    def arrives() -> bool:
        with packets.packet_socket(b.netns, "eth0") as wire:
            packets.send_datagram(a.pods[0].netns, b.underlay, NODE_PORT, b"hidden words")
            return _sees(wire, b"hidden words")

    for words in ("goto mesh_ports", "udp dport 6784 drop"):
        a.forget_rule("new_out", words)
    assert arrives()

    a.reconcile()
    assert not arrives()


@pytest.mark.parametrize("claimed", ["own pod", "outside"])
def test_only_remote_blocks_come_out_of_the_tunnel(
    a: Node, b: Node, filters: Filters, claimed: str
) -> None:
    source = a.pods[1].ip if claimed == "own pod" else "192.0.2.1"

    def believed() -> bool:
        return arrives_by_tunnel(a, b.netns, source)

    a.forget_rule("from_tunnel", "saddr != @remote")
    # Strict filtering finds it by itself; loose filtering knows no route to the outside ones here.
    assert believed() or filters.rp_filter == 1

    a.reconcile()
    assert not believed()


# Peers' packets around the overlay's: each would be an entry of its own in the table of connections


def test_packets_around_the_overlay_are_not_tracked(a: Node, b: Node) -> None:
    near, far = a.pods[0], b.pods[0]
    a.foreign(
        "table inet count { counter passes { } ; "
        "chain in { type filter hook prerouting priority -100; "
        "udp dport 6784 ct state != untracked counter name passes; } ; "
        "chain out { type filter hook output priority 0; "
        "udp dport 6784 ct state != untracked counter name passes; } ; }"
    )

    def tracked() -> int:
        before = _passes(a)
        assert near.ping(far.ip, count=1)
        return _passes(a) - before

    for chain in ("guard", "guard_out"):
        a.forget_rule(chain, "notrack")
        assert tracked() == 1
        a.reconcile()
    assert tracked() == 0


def test_a_service_may_have_the_port_of_the_tunnels(a: Node) -> None:
    """Only what goes to a peer itself is not tracked, and so not translated."""
    pod = a.pods[0]
    a.foreign(dnat(f"{pod.ip}:{PORT}", "output", f"ip daddr {SERVICE} udp dport 6784"))

    with packets.udp_socket(pod.netns, PORT) as listener:
        packets.send_datagram(a.netns, SERVICE, 6784, b"hello")
        assert packets.received(listener) is not None


def _sees(wire: socket.socket, words: bytes) -> bool:
    """Does a packet with these words pass before nothing more comes?"""
    while (got := packets.received(wire)) is not None:
        if words in got[0]:
            return True
    return False


# Rows: the bridge


def test_the_bridge_keeps_its_hardware_address(a: Node) -> None:
    a.netns.run("ip", "link", "add", "plain", "type", "bridge")
    for bridge in ("plain", "weave"):
        port = f"port-{bridge}"
        a.netns.run("ip", "link", "add", port, "address", "02:00:00:00:00:01", "type", "veth")
        a.netns.run("ip", "link", "set", port, "master", bridge)

    def hardware_address(bridge: str) -> str:
        (link,) = a.netns.ip_json("link", "show", bridge)
        return str(link["address"])

    assert hardware_address("plain") == "02:00:00:00:00:01"
    assert hardware_address("weave") == naming.GATEWAY_MAC.hex(":")
    for device in ("plain", "port-plain", "port-weave"):
        a.netns.run("ip", "link", "del", device)


def test_the_bridge_answers_without_a_port(a: Node) -> None:
    (link,) = a.netns.ip_json("link", "show", "weave")
    overlay6 = str(a.inputs.overlay[1]).split("/")[0] if a.inputs.overlay else ""

    assert link["operstate"] == "DOWN"
    assert a.pods[0].ping(a.overlay)
    assert a.pods[0].ping(overlay6)


# Masquerade towards the outside


def test_pods_reach_the_outside_from_the_node_address(whole: Cluster, a: Node) -> None:
    pod = a.pods[0]
    a.forget_rule("nat", "saddr @local4")
    whole.outsider.run("ip", "route", "del", "default")
    assert not pod.ping("10.99.0.200", count=1)

    a.reconcile()
    assert pod.ping("10.99.0.200")
    whole.outsider.run("ip", "route", "add", "default", "via", "10.99.0.254")


# Row: foreign forward chain with policy drop


def test_a_forward_policy_of_iptables_lets_pods_pass(a: Node, b: Node) -> None:
    """As Docker sets it; iptables still reads its chain with our rule in it."""
    a.netns.run("iptables-nft", "-P", "FORWARD", "DROP")
    assert not a.pods[0].ping(b.pods[0].ip, count=1)

    a.reconcile()
    assert a.pods[0].ping(b.pods[0].ip)
    rules = a.netns.run("iptables-nft", "-S", "FORWARD")
    assert "-m mark --mark 0x100000/0x100000" in rules


def test_a_forward_policy_of_the_old_iptables_is_named(a: Node, b: Node) -> None:
    def named() -> list[str]:
        return plan.impassable(a.netns.call(lambda: a.kernel.found(())))

    a.netns.run("iptables-legacy", "-A", "FORWARD", "-s", "192.0.2.1", "-j", "DROP")
    assert named() == []

    a.netns.run("iptables-legacy", "-P", "FORWARD", "DROP")
    a.reconcile()
    assert named() == ["iptables-legacy filter FORWARD"]
    assert not a.pods[0].ping(b.pods[0].ip, count=1)

    mark = ["-m", "mark", "--mark", "0x100000/0x100000", "-j", "ACCEPT"]
    a.netns.run("iptables-legacy", "-I", "FORWARD", *mark)
    a.reconcile()
    assert a.pods[0].ping(b.pods[0].ip)
    assert named() == []
    a.netns.run("iptables-legacy", "-F")
    a.netns.run("iptables-legacy", "-P", "FORWARD", "ACCEPT")


@pytest.mark.parametrize("family", ["ip", "inet"])
def test_a_forward_chain_that_drops_lets_pods_pass(a: Node, b: Node, family: str) -> None:
    a.foreign(
        f"table {family} docker {{ chain FORWARD {{ type filter hook forward priority 0; "
        "policy drop; ct state established accept; } ; }"
    )
    assert not a.pods[0].ping(a.pods[1].ip, count=1)

    a.reconcile()
    assert_all_talk(*a.pods, b.pods[0])
    assert a.pods[0].ping("10.99.0.200")

    a.foreign(f"add chain {family} docker FORWARD {{ policy accept; }}")
    a.reconcile()
    assert "weave" not in a.netns.run("nft", "list", "table", family, "docker")


def test_the_mark_for_foreign_chains_does_not_travel_on(a: Node, b: Node) -> None:
    a.foreign(
        "table ip docker { chain FORWARD { type filter hook forward priority 0; policy drop; } ; "
        "chain seen { type filter hook postrouting priority 200; meta mark != 0 counter; } ; }"
    )
    a.reconcile()
    assert a.pods[0].ping(b.pods[0].ip)

    assert "counter packets 0" in a.netns.run("nft", "list", "chain", "ip", "docker", "seen")


def test_a_chain_before_our_mark_is_named(a: Node) -> None:
    a.foreign(
        "table ip early { chain FORWARD { type filter hook forward priority -150; "
        "policy drop; } ; }"
    )
    a.reconcile()

    found = a.netns.call(lambda: a.kernel.found(()))
    assert plan.impassable(found) == ["ip early FORWARD"]
