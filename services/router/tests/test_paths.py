"""Probes, what they say of a path, and the choice of paths: on a clock of its own."""

from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.router.tests.tunnels_played import MTU, Network, names, target
from weave.router.v1 import documents_pb2
from weave_model.errors import Invalid
from weave_model.prefix import Family, Prefix
from weave_model.ring import OwnedBlock, RingView
from weave_router import codec
from weave_router.core import naming, path_choice
from weave_router.core.inputs import Path, PathKind, Peer
from weave_router.core.liveness import State
from weave_router.core.path_adoption import adopt
from weave_router.core.path_choice import MAX_EXCEPTIONS, Direct, Reach
from weave_router.core.path_mtu import PathMtu
from weave_router.core.prober import RATE, Prober, Verdict
from weave_router.core.state import Route

A, B, C, D = names(4)
SEEDS = range(5)
UP = Verdict(State.UP, 0.001, MTU, MTU)
DOWN = Verdict(State.DOWN, 0.0, 0, MTU)
EVERYBODY = {A, B, C, D}


_TOO_NARROW = codec.write_reach(Reach({B: 67})).SerializeToString()
_TOO_MANY = codec.write_reach(Reach(dict.fromkeys(names(257), 0))).SerializeToString()
_NO_PEER = documents_pb2.Paths(
    exceptions=[documents_pb2.Paths.Exception(peer=b"12345")]
).SerializeToString()


def settled(network: Network) -> bool:
    return all(
        path == Path(PathKind.VXLAN)
        for node in network.nodes.values()
        for path in node.paths.values()
    )


@pytest.mark.parametrize("seed", SEEDS)
def test_two_nodes_cut_off_use_a_relay_within_ten_seconds_and_no_longer_than_needed(
    seed: int,
) -> None:
    network = Network(3, seed)
    network.run(60)
    assert settled(network)

    network.cut_between(A, C)
    network.run(10)
    assert network.kinds(A) == {B: PathKind.VXLAN, C: PathKind.RELAY}
    assert network.delivers(A, C)
    assert network.delivers(C, A)

    network.cut.clear()
    network.run(30)
    assert settled(network)


@pytest.mark.parametrize("seed", SEEDS)
def test_a_one_way_cut_is_relayed_in_both_directions(seed: int) -> None:
    network = Network(3, seed)
    network.run(60)
    network.cut.add((A, C))
    network.run(10)

    assert network.delivers(A, C)
    assert network.delivers(C, A)


def test_a_relay_that_fails_is_replaced_by_another() -> None:
    network = Network(4, 1)
    network.run(60)
    network.cut_between(A, C)
    network.run(10)
    first = network.nodes[A].paths[C].via
    assert first is not None

    network.cut_between(first, C)
    network.run(10)

    assert network.nodes[A].paths[C].via not in (None, first)
    assert network.delivers(A, C)


def test_nobody_relays_to_a_node_that_is_gone() -> None:
    network = Network(4, 1)
    network.run(60)
    network.present.discard(D)
    network.run(30)

    assert {node.paths.get(D, Path()).kind for n, node in network.nodes.items() if n != D} == {
        PathKind.VXLAN
    }
    # Nor does its death change what anybody publishes.
    assert all(network.nodes[name].published == Reach() for name in (A, B, C))


def test_random_loss_does_not_change_paths() -> None:
    network = Network(3, 3, loss=0.05)
    network.run(60)
    for node in network.nodes.values():
        node.changes.clear()
    network.run(3600)

    assert [node.changes for node in network.nodes.values()] == [[], [], []]


def test_a_flapping_path_is_not_followed_every_time() -> None:
    network = Network(3, 4)
    network.run(60)
    network.nodes[A].changes.clear()
    for _ in range(20):
        network.cut_between(A, C)
        network.run(7)
        network.cut.clear()
        network.run(7)

    assert len(network.nodes[A].changes) < 20


@pytest.mark.parametrize(("count", "limit"), [(3, 1.5), (40, 1.4 * RATE), (200, 1.4 * RATE)])
def test_the_rate_of_probes_is_bounded_for_the_node(count: int, limit: float) -> None:
    network = Network(2, 5)
    node = network.nodes[A]
    targets = {name: target() for name in names(count) if name != A}
    network.nodes |= dict.fromkeys(targets, network.nodes[B])
    network.present |= targets.keys()
    node.prober.follow(targets, network.now)
    network.run(300)
    before, bytes_before = node.sent, node.sent_bytes
    network.run(600)

    assert (node.sent - before) / 600 <= limit
    # Full ones are seldom.
    assert (node.sent_bytes - bytes_before) / 600 <= 10_000


