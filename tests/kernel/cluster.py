"""A cluster without services: nodes, an underlay and pods in namespaces, the router's planner and
kernel at work in each node."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace

from tests.kernel.kernel_contract import ring
from tests.kernel.namespaces import Netns, join, netns
from weave_model.attachment import AttachmentKey, ContainerId
from weave_model.peer import PeerName
from weave_model.prefix import Family, Prefix, format_address
from weave_model.ring import RingView
from weave_router.core import naming, plan, ports, sandbox, switches, tunnels
from weave_router.core.attachments import Attachment, Phase, Record
from weave_router.core.diff import Operation, diff
from weave_router.core.inputs import Inputs, Options, Path, PathKind, Peer
from weave_router.kernel import sysctl
from weave_router.kernel.api import PodLink
from weave_router.kernel.linux import LinuxKernel

UNIVERSE4 = Prefix.parse("10.32.0.0/12")
UNIVERSE6 = Prefix.parse("fd00:32::/32")


@dataclass(frozen=True)
class Pod:
    """A pod and its addresses."""

    netns: Netns
    record: Record

    @property
    def ip(self) -> str:
        """IPv4 address."""
        return _text(self.record.attachment.addresses[0])

    @property
    def ip6(self) -> str:
        """IPv6 address."""
        return _text(self.record.attachment.addresses[1])

    @property
    def mac(self) -> bytes:
        """Hardware address."""
        return self.record.attachment.hardware_address

    def ping(self, address: str, *, count: int = 2, options: Sequence[str] = ()) -> bool:
        """Do all of some pings come back?"""
        return self.netns.ping(address, count=count, options=options)


@dataclass
class Node:
    """A node: its place in the ring is its number."""

    number: int
    netns: Netns
    peer: Peer
    kernel: LinuxKernel
    inputs: Inputs
    pods: list[Pod] = field(default_factory=list)

    @property
    def name(self) -> PeerName:
        """Peer name."""
        return self.peer.name

    @property
    def underlay(self) -> str:
        """IPv4 underlay address."""
        return f"10.99.0.{self.number}"

    @property
    def overlay(self) -> str:
        """IPv4 overlay address."""
        assert self.inputs.overlay is not None
        return _text(self.inputs.overlay[0])

    @property
    def block(self) -> Prefix:
        """Its part of the IPv4 universe."""
        assert self.inputs.rings is not None
        blocks = self.inputs.rings[Family.IPV4].blocks
        return next(b.prefix for b in blocks if b.owner == self.name)

    def reconcile(self) -> list[Operation]:
        """One round of the router; returns what it changed. Nothing may be refused."""
        return self.netns.call(self._reconcile)

    def route(self, other: Node, path: Path) -> None:
        """Reaches another node by this path from now on."""
        self.inputs = replace(self.inputs, paths={**self.inputs.paths, other.name: path})
        self.reconcile()

    def add_peer(self, address: str) -> None:
        """From the next round on somebody with this underlay address is a peer."""
        other = Peer(PeerName(b"\x02\0\0\0\0\x99"), (Prefix.parse(address),))
        self.inputs = replace(self.inputs, peers=(*(self.inputs.peers or ()), other))

    def options(self, **changes: object) -> None:
        """Changes options."""
        options = replace(self.inputs.options, **changes)  # type: ignore[arg-type]
        self.inputs = replace(self.inputs, options=options)
        self.reconcile()

    def load_rules_only(self) -> Callable[[], int]:
        """Puts the state right; returns what ends the connections that should not be there."""
        found = self.kernel.found(switches.paths(self.inputs.options))
        assert self.kernel.apply(diff(plan.plan(self.inputs, found), found)) == []
        return lambda: self.netns.call(self._end_forbidden)

    def set_filters(self, rp_filter: int, bridge_nf: int) -> None:
        """Sets switches of the host for all devices there are, as its administrator may."""
        self.netns.call(lambda: _set_filters(rp_filter, bridge_nf))
        self.reconcile()

    def forget_rule(self, chain: str, words: str) -> None:
        """Removes the rules of a chain of ours that contain some words."""
        listing = self.netns.run("nft", "-a", "list", "chain", "inet", "weave", chain)
        handles = [line.split()[-1] for line in listing.splitlines() if words in line]
        assert handles, f"no rule with {words!r} in {listing}"
        for handle in handles:
            self.netns.run("nft", "delete", "rule", "inet", "weave", chain, "handle", handle)

    def foreign(self, rules: str) -> None:
        """Loads nftables rules of somebody else, such as kube-proxy's."""
        self.netns.run("nft", rules)

    def drop_foreign(self) -> None:
        """Removes all tables but ours."""
        for line in self.netns.run("nft", "list", "tables").splitlines():
            if line != "table inet weave":
                self.netns.run("nft", "delete", *line.split())

    def _reconcile(self) -> list[Operation]:
        found = self.kernel.found(switches.paths(self.inputs.options))
        operations = diff(plan.plan(self.inputs, found), found)
        assert self.kernel.apply(operations) == []
        self._end_forbidden()
        return operations

    def _end_forbidden(self) -> int:
        peers = [address for peer in self.inputs.peers or () for address in peer.underlay]
        return self.kernel.remove_forbidden_connections(self.inputs.options.universes, peers)


