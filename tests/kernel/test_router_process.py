"""The router as a process: privileges, attach, crash, reset."""

from __future__ import annotations

import asyncio
import contextlib
import shutil
import tempfile
import time
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import grpc
import pytest

from tests.kernel.namespaces import Netns, join, netns
from tests.kernel.router_process import RouterProcess
from tests.kernel.stand_ins import Facts, serving
from tests.kernel.tracking import Tracking
from weave.router.v1 import router_pb2 as pb
from weave.types.v1 import types_pb2
from weave_model.attachment import NODE_CONTAINER_ID
from weave_model.peer import PeerName
from weave_model.prefix import Prefix
from weave_model.ring import OwnedBlock, RingView
from weave_router import codec
from weave_router.core import naming
from weave_router.core.connections import Connection
from weave_router.core.inputs import Peer

if TYPE_CHECKING:
    from weave.router.v1.router_pb2_grpc import RouterAsyncStub

pytestmark = pytest.mark.kernel

SELF = PeerName.parse("02:00:00:00:00:01")
OTHER = PeerName.parse("02:00:00:00:00:02")
UNIVERSE = Prefix.parse("10.32.0.0/12")


@pytest.fixture
def node() -> Iterator[Netns]:
    with netns("node") as made, netns("other") as other:
        join(made, other, "eth0", "eth0")
        made.run("ip", "addr", "add", "10.99.0.1/24", "dev", "eth0")
        other.run("ip", "addr", "add", "10.99.0.2/24", "dev", "eth0")
        yield made


@pytest.fixture
def pod() -> Iterator[Netns]:
    with netns("pod") as made:
        yield made


@pytest.fixture
def root() -> Iterator[Path]:
    # Sockets' paths are short, and the router's uid must reach them.
    path = Path(tempfile.mkdtemp(prefix="rk-"))
    yield path
    shutil.rmtree(path)


@pytest.fixture
def facts() -> Facts:
    lower, upper = UNIVERSE.halves()
    return Facts(
        name=SELF,
        peers=[
            Peer(SELF, (Prefix.parse("10.99.0.1"),)),
            Peer(OTHER, (Prefix.parse("10.99.0.2"),)),
        ],
        rings=[RingView(UNIVERSE, (OwnedBlock(lower, SELF), OwnedBlock(upper, OTHER)))],
        overlay=[Prefix.parse("10.32.0.1")],
    )


@contextlib.asynccontextmanager
async def running(
    node: Netns, root: Path, facts: Facts, *arguments: str
) -> AsyncIterator[tuple[RouterProcess, RouterAsyncStub]]:
    """A router with its neighbours, ready."""
    router = RouterProcess(node, root, arguments)
    router.prepare()
    async with serving(facts, router.run_dir):
        for name in ("gossip", "ipam"):
            (router.run_dir / name).chmod(0o755)
            (router.run_dir / name / "api.sock").chmod(0o666)
        router.start()
        try:
            async with router.stub() as stub:
                await router.ready(stub)
                yield router, stub
        finally:
            if router.process is not None and router.process.poll() is None:
                router.kill()


def key(container: str = "c1") -> types_pb2.AttachmentKey:
    return types_pb2.AttachmentKey(network="weave", container_id=container, interface="eth0")


def attachment(pod: Netns, address: str = "10.32.0.2", container: str = "c1") -> pb.Attachment:
    return pb.Attachment(
        key=key(container),
        addresses=[codec.write_prefix(Prefix.parse(address))],
        generation=7,
        netns_path=pod.path,
    )


async def attach(stub: RouterAsyncStub, wanted: pb.Attachment) -> pb.PrepareResponse:
    answer = await stub.Prepare(pb.PrepareRequest(attachment=wanted))
    await stub.Activate(pb.ActivateRequest(key=wanted.key, generation=wanted.generation))
    return answer


async def test_attaches_with_its_capabilities_only(
    node: Netns, pod: Netns, root: Path, facts: Facts
) -> None:
    async with running(node, root, facts) as (router, stub):
        answer = await attach(stub, attachment(pod))

        assert answer.mtu == 1450
        assert answer.host_interface.startswith("vethwepl")
        assert pod.ping("10.32.0.1")
        assert node.ping("10.32.0.2")
        assert pod.ping("10.99.0.2")
        assert "Our name is 02:00:00:00:00:01" in router.log
        assert router.stop() == 0


async def test_a_prepared_port_is_closed(node: Netns, pod: Netns, root: Path, facts: Facts) -> None:
    async with running(node, root, facts) as (_, stub):
        await stub.Prepare(pb.PrepareRequest(attachment=attachment(pod)))

        assert not pod.ping("10.32.0.1", count=1)
        assert not node.ping("10.32.0.2", count=1)

        await stub.Activate(pb.ActivateRequest(key=key(), generation=7))
        assert pod.ping("10.32.0.1")