# MTU


@pytest.mark.parametrize("limit", [1280, 1281, 1300, 1399, 1449])
@pytest.mark.parametrize("seed", SEEDS)
def test_a_hole_is_found_to_the_byte_within_a_minute_and_left_when_it_closes(
    limit: int, seed: int
) -> None:
    network = Network(2, seed)
    network.run(60)
    assert network.nodes[A].paths == {B: Path(PathKind.VXLAN)}

    network.limits[A, B] = limit
    network.run(60)
    assert network.nodes[A].paths == {B: Path(PathKind.VXLAN, mtu=limit)}
    assert network.nodes[A].published == Reach({B: limit})

    network.limits.clear()
    network.run(70)
    assert network.nodes[A].paths == {B: Path(PathKind.VXLAN)}
    assert network.nodes[A].published == Reach()


def test_a_hole_that_grows_smaller_is_noticed_too() -> None:
    network = Network(2, 6)
    network.limits[A, B] = 1300
    network.run(60)
    network.limits[A, B] = 1400
    network.run(1200)

    assert network.nodes[A].paths == {B: Path(PathKind.VXLAN, mtu=1400)}


def test_a_tunnel_too_narrow_for_the_overlay_is_relayed() -> None:
    network = Network(3, 7)
    network.run(60)
    network.limits[A, B] = 1279
    network.run(60)

    assert network.nodes[A].prober.verdicts()[B].too_small
    assert network.kinds(A)[B] is PathKind.RELAY

    network.limits.clear()
    network.run(60)
    assert settled(network)


def test_a_relayed_path_is_as_narrow_as_its_narrower_part() -> None:
    verdicts = {B: Verdict(State.UP, 0.001, 1400, MTU), C: DOWN}
    reaches = {B: Reach({C: 1350})}

    assert path_choice.choose(A, verdicts, reaches, EVERYBODY, {})[C] == Path(
        PathKind.RELAY, via=B, mtu=1350
    )


@given(st.integers(0, 2**32), st.integers(1280, 1450), st.floats(0, 0.2))
def test_the_search_never_settles_above_what_passes(seed: int, limit: int, loss: float) -> None:
    rng = random.Random(seed)
    path, now = PathMtu(rng, 1280, 1450, 0.0), 0.0
    for _ in range(400):
        now = max(now, path.next_at)
        size = path.poll(now, 2.0)
        if size and size <= limit and rng.random() >= loss:
            path.answered(size, now + 0.001, 2.0)
        assert path.mtu <= limit
        assert path.next_at >= now or size == 0
    assert path.mtu or path.too_small


# The choice


def test_a_node_without_document_is_no_relay() -> None:
    assert path_choice.choose(A, {B: UP, C: DOWN}, {}, EVERYBODY, {})[C] == Path()


@pytest.mark.parametrize("reach", [Reach({C: 0}), Reach(complete=False)])
def test_a_node_that_does_not_reach_the_target_is_no_relay(reach: Reach) -> None:
    assert path_choice.choose(A, {B: UP, C: DOWN}, {B: reach}, EVERYBODY, {})[C] == Path()


def test_a_relay_in_use_is_kept_and_the_widest_is_taken_first() -> None:
    verdicts = {B: UP, C: DOWN, D: UP}
    reaches = {B: Reach({C: 1400}), D: Reach()}
    chosen = path_choice.choose(A, verdicts, reaches, EVERYBODY, {})
    assert chosen[C] == Path(PathKind.RELAY, via=D)

    kept = path_choice.choose(A, verdicts, reaches, EVERYBODY, {C: Path(PathKind.RELAY, via=B)})
    assert kept[C] == Path(PathKind.RELAY, via=B, mtu=1400)


def test_pairs_share_the_relays() -> None:
    relays = names(12)[4:]
    verdicts = dict.fromkeys(relays, UP)
    reaches = dict.fromkeys(relays, Reach())
    targets = names(60)[12:]
    verdicts |= dict.fromkeys(targets, DOWN)
    chosen = path_choice.choose(A, verdicts, reaches, {*targets, *relays}, {})
    again = path_choice.choose(A, verdicts, reaches, {*targets, *relays}, {})

    assert chosen == again
    assert len({chosen[target].via for target in targets}) >= len(relays) // 2


def test_what_is_not_known_yet_stands() -> None:
    before = {C: Path(PathKind.RELAY, via=B, mtu=1400)}
    verdicts = {B: Verdict(), C: Verdict()}

    assert path_choice.choose(A, verdicts, {}, EVERYBODY, before) == before | {B: Path()}
    assert path_choice.own_reach(verdicts, EVERYBODY) is None