@dataclass
class Cluster:
    """Nodes on one underlay, with a host on it that is no node."""

    nodes: list[Node]
    switch: Netns
    outsider: Netns

    def reconcile(self) -> None:
        """Puts everything right again."""
        for node in self.nodes:
            node.inputs = replace(node.inputs, paths={})
            node.drop_foreign()
            node.reconcile()


@contextlib.contextmanager
def cluster(
    size: int, *, pods: int = 2, rp_filter: int = 0, bridge_nf: int = 1, underlay6: bool = False
) -> Iterator[Cluster]:
    """Makes a cluster; `size` is a power of two, node n has the n-th part of the universe."""
    with contextlib.ExitStack() as stack:
        switch = stack.enter_context(netns("switch"))
        switch.run("ip", "link", "add", "sw", "type", "bridge")
        switch.bring_up("sw")
        switch.run("ip", "addr", "add", "10.99.0.254/24", "dev", "sw")
        switch.set_sysctl("net/ipv4/ip_forward", "1")
        peers = [_peer(n, underlay6=underlay6) for n in range(1, size + 1)]
        names = [peer.name for peer in peers]
        rings = {u.family: ring(u, *names) for u in (UNIVERSE4, UNIVERSE6)}
        made = Cluster([], switch, _host(stack, switch, 200))
        for number, peer in enumerate(peers, 1):
            node = _node(stack, switch, number, peer, peers, rings)
            # Many tests want an ICMP error, more than the kernel sends to one host in a second.
            node.netns.set_sysctl("net/ipv4/icmp_ratelimit", "0")
            node.set_filters(rp_filter, bridge_nf)
            for index in range(pods):
                node.pods.append(_pod(stack, node, index))
            made.nodes.append(node)
        yield made


def _peer(number: int, *, underlay6: bool) -> Peer:
    name = PeerName(b"\x02\0\0\0\0" + bytes([number]))
    address = f"fd99::{number}" if underlay6 else f"10.99.0.{number}"
    return Peer(name, (Prefix.parse(address),))


def _host(stack: contextlib.ExitStack, switch: Netns, number: int) -> Netns:
    host = stack.enter_context(netns(f"h{number}"))
    join(host, switch, "eth0", f"p{number}")
    switch.run("ip", "link", "set", f"p{number}", "master", "sw")
    host.run("ip", "addr", "add", f"10.99.0.{number}/24", "dev", "eth0")
    host.run("ip", "addr", "add", f"fd99::{number}/64", "dev", "eth0", "nodad")
    host.run("ip", "route", "add", "default", "via", "10.99.0.254")
    return host


def _set_filters(rp_filter: int, bridge_nf: int) -> None:
    conf = "net/ipv4/conf"
    for device in (sysctl.PROC_SYS / conf).iterdir():
        sysctl.write(f"{conf}/{device.name}/rp_filter", str(rp_filter))
    for family in ("ip", "ip6"):
        sysctl.write(f"net/bridge/bridge-nf-call-{family}tables", str(bridge_nf))


def _node(
    stack: contextlib.ExitStack,
    switch: Netns,
    number: int,
    peer: Peer,
    peers: Sequence[Peer],
    rings: dict[Family, RingView],
) -> Node:
    host = _host(stack, switch, number)
    kernel = host.call(LinuxKernel)
    stack.callback(kernel.close)
    overlay = tuple(
        Prefix.host(family, block.prefix.address + 1)
        for family, view in rings.items()
        for block in view.blocks
        if block.owner == peer.name
    )
    mtu = tunnels.tunnel_mtu(peer.underlay[0].family, 1500)
    options = Options(peer.name, peer.underlay, mtu, (UNIVERSE4, UNIVERSE6))
    return Node(number, host, peer, kernel, Inputs(options, overlay, rings, tuple(peers)))


def _pod(stack: contextlib.ExitStack, node: Node, index: int) -> Pod:
    space = stack.enter_context(netns(f"n{node.number}p{index}"))
    key = AttachmentKey("weave", ContainerId(f"n{node.number}p{index}"), "eth0")
    assert node.inputs.overlay is not None
    addresses = tuple(Prefix.host(a.family, a.address + 1 + index) for a in node.inputs.overlay)
    attachment = Attachment(key, addresses, netns_path=space.path)
    mtu = node.inputs.options.mtu
    record = Record(attachment, naming.pod_link(key), Phase.PREPARED, mtu)
    port = ports.port(record)
    link = PodLink(
        ports.link(port),
        tuple(ports.neighbours(port)),
        sandbox.sandbox(attachment, mtu, sandbox.default_routes(attachment)),
    )
    routes = node.netns.call(lambda: node.kernel.attach(link, space.path))
    record = replace(record, phase=Phase.ACTIVE, routes=routes)
    node.inputs = replace(node.inputs, ports=(*node.inputs.ports, ports.port(record)))
    node.reconcile()
    return Pod(space, record)


def relay(via: Node) -> Path:
    """The path by another node."""
    return Path(PathKind.RELAY, via=via.name)


def _text(prefix: Prefix) -> str:
    return format_address(prefix.family, prefix.address)