async def test_one_call_makes_and_opens_a_port(
    node: Netns, pod: Netns, root: Path, facts: Facts
) -> None:
    async with running(node, root, facts) as (_, stub):
        request = pb.PrepareRequest(attachment=attachment(pod), activate=True)
        answer = await stub.Prepare(request)

        assert answer.activated
        assert pod.ping("10.32.0.1")
        assert node.ping("10.32.0.2")


async def test_activate_of_an_older_generation_is_aborted(
    node: Netns, pod: Netns, root: Path, facts: Facts
) -> None:
    async with running(node, root, facts) as (_, stub):
        await stub.Prepare(pb.PrepareRequest(attachment=attachment(pod)))

        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await stub.Activate(pb.ActivateRequest(key=key(), generation=6))

        assert caught.value.code() is grpc.StatusCode.ABORTED
        assert not pod.ping("10.32.0.1", count=1)


async def test_detach_is_idempotent(node: Netns, pod: Netns, root: Path, facts: Facts) -> None:
    async with running(node, root, facts) as (_, stub):
        await attach(stub, attachment(pod))

        first = await stub.Detach(pb.DetachRequest(key=key(), netns_path=pod.path))
        second = await stub.Detach(pb.DetachRequest(key=key()))

        assert (first.detached, second.detached) == (True, False)
        assert not pod.succeeds("ip", "link", "show", "eth0")
        assert "vethwepl" not in node.run("nft", "list", "set", "inet", "weave", "bindings4")


async def test_a_pod_inherits_no_connection_of_its_address(
    node: Netns, pod: Netns, root: Path, facts: Facts
) -> None:
    """With the process's own capabilities."""
    address, outside, us = map(Prefix.parse, ("10.32.0.2", "192.0.2.1", "10.99.0.1"))
    former = Connection(address, outside, outside, us)
    others = replace(former, source=Prefix.parse("10.32.0.3"), reply_destination=outside)
    seen = Tracking(node)
    async with running(node, root, facts) as (router, stub):
        await attach(stub, attachment(pod))
        for connection in (former, others):
            seen.track(connection)
        await stub.Detach(pb.DetachRequest(key=key()))
        await attach(stub, attachment(pod, container="c2"))

        assert seen.tracked() & {former, others} == {others}
        assert "connections" not in router.log


async def test_survives_a_crash_without_losing_a_packet(
    node: Netns, pod: Netns, root: Path, facts: Facts
) -> None:
    async with running(node, root, facts) as (router, stub):
        await attach(stub, attachment(pod))
        router.kill()
        shutil.rmtree(root / "state")
        router.prepare()
        router.start()
        started = time.monotonic()
        await router.ready(stub)
        duration = time.monotonic() - started

        listed = await stub.ListAttachments(pb.ListAttachmentsRequest())

        assert duration < 10
        own, item = listed.items
        assert own.attachment.key.container_id == NODE_CONTAINER_ID
        assert own.attachment.addresses == [codec.write_prefix(Prefix.parse("10.32.0.1"))]
        assert item.attachment.key == key()
        assert item.state == pb.ATTACHMENT_STATE_ACTIVE
        assert item.attachment.netns_path == pod.path
        assert pod.ping("10.32.0.1")
        check = await stub.Check(pb.CheckRequest(key=key()))
        assert list(check.differences) == []


async def test_reset_leaves_nothing(node: Netns, pod: Netns, root: Path, facts: Facts) -> None:
    def dump() -> list[str]:
        listings = [("link",), ("addr",), ("route", "show", "table", "all"), ("rule",)]
        listings.append(("neigh", "show", "nud", "permanent"))
        found = [node.run("ip", *words) for words in listings]
        found += [node.run("ip", "-6", *words) for words in listings[2:]]
        return [*found, node.run("nft", "list", "ruleset")]

    node.run("ping", "-c", "1", "10.99.0.2")
    before = dump()
    async with running(node, root, facts) as (_, stub):
        await attach(stub, attachment(pod))
        answer = await stub.Reset(pb.ResetRequest())

        assert list(answer.left) == ["net.ipv4.ip_forward=1"]
        status = await stub.GetStatus(pb.GetStatusRequest())
        assert not status.ready
    assert dump() == before


async def test_a_range_that_overlaps_a_route_of_the_host_ends_it(
    node: Netns, root: Path, facts: Facts
) -> None:
    node.run("ip", "route", "add", "10.40.0.0/16", "via", "10.99.0.2")
    router = RouterProcess(node, root)
    router.prepare()
    router.start()
    assert router.process is not None

    status = router.process.wait(20)

    assert status == 1
    assert "Network 10.32.0.0/12 overlaps with existing route 10.40.0.0/16 on host" in router.log


