"""CIDR algebra, held against the standard library and against plain sets of addresses."""

import ipaddress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from weave_model.prefix import (
    Family,
    Prefix,
    address_from_bytes,
    coalesce,
    cover,
    format_address,
    parse_address,
    subtract,
)

SMALL_BITS = 6


@st.composite
def prefixes(draw: st.DrawFn) -> Prefix:
    """Prefixes inside a universe of 64 addresses, so that sets of addresses stay small."""
    family = draw(st.sampled_from(Family))
    length = draw(st.integers(family.bits - SMALL_BITS, family.bits))
    size = 1 << (family.bits - length)
    return Prefix(family, draw(st.integers(0, (1 << SMALL_BITS) // size - 1)) * size, length)


def addresses(blocks: list[Prefix]) -> set[tuple[Family, int]]:
    return {
        (block.family, address) for block in blocks for address in range(block.address, block.end)
    }


def test_parses_what_it_prints() -> None:
    for text in ("10.32.0.0/12", "0.0.0.0/0", "fd00::/64", "::/0", "10.32.0.1/32"):
        assert str(Prefix.parse(text)) == text


@pytest.mark.parametrize(
    "text", ["10.32.0.1/12", "10.32.0.0/33", "pods", "", "fd00::1/64", "10.32.0.0/-1"]
)
def test_refuses_what_is_no_network_and_names_it(text: str) -> None:
    with pytest.raises(ValueError, match=text.split("/", maxsplit=1)[0] or "''"):
        Prefix.parse(text)


@pytest.mark.parametrize(
    ("address", "length"), [(1, 31), (1 << 32, 32), (-1, 32), (0, 33), (0, -1)]
)
def test_is_canonical_or_not_at_all(address: int, length: int) -> None:
    with pytest.raises(ValueError, match=r"."):
        Prefix(Family.IPV4, address, length)


@given(prefixes(), prefixes())
def test_contains_and_overlaps_agree_with_sets(one: Prefix, other: Prefix) -> None:
    ones, others = addresses([one]), addresses([other])

    assert one.contains(other) == (others <= ones)
    assert one.overlaps(other) == bool(ones & others)


@given(prefixes())
def test_halves_parent_and_buddy_fit_together(prefix: Prefix) -> None:
    parent = prefix.parent()

    assert set(parent.halves()) == {prefix, prefix.buddy()}
    assert prefix.buddy().buddy() == prefix
    assert parent.contains(prefix)


@given(st.lists(prefixes(), max_size=12))
def test_coalesce_keeps_the_addresses_and_is_minimal(blocks: list[Prefix]) -> None:
    merged = coalesce(blocks)

    assert addresses(merged) == addresses(blocks)
    assert merged == sorted(merged)
    assert not any(one.overlaps(other) for one in merged for other in merged if one != other)
    assert not any(block.length and block.buddy() in merged for block in merged)


@given(st.lists(prefixes(), max_size=10), st.lists(prefixes(), max_size=10))
def test_subtract_agrees_with_sets(blocks: list[Prefix], removed: list[Prefix]) -> None:
    rest = subtract(blocks, removed)

    assert addresses(rest) == addresses(blocks) - addresses(removed)
    assert rest == coalesce(rest)


@given(st.integers(0, 300), st.integers(0, 300))
def test_cover_agrees_with_the_standard_library(one: int, other: int) -> None:
    start, end = sorted((one, other))

    expected = (
        [
            str(network)
            for network in ipaddress.summarize_address_range(
                ipaddress.IPv4Address(start), ipaddress.IPv4Address(end - 1)
            )
        ]
        if start < end
        else []
    )
    assert [str(block) for block in cover(Family.IPV4, start, end)] == expected


def test_covers_a_whole_family() -> None:
    assert [str(block) for block in cover(Family.IPV6, 0, 1 << 128)] == ["::/0"]


def test_a_single_address_has_no_halves_and_a_family_no_parent() -> None:
    with pytest.raises(ValueError, match=r"10\.0\.0\.1/32"):
        Prefix.parse("10.0.0.1/32").halves()
    with pytest.raises(ValueError, match="::/0"):
        Prefix.parse("::/0").parent()
    with pytest.raises(ValueError, match="::/0"):
        Prefix.parse("::/0").buddy()


@given(st.ip_addresses())
def test_addresses_survive_the_wire_and_text(
    address: ipaddress.IPv4Address | ipaddress.IPv6Address,
) -> None:
    family, number = address_from_bytes(address.packed)

    assert (family, number) == parse_address(str(address))
    assert format_address(family, number) == str(address)
    assert Prefix.host(family, number).to_bytes() == address.packed
    assert Prefix.from_bytes(address.packed, family.bits).is_host


def test_refuses_an_address_of_another_size() -> None:
    with pytest.raises(ValueError, match="not 5"):
        address_from_bytes(b"12345")
    with pytest.raises(ValueError, match="no IP address"):
        parse_address("10.32.0")
