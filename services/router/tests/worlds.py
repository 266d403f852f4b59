"""Rings, peers and found states for tests: small ones by hand, any by hypothesis."""

from __future__ import annotations

from hypothesis import strategies as st

from weave_model.peer import PeerName
from weave_model.prefix import Family, Prefix
from weave_model.ring import OwnedBlock, RingView
from weave_router.core.inputs import Inputs, Options, Path, PathKind, Peer
from weave_router.core.ports import Port

NAMES = [PeerName(b"\x02\0\0\0\0" + bytes([number])) for number in range(1, 6)]
SELF = NAMES[0]
V4 = Prefix.parse("10.32.0.0/12")
V6 = Prefix.parse("fd00:32::/48")


@st.composite
def rings(draw: st.DrawFn, universe: Prefix) -> RingView:
    """Any division of a universe among peers and nobody, by halving."""
    blocks: list[OwnedBlock] = []

    def divide(prefix: Prefix, depth: int) -> None:
        if depth < 4 and draw(st.booleans()):
            for half in prefix.halves():
                divide(half, depth + 1)
            return
        owner = draw(st.sampled_from([None, *NAMES]))
        if owner is not None:
            blocks.append(OwnedBlock(prefix, owner))

    divide(universe, 0)
    return RingView(universe, tuple(blocks))


@st.composite
def peers(draw: st.DrawFn) -> tuple[Peer, ...]:
    """Some of the peers, with underlay addresses of one family or both."""
    known = draw(st.lists(st.sampled_from(range(len(NAMES))), unique=True))
    result = []
    for number in known:
        both = [Prefix.parse(f"10.99.0.{number + 1}"), Prefix.parse(f"fd99::{number + 1}")]
        result.append(Peer(NAMES[number], tuple(draw(st.permutations(both))[: draw(_COUNT)])))
    return tuple(result)


_COUNT = st.integers(min_value=1, max_value=2)


@st.composite
def ports(draw: st.DrawFn) -> tuple[Port, ...]:
    """Some pods of this node."""
    numbers = draw(st.lists(st.integers(min_value=2, max_value=40), unique=True, max_size=4))
    return tuple(
        Port(
            link=f"vethwepl{number:07d}",
            alias=f"weave/c{number}/eth0",
            mac=b"\x0a\x20\x0a\x20\0" + bytes([number]),
            addresses=(
                Prefix.host(Family.IPV4, V4.address + number),
                Prefix.host(Family.IPV6, V6.address + number),
            ),
            mtu=1450,
            open=draw(st.booleans()),
        )
        for number in numbers
    )


@st.composite
def paths(draw: st.DrawFn) -> dict[PeerName, Path]:
    """Any choice of paths."""
    kinds = st.sampled_from(PathKind)
    others = st.sampled_from(NAMES[1:])
    return {
        name: Path(draw(kinds), via=draw(others), link="eth0", mtu=draw(st.sampled_from([0, 1300])))
        for name in draw(st.lists(others, unique=True))
    }


@st.composite
def inputs(draw: st.DrawFn) -> Inputs:
    """Anything a node may know."""
    underlay = [Prefix.parse("10.99.0.1"), Prefix.parse("fd99::1")]
    options = Options(
        SELF,
        tuple(underlay[: draw(_COUNT)]),
        1450,
        (V4, V6),
        exposed=draw(st.booleans()),
        no_masq_local=draw(st.booleans()),
    )
    known_rings = {V4.family: draw(rings(V4)), V6.family: draw(rings(V6))}
    overlay = (Prefix.host(Family.IPV4, V4.address + 1), Prefix.host(Family.IPV6, V6.address + 1))
    return Inputs(
        options=options,
        overlay=draw(st.sampled_from([overlay, overlay[:1], None])),
        rings=draw(st.sampled_from([known_rings, None])),
        peers=draw(st.one_of(peers(), st.none())),
        ports=draw(ports()),
        paths=draw(paths()),
    )