NODE_MUTATIONS = {
    "route to the pod": "ip route del 10.32.0.2",
    "route to a peer": "ip route del 10.40.0.0/13",
    "unreachable rest": "ip route del unreachable 10.32.0.0/12",
    "rule of an older release": "ip rule add iif vxlan-6784 lookup 6784 pref 6784 protocol 84",
    "overlay address": "ip addr del 10.32.0.1/32 dev vxlan-6784",
    "extra overlay address": "ip addr add 10.32.0.77/32 dev weave",
    "tunnel down": "ip link set vxlan-6784 down",
    "tunnel MTU": "ip link set vxlan-6784 mtu 1300",
    "tunnel gone": "ip link del vxlan-6784",
    "bridge gone": "ip link del weave",
    "host end down": "ip link set {link} down",
    "host end MTU": "ip link set {link} mtu 1300",
    "host end moved to a bridge": "ip link set {link} master weave",
    "group of the host end": "ip link set {link} group default",
    "group of the tunnel": "ip link set vxlan-6784 group default",
    "neighbour of the pod": "ip neigh del 10.32.0.2 dev {link}",
    "peer's neighbour": "ip neigh del 10.99.0.2 dev vxlan-6784",
    "forwarding entry": "bridge fdb del {mac} dev vxlan-6784 dst 10.99.0.2",
    "table": "nft delete table inet weave",
    "rules": "nft flush chain inet weave guard",
    "binding": "nft flush set inet weave bindings4",
    "forwarding switch": "sysctl -q net.ipv4.ip_forward=0",
    "forwarding of the host end": "sysctl -q net.ipv4.conf.{link}.forwarding=0",
    "forwarding of the tunnel": "sysctl -q net.ipv4.conf.vxlan-6784.forwarding=0",
    "filter of the tunnel": "sysctl -q net.ipv4.conf.vxlan-6784.rp_filter=1",
    "IPv6 of the tunnel": "sysctl -q net.ipv6.conf.vxlan-6784.disable_ipv6=1",
    "address for probes": "ip -6 addr flush dev vxlan-6784 scope link",
}
POD_MUTATIONS = {
    "pod end down": "ip link set eth0 down",
    "pod MTU": "ip link set eth0 mtu 1300",
    "pod address": "ip addr del 10.32.0.2/32 dev eth0",
    "extra pod address": "ip addr add 10.32.0.78/32 dev eth0",
    "default route": "ip route del default",
    "wrong gateway": "ip route replace default via 10.32.0.2",
    "gateway's neighbour": "ip neigh del 169.254.1.1 dev eth0",
    "pod end gone": "ip link del eth0",
}


async def until(condition: Callable[[], bool]) -> None:
    """Waits for what another process does in its own time; the caller sets the limit."""
    while not condition():  # noqa: ASYNC110 - it has no event to offer
        await asyncio.sleep(0.02)


async def repaired(stub: RouterAsyncStub, before: int) -> pb.GetStatusResponse:
    """Waits until something was repaired; returns the status then."""
    async with asyncio.timeout(2):
        while True:
            status = await stub.GetStatus(pb.GetStatusRequest())
            if status.repairs > before:
                return status
            await asyncio.sleep(0.02)


async def test_a_host_that_filters_routes_back_does_not_filter_the_tunnel(
    node: Netns, root: Path, facts: Facts
) -> None:
    """The kernel tells of it, so it takes no full look."""

    def tunnel_filter() -> str:
        return node.run("sysctl", "-n", "net.ipv4.conf.vxlan-6784.rp_filter").strip()

    async with running(node, root, facts):
        assert tunnel_filter() == "0"
        node.run("sysctl", "-q", "net.ipv4.conf.all.rp_filter=1")
        async with asyncio.timeout(2):
            await until(lambda: tunnel_filter() == "2")
        node.run("sysctl", "-q", "net.ipv4.conf.all.rp_filter=0")
        async with asyncio.timeout(2):
            await until(lambda: tunnel_filter() == "0")


async def test_every_mutation_is_repaired_within_two_seconds(
    node: Netns, pod: Netns, root: Path, facts: Facts
) -> None:
    """And the router says what it repaired; the pod can be reached each time."""
    async with running(node, root, facts) as (router, stub):
        link = (await attach(stub, attachment(pod))).host_interface
        mac = naming.tunnel_mac(OTHER).hex(":")
        mutations = [(node, words) for words in NODE_MUTATIONS.values()]
        mutations += [(pod, words) for words in POD_MUTATIONS.values()]
        repairs = 0
        missed = []
        for space, words in mutations:
            await settled(stub)
            repairs = (await stub.GetStatus(pb.GetStatusRequest())).repairs
            command = words.format(link=link, mac=mac)
            space.run(*command.split())
            try:
                await repaired(stub, repairs)
                async with asyncio.timeout(2):
                    await until(lambda: pod.ping("10.32.0.1", count=1))
            except TimeoutError:
                missed.append(command)

        assert missed == []
        assert "repaired: route 10.40.0.0/13 was missing" in router.log