def test_a_node_cut_off_from_many_says_so_in_a_bounded_document() -> None:
    peers = names(MAX_EXCEPTIONS + 2)[1:]
    reach = path_choice.own_reach(dict.fromkeys(peers, DOWN), set(peers))

    assert reach is not None
    assert len(reach.exceptions) == MAX_EXCEPTIONS
    assert not reach.complete


# A restart


def test_paths_found_in_the_kernel_are_taken_over() -> None:
    universe = Prefix.parse("10.32.0.0/14")
    blocks = [quarter for half in universe.halves() for quarter in half.halves()]
    ring = RingView(universe, tuple(map(OwnedBlock, blocks, (A, B, C, D))))
    peers = [Peer(n, (Prefix.parse(f"10.99.0.{i}"),)) for i, n in enumerate((A, B, C, D), 1)]
    by_b, by_d = peers[1].underlay[0], naming.tunnel_link_local(D)
    found = [
        Route(blocks[1], link="vxlan-6784", gateway=by_b, onlink=True),
        Route(blocks[2], link="vxlan-6784", gateway=by_b, onlink=True, mtu=1400),
        Route(blocks[3], link="vxlan-6784", gateway=by_d, onlink=True, mtu=1300),
        Route(Prefix.parse("10.36.0.0/16"), link="vxlan-6784", gateway=by_b),
    ]

    assert adopt(A, found, peers, {Family.IPV4: ring}) == {
        B: Path(PathKind.VXLAN),
        C: Path(PathKind.RELAY, via=B, mtu=1400),
        D: Path(PathKind.VXLAN, mtu=1300),
    }


def test_a_narrow_path_stays_narrow_until_it_is_measured_anew() -> None:
    before = {B: Path(PathKind.VXLAN, mtu=1350), C: Path(PathKind.RELAY, via=B, mtu=1300)}
    unmeasured = {B: Verdict(State.UP, 0.001, 0, MTU), C: DOWN}
    reaches = {B: Reach()}
    assert path_choice.choose(A, unmeasured, reaches, EVERYBODY, before) == before

    measured = {B: UP, C: DOWN}
    assert path_choice.choose(A, measured, reaches, EVERYBODY, before) == {
        B: Path(PathKind.VXLAN),
        C: Path(PathKind.RELAY, via=B),
    }


@pytest.mark.parametrize("message", [_TOO_NARROW, _TOO_MANY, _NO_PEER, b"\xff"])
def test_a_document_that_says_nonsense_is_refused(message: bytes) -> None:
    with pytest.raises(Invalid):
        codec.read_reach(message)


def test_documents_are_read_as_they_are_written() -> None:
    for reach in (Reach(), Reach({B: 0, C: 1400}), Reach({B: 0}, complete=False)):
        assert codec.read_reach(codec.write_reach(reach).SerializeToString()) == reach


def test_answers_to_unknown_and_old_probes_change_nothing() -> None:
    prober = Prober(random.Random(1))
    prober.follow({B: target()}, 0.0)
    (probe, *_) = [p for at in (0.0, 0.1) for p in prober.due(at)]
    prober.answered(probe.token ^ 1, 0.2)
    assert prober.verdicts()[B].state is State.UNKNOWN

    prober.follow({}, 0.3)
    prober.answered(probe.token, 0.4)
    assert prober.verdicts() == {}


# Without a tunnel


def test_a_direct_way_is_used_while_its_probes_pass_and_however_the_tunnel_is() -> None:
    for tunnel in (UP, DOWN):
        for verdict, expected in (
            (UP, Path(PathKind.DIRECT, link="eth0")),
            (Verdict(State.UP, 0.001, 1400, MTU), Path(PathKind.DIRECT, link="eth0", mtu=1400)),
            (DOWN, Path()),
            (Verdict(), Path()),
        ):
            direct = {B: Direct("eth0", verdict)}
            chosen = path_choice.choose(A, {B: tunnel}, {}, EVERYBODY, {}, direct)
            assert chosen[B] == expected


def test_a_direct_way_found_at_the_start_stands_until_more_is_known() -> None:
    before = {B: Path(PathKind.DIRECT, link="eth0")}
    unknown = {B: Direct("eth0", Verdict())}

    assert path_choice.choose(A, {B: UP}, {}, EVERYBODY, before, unknown)[B].link == "eth0"
    # Not allowed any more.
    assert path_choice.choose(A, {B: UP}, {}, EVERYBODY, before) == {B: Path()}