async def settled(stub: RouterAsyncStub) -> None:
    """Waits until nothing more is being repaired."""
    repairs = -1
    while (status := await stub.GetStatus(pb.GetStatusRequest())).repairs != repairs:
        repairs = status.repairs
        await asyncio.sleep(0.3)


async def test_observed_drift_is_told_and_left(
    node: Netns, pod: Netns, root: Path, facts: Facts
) -> None:
    async with running(node, root, facts, "--drift=observe") as (_, stub):
        await attach(stub, attachment(pod))
        node.run("ip", "route", "del", "10.40.0.0/13")
        pod.run("ip", "route", "del", "default")

        async with asyncio.timeout(3):
            while True:
                status = await stub.GetStatus(pb.GetStatusRequest())
                texts = [entry.what for entry in status.drift]
                if len(texts) >= 2:
                    break
                await asyncio.sleep(0.02)

        assert sorted(texts) == [
            "route 10.40.0.0/13 was missing",
            "weave/c1/eth0: route is missing instead of 0.0.0.0/0 via 169.254.1.1/32",
        ]
        assert status.repairs == 0
        assert "10.40.0.0/13" not in node.run("ip", "route")
        check = await stub.Check(pb.CheckRequest(key=key()))
        assert sorted(d.expected for d in check.differences) == [
            "0.0.0.0/0 via 169.254.1.1/32",
            "route 10.40.0.0/13",
        ]
        # A change of the facts is still carried out.
        await stub.Activate(pb.ActivateRequest(key=key(), generation=7))


async def test_a_sandbox_that_ended_is_let_go(node: Netns, root: Path, facts: Facts) -> None:
    async with running(node, root, facts) as (_, stub):
        with netns("short-lived") as pod:
            link = (await attach(stub, attachment(pod))).host_interface

        async with asyncio.timeout(5):
            await until(lambda: not node.succeeds("ip", "link", "show", link))

        listed = await stub.ListAttachments(pb.ListAttachmentsRequest())
        own, item = listed.items
        assert own.sandbox_exists
        assert not item.sandbox_exists
        assert item.state == pb.ATTACHMENT_STATE_BROKEN
        gone = await stub.Detach(pb.DetachRequest(key=key()))
        assert gone.detached


async def test_a_changed_underlay_mtu_is_followed(
    node: Netns, pod: Netns, root: Path, facts: Facts
) -> None:
    async with running(node, root, facts) as (_, stub):
        node.run("ip", "link", "set", "eth0", "mtu", "1400")

        async with asyncio.timeout(2):
            await until(lambda: "mtu 1350" in node.run("ip", "link", "show", "vxlan-6784"))
        answer = await attach(stub, attachment(pod))
        assert answer.mtu == 1350


async def test_a_foreign_chain_that_begins_to_drop_is_passed_within_two_seconds(
    node: Netns, pod: Netns, root: Path, facts: Facts
) -> None:
    def has_our_rule() -> bool:
        return "weave-net" in node.run("nft", "list", "table", "ip", "docker")

    async with running(node, root, facts) as (_, stub):
        await attach(stub, attachment(pod))
        chain = "type filter hook forward priority 0; policy drop;"
        node.run("nft", f"table ip docker {{ chain FORWARD {{ {chain} }} ; }}")
        async with asyncio.timeout(2):
            await until(has_our_rule)
        assert pod.ping("10.99.0.2")

        node.run("nft", "flush", "chain", "ip", "docker", "FORWARD")
        async with asyncio.timeout(2):
            await until(has_our_rule)

        node.run("nft", "chain", "ip", "docker", "FORWARD", "{ policy accept; }")
        async with asyncio.timeout(2):
            await until(lambda: not has_our_rule())


async def test_a_restart_while_ipam_and_gossip_are_away_keeps_everything(
    node: Netns, pod: Netns, root: Path, facts: Facts
) -> None:
    async with running(node, root, facts) as (router, stub):
        await attach(stub, attachment(pod))
        before = node.run("ip", "route", "show", "table", "all")
        router.kill()

    # The stand-ins have ended with the block above.
    router.start()
    try:
        async with router.stub() as stub:
            await router.ready(stub)
            assert node.run("ip", "route", "show", "table", "all") == before
            assert pod.ping("10.32.0.1")
            with netns("late") as late:
                await attach(stub, attachment(late, "10.32.0.3", "c2"))
                assert late.ping("10.32.0.2")
    finally:
        router.kill()
